/* test_beams.c - beam search through the engine's one door, against transformers' generate() (make_beams.py): the same
 * text, its score, and how it ended. */
#include "base/mem.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* after setjmp.h and stdarg.h, which it needs */
#include "run/listen.h"
#include "vectors.h"

enum { EOS = 2, IDS = 128 };
static const double TOLERANCE = 1e-4;

static void load(const char *path) {
    const struct heard *h =
        ask(&(struct engine_req){ .kind = ENGINE_REQ_LOAD, .model = path, .dtype = "fp32", .kv_cache_dtype = "fp32" });
    if (h->fail.code) fail_msg("%s", h->fail.text);
}
static struct engine_req request(char *options) {
    double v[6];
    for (int i = 0; i < 6; i++) v[i] = strtod(options, &options);
    return (struct engine_req){ .beams = { (int)v[0], (float)v[1], v[2] != 0 },
                                .max_new_tokens = (int)v[3],
                                .min_new_tokens = (int)v[4],
                                .sampling = { .repetition_penalty = (float)v[5] } };
}
static bool same(struct line *l) {
    int prompt[IDS], id[IDS];
    char *shown = mem_string(l->field[1]);
    struct engine_req q = request(l->field[1]);
    unquote(l->field[2]);
    unquote(l->field[6]);
    const int prompt_n = (int)parse_ids(l->field[3], prompt, IDS), n = (int)parse_ids(l->field[4], id, IDS);
    const double score = strtod(l->field[5], NULL);
    const bool ended = id[n - 1] == EOS;
    const struct heard *h = generate(l->field[2], q);
    const struct engine_done *d = &h->done;
    const bool equal = !h->fail.code && !strcmp(h->text, l->field[6]) && fabs(d->beam_score - score) <= TOLERANCE &&
                       d->prompt_tokens == prompt_n && d->stop == (ended ? ENGINE_STOP_EOS : ENGINE_STOP_LENGTH) &&
                       d->new_tokens == n;
    if (!equal)
        print_message(
            "%s, %s, '%s' (%d tokens)\n  reference: %d tokens%s, score %.6f '%s'\n  here:      %d tokens, %s, "
            "score %.6f '%s' %s\n",
            l->field[0], shown, l->field[2], prompt_n, n, ended ? ", ended" : "", score, l->field[6], d->new_tokens,
            engine_stop_text(d->stop), d->beam_score, h->text, h->fail.text);
    mem_free(shown);
    return equal;
}
/* form: of a model's path. Models that have no such form are left out. */
static void search_all(const char *form, int least) {
    struct line l = { .f = fopen("tests/golden/beams.txt", "r") };
    struct err e = { 0 };
    char path[96], loaded[96] = "";
    int n = 0, wrong = 0;
    assert_non_null(l.f);
    if (engine_open(&g, "local:", &e)) fail_msg("%s", e.text);
    while (line_next(&l)) {
        assert_int_equal(l.fields, FIELDS);
        snprintf(path, sizeof path, !strcmp(form, "gguf") ? "tests/golden/%s.gguf" : "tests/golden/folders/%s",
                 l.field[0]);
        if (access(path, R_OK)) continue;
        if (strcmp(path, loaded) != 0) load(path);
        snprintf(loaded, sizeof loaded, "%s", path);
        wrong += !same(&l);
        n++;
    }
    fclose(l.f);
    engine_close(g);
    print_message("%s: %d searches, %d with another result\n", form, n, wrong);
    assert_true(n >= least);
    assert_int_equal(wrong, 0);
}
static void finds_what_the_reference_finds(void **state) {
    (void)state;
    search_all("folder", 150);
}
static void finds_the_same_in_gguf_files(void **state) {
    (void)state;
    search_all("gguf", 120);
}
int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(finds_what_the_reference_finds),
                                        cmocka_unit_test(finds_the_same_in_gguf_files) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
