#include "variables.h"
#include "base/mem.h"
#include <string.h>

static struct variable *find(const struct variables *vars, const char *name) {
    for (int i = 0; i < vars->n; i++)
        if (!strcmp(vars->v[i].name, name)) return &vars->v[i];
    return NULL;
}
int variables_set(struct variables *vars, const char *name, struct literal *value, struct err *e) {
    struct variable *v = find(vars, name);
    char *copy = NULL;
    if (!v) {
        if (vars->n == vars->cap) {
            const int cap = vars->cap ? vars->cap * 2 : 16;
            struct variable *grown = mem_grow(vars->v, (size_t)cap, sizeof *grown);
            if (!grown) goto nomem;
            vars->v = grown;
            vars->cap = cap;
        }
        if (!(copy = mem_string(name))) goto nomem;
        v = &vars->v[vars->n++];
        *v = (struct variable){ .name = copy };
    }
    literal_fini(&v->value);
    v->value = *value;
    *value = (struct literal){ 0 };
    return 0;
nomem:
    literal_fini(value);
    return err_set(e, STATUS_NOMEM, "out of memory for the variable %s", name);
}
int variables_set_text(struct variables *vars, const char *name, const char *text, size_t n, struct err *e) {
    struct literal v;
    const int rc = literal_string(&v, text, n, e);
    return rc ? rc : variables_set(vars, name, &v, e);
}
const struct literal *variables_get(const struct variables *vars, const char *name) {
    const struct variable *v = vars ? find(vars, name) : NULL;
    return v ? &v->value : NULL;
}
bool variables_drop(struct variables *vars, const char *name) {
    struct variable *v = find(vars, name);
    if (!v) return false;
    mem_free(v->name);
    literal_fini(&v->value);
    const size_t after = (size_t)(vars->v + vars->n - v - 1);
    memmove(v, v + 1, after * sizeof *v);
    vars->n--;
    return true;
}
void variables_fini(struct variables *vars) {
    for (int i = 0; i < vars->n; i++) {
        mem_free(vars->v[i].name);
        literal_fini(&vars->v[i].value);
    }
    mem_free(vars->v);
    *vars = (struct variables){ 0 };
}
int variables_copy(struct variables *out, const struct variables *vars, struct err *e) {
    *out = (struct variables){ 0 };
    for (int i = 0; i < vars->n; i++) {
        const struct literal *from = &vars->v[i].value;
        struct literal to = { from->kind, mem_string(from->text), mem_string(from->repr) };
        if (!to.text || !to.repr) literal_fini(&to), err_set(e, STATUS_NOMEM, "out of memory for variables");
        if (!to.text || variables_set(out, vars->v[i].name, &to, e)) {
            variables_fini(out);
            return STATUS_NOMEM;
        }
    }
    return 0;
}
