#include "gpu.h"
#include "kernel/present/format.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* A card leaves out what it cannot measure: that is said, and is no zero. */
static const char none[] = "not supported";
static const char *told(const char *text) { return *text ? text : none; }

/* "1,410 of 1,980 MHz" */
static void of(char out[128], double v, double most, const char *unit) {
    char n[32], limit[32];
    format_number(n, v);
    format_number(limit, most);
    if (isnan(v) && isnan(most))
        snprintf(out, 128, "%s", none);
    else if (isnan(most))
        snprintf(out, 128, "%s %s", n, unit);
    else
        snprintf(out, 128, "%s of %s %s", n, limit, unit);
}
static void bytes(char out[32], double v) {
    if (isnan(v))
        snprintf(out, 32, "%s", none);
    else
        format_bytes(out, v);
}
static void memory(char out[128], const struct engine_gpu *g) {
    char used[32], left[32], all[32];
    bytes(used, g->used_bytes);
    bytes(left, g->free_bytes);
    bytes(all, g->memory_bytes);
    if (isnan(g->memory_bytes))
        snprintf(out, 128, "%s", none);
    else
        snprintf(out, 128, "%s used, %s free of %s", used, left, all);
}
static void busy(char out[128], const struct engine_gpu *g) {
    if (isnan(g->busy_percent))
        snprintf(out, 128, "%s", none);
    else
        snprintf(out, 128, "computes %.0f %% of the time, moves memory %.0f %%", g->busy_percent,
                 g->memory_busy_percent);
}
static void errors(char out[128], const struct engine_gpu *g) {
    if (isnan(g->ecc_errors))
        snprintf(out, 128, "%s", none);
    else
        snprintf(out, 128, "%.0f", g->ecc_errors);
}
static void ecc(char out[128], const struct engine_gpu *g) {
    if (isnan(g->ecc_errors))
        snprintf(out, 128, "%s", told(g->ecc));
    else
        snprintf(out, 128, "%s, %.0f uncorrected error%s since the driver was loaded", told(g->ecc), g->ecc_errors,
                 g->ecc_errors == 1 ? "" : "s");
}
/* Those that hold the card's memory; others: without the engine's own. "none", or "python3 (pid 7) 1.10 GiB, 3 more". */
static void processes(char out[400], const struct engine_gpu *g, bool others) {
    const int known = g->processes < ENGINE_GPU_PROCESSES ? g->processes : ENGINE_GPU_PROCESSES;
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < known && n < 300; i++) {
        const struct engine_gpu_process *p = &g->process[i];
        char used[32];
        bytes(used, p->used_bytes);
        if (p->own && others) continue;
        n += (size_t)snprintf(out + n, 400 - n, "%s%s (pid %d%s) %s", n ? ", " : "", *p->name ? p->name : "?", p->pid,
                              p->own ? ", the engine" : "", isnan(p->used_bytes) ? "" : used);
        if (isnan(p->used_bytes)) out[--n] = 0; /* the blank before what is not told */
    }
    if (g->processes > known) snprintf(out + n, 400 - n, "%s%d more", n ? ", " : "", g->processes - known);
    if (!*out) snprintf(out, 400, "%s", g->processes < 0 ? none : "none");
}
static void row(struct table *t, const char *name, const char *value) {
    table_cell(t, "%s", name);
    table_cell(t, "%s", value);
}
void gpu_table(struct doc *d, int i, const struct engine_gpu *g) {
    struct table t;
    char title[32], text[128], held[400], driver[64];
    snprintf(title, sizeof title, "GPU %d", i);
    table_init(&t, NULL);
    table_column(&t, title, TABLE_LEFT);
    table_column(&t, "value", TABLE_LEFT);
    row(&t, "name", told(g->name));
    row(&t, "PCI", told(g->pci));
    snprintf(driver, sizeof driver, "%s%s%s", told(g->driver), *g->cuda ? ", CUDA " : "", g->cuda);
    row(&t, "driver", driver);
    memory(text, g), row(&t, "memory", text);
    busy(text, g), row(&t, "utilisation", text);
    of(text, g->sm_mhz, g->sm_max_mhz, "MHz"), row(&t, "SM clock", text);
    of(text, g->memory_mhz, g->memory_max_mhz, "MHz"), row(&t, "memory clock", text);
    of(text, g->power_w, g->power_limit_w, "W"), row(&t, "power", text);
    of(text, g->celsius, NAN, "°C"), row(&t, "temperature", text);
    row(&t, "throttled by", told(g->throttle));
    ecc(text, g), row(&t, "ECC", text);
    of(text, g->energy_j * 1e-3, NAN, "kJ since the driver was loaded"), row(&t, "energy", text);
    processes(held, g, false), row(&t, "processes", held);
    if (*g->peers) row(&t, "peer access", g->peers);
    doc_table(d, &t);
    table_fini(&t);
}
void gpu_line(char out[640], const struct engine_gpu *g) {
    char held[128], clock[128], power[128];
    memory(held, g);
    of(clock, g->sm_mhz, g->sm_max_mhz, "MHz");
    of(power, g->power_w, g->power_limit_w, "W");
    snprintf(out, 640, "%.60s, PCI %s, driver %s, CUDA %s; memory: %s; SM clock: %s; power: %s", told(g->name),
             told(g->pci), told(g->driver), told(g->cuda), held, clock, power);
}

/* ---- of a profile ---- */
static bool throttled(const struct engine_gpu *g) { return *g->throttle && strncmp(g->throttle, "nothing", 7) != 0; }
static void warnings(struct doc *d, const struct engine_profile *p) {
    char held[400];
    const double errors = p->after.ecc_errors - p->before.ecc_errors;
    processes(held, &p->after, true);
    if (throttled(&p->before) || throttled(&p->after))
        doc_line(d, "! the card was held down by %s: another time it may be faster",
                 throttled(&p->after) ? p->after.throttle : p->before.throttle);
    if (errors > 0) doc_line(d, "! %.0f uncorrected memory errors during the runs: do not trust this card", errors);
    if (strcmp(held, none) != 0 && strcmp(held, "none") != 0)
        doc_line(d, "! others are on this card, the rates may be too low: %s", held);
}
static void energy(struct doc *d, const struct engine_profile *p) {
    char prefill[32], read[32], written[32];
    const double *j = p->energy_j;
    if (p->vision && isfinite(j[ENGINE_VISION])) {
        format_number(read, j[ENGINE_VISION] > 0 ? j[ENGINE_VISION] : NAN);
        doc_line(d, "energy: %s J a picture, by the card's counter", read);
    }
    if (p->vision_only) return;
    if (!isfinite(j[ENGINE_PREFILL]) || !isfinite(j[ENGINE_DECODE])) {
        doc_line(d, "energy: this card does not count it");
        return;
    }
    /* A counter that stood still says that the runs were short, not that they were free. */
    format_number(prefill, j[ENGINE_PREFILL] > 0 ? j[ENGINE_PREFILL] : NAN);
    format_number(read, j[ENGINE_PREFILL] > 0 ? j[ENGINE_PREFILL] / p->prompt_tokens / p->batch_size : NAN);
    format_number(written, j[ENGINE_DECODE] > 0 ? j[ENGINE_DECODE] / p->batch_size : NAN);
    doc_line(d,
             "energy: %s J a prefill (%s J a token), %s J a token of decode, by the card's counter, which moves in "
             "steps: short runs tell little",
             prefill, read, written);
}
void gpu_conditions(struct doc *d, const struct engine_profile *p) {
    if (!p->gpu) return;
    const struct engine_gpu *const at[] = { &p->before, &p->after };
    if (!*p->before.pci || !*p->after.pci) {
        doc_line(d,
                 "! the driver's library (NVML) does not tell of this card: clocks, power and temperature are unknown");
        return;
    }
    struct table t;
    char caption[200], text[128], held[400];
    snprintf(caption, sizeof caption, "conditions: %.80s, PCI %s, driver %s, CUDA %s", told(at[0]->name), at[0]->pci,
             told(at[0]->driver), told(at[0]->cuda));
    table_init(&t, caption);
    table_column(&t, "", TABLE_LEFT);
    table_column(&t, "before the runs", TABLE_LEFT);
    table_column(&t, "after", TABLE_LEFT);
#define BOTH(name, fill, value)                                                                                        \
    table_cell(&t, name);                                                                                              \
    for (int i = 0; i < 2; i++) fill, table_cell(&t, "%s", value)
    BOTH("SM clock", of(text, at[i]->sm_mhz, at[i]->sm_max_mhz, "MHz"), text);
    BOTH("memory clock", of(text, at[i]->memory_mhz, at[i]->memory_max_mhz, "MHz"), text);
    BOTH("temperature", of(text, at[i]->celsius, NAN, "°C"), text);
    BOTH("power", of(text, at[i]->power_w, at[i]->power_limit_w, "W"), text);
    BOTH("throttled by", (void)0, told(at[i]->throttle));
    BOTH("ECC", (void)0, told(at[i]->ecc));
    BOTH("uncorrected errors", errors(text, at[i]), text);
    BOTH("memory used", bytes(text, at[i]->used_bytes), text);
    BOTH("other processes", processes(held, at[i], true), held);
#undef BOTH
    doc_table(d, &t);
    table_fini(&t);
    warnings(d, p);
    energy(d, p);
}
