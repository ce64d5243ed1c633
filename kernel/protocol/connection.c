#include "connection.h"
#include "wire.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

const char *channel_name(enum channel c) {
    static const char *const name[] = {
#define X(id, text) text,
        CHANNEL_MAP(X)
#undef X
    };
    return name[c];
}
/* Copies a text member; what is missing becomes otherwise (NULL: an error). */
static int text(const json_t *o, const char *name, const char *otherwise, char *out, size_t size, struct err *e) {
    const json_t *v = json_object_get(o, name);
    const char *s = v ? json_string_value(v) : otherwise;
    if (!s) return err_set(e, STATUS_INVALID, v ? "its %s is no text" : "it has no %s", name);
    if (strlen(s) >= size) return err_set(e, STATUS_INVALID, "its %s is longer than %zu bytes", name, size - 1);
    memcpy(out, s, strlen(s) + 1);
    return 0;
}
/* Ports are numbers, or texts of digits as JEP 106 allows. */
static int port(const json_t *o, enum channel channel, int *out, struct err *e) {
    char name[16];
    snprintf(name, sizeof name, "%s_port", channel_name(channel));
    const json_t *v = json_object_get(o, name);
    if (!v) return err_set(e, STATUS_INVALID, "it has no %s", name);
    char *end = "";
    const char *s = json_string_value(v);
    const long long n = s ? strtoll(s, &end, 10) : json_is_integer(v) ? json_integer_value(v) : 0;
    if (*end || n < 1 || n > 65535) return err_set(e, STATUS_INVALID, "its %s is no port (1..65535)", name);
    *out = (int)n;
    return 0;
}
static int members(struct connection *c, const json_t *o, struct err *e) {
    char transport[32];
    if (!json_is_object(o)) return err_set(e, STATUS_FORMAT, "it is no JSON object");
    if (json_object_get(o, "curve_publickey") || json_object_get(o, "curve_secretkey"))
        return err_set(e, STATUS_INVALID,
                       "it asks for CurveZMQ encryption, which this kernel does not speak: "
                       "start it with transport_encryption disabled");
    int rc = text(o, "transport", "tcp", transport, sizeof transport, e);
    if (!rc) c->ipc = !strcmp(transport, "ipc");
    if (!rc && !c->ipc && strcmp(transport, "tcp"))
        rc = err_set(e, STATUS_INVALID, "its transport '%s' is neither tcp nor ipc", transport);
    if (!rc) rc = text(o, "ip", c->ipc ? NULL : "127.0.0.1", c->ip, sizeof c->ip, e);
    if (!rc) rc = text(o, "key", "", c->key, sizeof c->key, e);
    if (!rc) rc = text(o, "signature_scheme", "hmac-sha256", c->scheme, sizeof c->scheme, e);
    for (int i = 0; !rc && i < CHANNELS; i++) rc = port(o, (enum channel)i, &c->port[i], e);
    return rc;
}
int connection_parse(struct connection *c, const char *json, size_t n, struct err *e) {
    *c = (struct connection){ 0 };
    json_t *o = wire_parse(json, n, e);
    if (!o) return STATUS_FORMAT;
    const int rc = members(c, o, e);
    json_decref(o);
    return rc;
}
int connection_load(struct connection *c, const char *path, struct err *e) {
    char bytes[65536];
    FILE *f = fopen(path, "rbe");
    if (!f) return err_set(e, STATUS_IO, "connection file %.200s: %s", path, strerror(errno));
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    const int failed = ferror(f) ? errno : 0;
    fclose(f);
    if (failed) return err_set(e, STATUS_IO, "connection file %.200s: %s", path, strerror(failed));
    struct err why = { 0 };
    if (n == sizeof bytes)
        err_set(&why, STATUS_FORMAT, "it is larger than any connection file");
    else
        connection_parse(c, bytes, n, &why);
    return why.code ? err_set(e, why.code, "connection file %.120s: %.190s", path, why.text) : 0;
}
int connection_endpoint(const struct connection *c, enum channel channel, char *out, size_t size, struct err *e) {
    const bool v6 = !c->ipc && strchr(c->ip, ':') && c->ip[0] != '[';
    const int n = c->ipc ? snprintf(out, size, "ipc://%s-%d", c->ip, c->port[channel])
                         : snprintf(out, size, v6 ? "tcp://[%s]:%d" : "tcp://%s:%d", c->ip, c->port[channel]);
    const size_t limit = sizeof((struct sockaddr_un *)0)->sun_path;
    if (c->ipc && strlen("ipc://") + limit <= (size_t)n)
        return err_set(e, STATUS_INVALID, "the socket path %.150s is longer than %zu bytes", out + strlen("ipc://"),
                       limit - 1);
    return n < (int)size ? 0 : err_set(e, STATUS_INVALID, "the address %.150s is too long", out);
}
void connection_remove_sockets(const struct connection *c) {
    char path[sizeof c->ip + 16];
    for (int i = 0; c->ipc && i < CHANNELS; i++) {
        snprintf(path, sizeof path, "%s-%d", c->ip, c->port[i]);
        unlink(path);
    }
}
