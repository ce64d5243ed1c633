/* %gpu %sysinfo %log: what computes here and what it said. */
#include "base/log.h"
#include "engine/engine.h"
#include "gpu.h"
#include "job.h"
#include "kernel/language/state.h"
#include "kernel/present/format.h"
#include "kernel/present/table.h"
#include "magics.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

static void fact(struct table *t, const char *name, const char *value) {
    if (!*value) return;
    table_cell(t, "%s", name);
    table_cell(t, "%s", value);
}
static void begin(struct table *t, const char *title) {
    table_init(t, NULL);
    table_column(t, title, TABLE_LEFT);
    table_column(t, "value", TABLE_LEFT);
    t->max_rows = 100;
}
static void peaks(struct table *t, const struct engine_system *s) {
    char n[32], bytes[32], half[32], text[160];
    if (s->stream_gbs > 0) {
        format_number(n, s->stream_gbs);
        snprintf(text, sizeof text, "%s GB/s, measured", n);
        fact(t, "memory bandwidth", text);
    }
    if (s->fp32_gflops > 0) {
        format_number(n, s->fp32_gflops);
        format_number(bytes, s->int8_gops);
        format_number(half, s->bf16_gflops);
        snprintf(text, sizeof text, "%s GFLOP/s fp32, %s%s%s GOP/s int8, measured", n, s->bf16_gflops > 0 ? half : "",
                 s->bf16_gflops > 0 ? " bf16, " : "", bytes);
        fact(t, "peak arithmetic", text);
    }
    if (s->stream_gbs <= 0) fact(t, "peaks", "not measured yet: %profile does");
}
static void compute_facts(struct table *t, const struct engine_system *s) {
    char text[96], free_bytes[32], total[32];
    fact(t, "computes on", s->backend);
    fact(t, "processor", s->cpu);
    fact(t, "instructions", s->isa);
    snprintf(text, sizeof text, "%d of %d processors", s->threads, s->processors);
    fact(t, "threads", text);
    format_bytes(free_bytes, (double)s->memory_available);
    format_bytes(total, (double)s->memory_total);
    snprintf(text, sizeof text, "%s free of %s", free_bytes, total);
    fact(t, "memory", text);
    peaks(t, s);
}
int magic_gpu(struct call *c) {
    struct models m;
    const int rc = models_ask(c->in, c->o, &(struct engine_req){ .kind = ENGINE_REQ_STATUS, .gpus = true }, &m, c->e);
    if (rc) return models_fini(&m), rc;
    struct doc d;
    doc_init(&d);
    doc_line(&d, "%s", m.system.gpu);
    for (int i = 0; i < m.system.cards; i++) gpu_table(&d, i, &m.system.card[i]);
    struct table t;
    begin(&t, "of this machine");
    compute_facts(&t, &m.system);
    doc_table(&d, &t);
    table_fini(&t);
    models_fini(&m);
    return show_doc(c->o, &d, c->e);
}

/* The value behind key= (or the whole first line, key NULL) of a small file, without quotes. */
static void read_value(const char *path, const char *key, char out[96]) {
    FILE *f = fopen(path, "re");
    char line[256];
    out[0] = 0;
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        const size_t n = key ? strlen(key) : 0;
        if (key && strncmp(line, key, n)) continue;
        const char *s = line + n + (line[n] == '"');
        snprintf(out, 96, "%.*s", (int)strcspn(s, "\""), s);
        break;
    }
    if (f) fclose(f);
}
static void system_facts(struct table *t) {
    char text[200], os[96], vendor[96], product[96];
    struct utsname u;
    read_value("/sys/devices/virtual/dmi/id/sys_vendor", NULL, vendor);
    read_value("/sys/devices/virtual/dmi/id/product_name", NULL, product);
    snprintf(text, sizeof text, "%s%s%s", vendor, *vendor && *product ? " " : "", product);
    fact(t, "machine", text);
    read_value("/etc/os-release", "PRETTY_NAME=", os);
    fact(t, "system", os);
    if (!uname(&u)) {
        snprintf(text, sizeof text, "%.60s %.80s (%.30s)", u.sysname, u.release, u.machine);
        fact(t, "system kernel", text);
    }
    const time_t now = time(NULL);
    struct tm tm;
    if (gmtime_r(&now, &tm) && strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &tm)) fact(t, "time", text);
}
static void gpu_facts(struct table *t, const struct engine_system *s) {
    char name[16], text[640];
    fact(t, "GPU", s->gpu);
    for (int i = 0; i < s->cards; i++) {
        snprintf(name, sizeof name, "GPU %d", i);
        gpu_line(text, &s->card[i]);
        fact(t, name, text);
    }
}
int magic_sysinfo(struct call *c) {
    struct models m;
    const int rc = models_ask(c->in, c->o, &(struct engine_req){ .kind = ENGINE_REQ_STATUS, .gpus = true }, &m, c->e);
    if (rc) return models_fini(&m), rc;
    struct table t;
    begin(&t, "of this run");
    char text[200], resident[32];
    snprintf(text, sizeof text, "Jaeda %s, engine %s, built by compiler %s", JAEDA_VERSION, m.system.version,
             __VERSION__);
    fact(&t, "versions", text);
    engine_where(&m.system, text);
    fact(&t, "engine", text);
    fact(&t, "engine's build", m.system.build);
    system_facts(&t);
    gpu_facts(&t, &m.system);
    compute_facts(&t, &m.system);
    format_bytes(resident, (double)m.system.resident);
    fact(&t, "the engine holds", resident);
    for (int i = 0; i < m.n; i++) {
        snprintf(text, sizeof text, "%s, weights %s, KV cache %s, %d tokens of context%s", m.row[i].name,
                 m.row[i].dtype, m.row[i].kv_dtype, m.row[i].max_model_len,
                 strcmp(m.row[i].format, "dummy") ? "" : ", random weights");
        fact(&t, "loaded model", text);
    }
    for (int i = 0; i < c->in->defaults.n; i++) {
        snprintf(text, sizeof text, "%s = %s", c->in->defaults.v[i].name, c->in->defaults.v[i].value.text);
        fact(&t, "default", text);
    }
    struct doc d;
    doc_init(&d);
    doc_table(&d, &t);
    table_fini(&t);
    models_fini(&m);
    return show_doc(c->o, &d, c->e);
}

int magic_log(struct call *c) {
    struct buf lines, clean;
    buf_init(&lines, 4 << 20);
    buf_init(&clean, 8 << 20);
    log_tail(&lines, args_int(&c->args, "lines"));
    format_redacted(&clean, buf_text(&lines), lines.n);
    if (!clean.n) buf_puts(&clean, "the log is empty\n");
    out_stream(c->o, OUT_STDOUT, buf_text(&clean), clean.n);
    buf_fini(&lines);
    buf_fini(&clean);
    return 0;
}
