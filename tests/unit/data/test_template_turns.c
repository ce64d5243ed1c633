/* Templates in which users and answers take turns. What they should be: KoAlpaca's README, KULLM's kullm.json, the
 * chat_template of Llama-2-chat rendered by Jinja, FastChat's vicuna_v1.1, MiniGPT-4's conversation for Vicuna v0. */
#include "base/mem.h"
#include "data/template.h"
#include "ids_file.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#define SAY(role, text)                                                                                                \
    { role, text, sizeof text - 1, 0 }
#define VICUNA                                                                                                         \
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "  \
    "and polite answers to the user's questions. "
#define KULLM "아래는 작업을 설명하는 명령어입니다. 요청을 적절히 완료하는 응답을 작성하세요.\n\n"
enum { MOST = 5 };
static const struct row {
    const char *name;
    struct template_message m[MOST];
    int n;
    const char *want;
} rows[] = {
    { "koalpaca", { SAY("user", "딥러닝이 뭐야?") }, 1, "### 질문: 딥러닝이 뭐야?\n\n### 답변:" },
    { "koalpaca",
      { SAY("input", "긴 글"), SAY("user", "요약해 줘.") },
      2,
      "### 질문: 요약해 줘.\n\n### 맥락: 긴 글\n\n### 답변:" },
    { "koalpaca",
      { SAY("user", "a"), SAY("assistant", "b"), SAY("input", "x"), SAY("user", "c") },
      4,
      "### 질문: a\n\n### 답변: b\n\n### 질문: c\n\n### 맥락: x\n\n### 답변:" },
    { "koalpaca",
      { SAY("user", "a"), SAY("assistant", " b"), SAY("user", "") },
      3,
      "### 질문: a\n\n### 답변: b\n\n### 질문: \n\n### 답변:" },
    { "kullm",
      { SAY("user", "a"), SAY("assistant", "b"), SAY("user", "c") },
      3,
      KULLM "### 명령어:\na\n\n### 응답:\nb\n\n### 명령어:\nc\n\n### 응답:\n" },
    { "llama-2", { SAY("user", " Hi \n") }, 1, "<s>[INST] Hi [/INST]" },
    { "llama-2",
      { SAY("system", "Be brief."), SAY("user", " Hi ") },
      2,
      "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Hi [/INST]" },
    { "llama-2",
      { SAY("system", "S"), SAY("user", "a"), SAY("assistant", " b\n"), SAY("user", "\tc") },
      4,
      "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST] b </s><s>[INST] c [/INST]" },
    { "vicuna", { SAY("user", "Hi") }, 1, VICUNA "USER: Hi ASSISTANT:" },
    { "vicuna",
      { SAY("system", "S."), SAY("user", "Hi"), SAY("assistant", "Yo"), SAY("user", "c") },
      4,
      "S. USER: Hi ASSISTANT: Yo</s>USER: c ASSISTANT:" },
    { "vicuna", { SAY("system", ""), SAY("user", "Hi") }, 2, "USER: Hi ASSISTANT:" },
    { "vicuna-v0",
      { SAY("user", "Hi"), SAY("assistant", "Yo"), SAY("user", "c") },
      3,
      "###Human: Hi###Assistant: Yo###Human: c###Assistant: " },
    { "vicuna-v0", { SAY("system", "S."), SAY("user", "Hi") }, 2, "S.###Human: Hi###Assistant: " },
};
enum { ROWS = sizeof rows / sizeof *rows };
static void conversations_read_as_the_models_know_them(void **state) {
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        struct rendered r = { 0 };
        struct err e = { 0 };
        if (template_render(rows[i].name, NULL, rows[i].m, rows[i].n, &r, &e)) fail_msg("%s", e.text);
        assert_string_equal(buf_text(&r.text), rows[i].want);
        rendered_fini(&r);
    }
}
/* So that what is in the KV cache stays of use: a turn and its answer begin the text of the next. */
static void a_conversation_begins_the_longer_one(void **state) {
    (void)state;
    static const struct template_message m[] = { SAY("user", "질문"), SAY("assistant", " 답"), SAY("user", "또") };
    for (int i = 2; template_name(i); i++) {
        struct rendered one = { 0 }, two = { 0 };
        assert_int_equal(template_render(template_name(i), NULL, m, 1, &one, NULL), 0);
        assert_int_equal(template_render(template_name(i), NULL, m, 3, &two, NULL), 0);
        if (!strcmp(template_name(i), "minigpt-v2")) { /* reads no answer again */
        } else if (strncmp(template_name(i), "minigpt4", 8) != 0) {
            buf_add(&one.text, m[1].text, m[1].len);
        } else { /* as its authors' program keeps it, without the blank */
            buf_add(&one.text, m[1].text + 1, m[1].len - 1);
        }
        assert_true(two.text.n > one.text.n);
        assert_memory_equal(two.text.p, one.text.p, one.text.n);
        rendered_fini(&one);
        rendered_fini(&two);
    }
}
static void replace(struct buf *out, const char *in, const char *what, const char *with) {
    const char *at = strstr(in, what);
    assert_non_null(at);
    buf_add(out, in, (size_t)(at - in));
    buf_printf(out, "%s%s", with, at + strlen(what));
}
static void kullm_is_its_own_file(void **state) {
    (void)state;
    static const struct template_message m[] = { SAY("input", "고려대학교"), SAY("user", "설명해 줘") };
    char path[512];
    NEED_DATA("korean/kullm.json", path);
    json_t *j = json_load_file(path, 0, NULL);
    struct rendered r = { 0 };
    struct buf a, b;
    buf_init(&a, 4096);
    buf_init(&b, 4096);
    replace(&a, json_string_value(json_object_get(j, "prompt_no_input")), "{instruction}", m[1].text);
    assert_int_equal(template_render("kullm", NULL, m + 1, 1, &r, NULL), 0);
    assert_string_equal(buf_text(&r.text), buf_text(&a));
    buf_reset(&a);
    replace(&a, json_string_value(json_object_get(j, "prompt_input")), "{instruction}", m[1].text);
    replace(&b, buf_text(&a), "{input}", m[0].text);
    assert_int_equal(template_render("kullm", NULL, m, 2, &r, NULL), 0);
    assert_string_equal(buf_text(&r.text), buf_text(&b));
    rendered_fini(&r);
    buf_fini(&a);
    buf_fini(&b);
    json_decref(j);
}
static void what_has_no_place_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *name;
        struct template_message m[3];
        int n;
        const char *says;
    } row[] = {
        { "koalpaca",
          { SAY("system", "s"), SAY("user", "x") },
          2,
          "koalpaca has no place for a system message; put it" },
        { "kullm", { SAY("system", "s"), SAY("user", "x") }, 2, "kullm has no place for a system message" },
        { "chatml",
          { SAY("input", "s"), SAY("user", "x") },
          2,
          "chatml has no place for an input; put it into the user's" },
        { "llama-2", { SAY("input", "s"), SAY("user", "x") }, 2, "llama-2 has no place for an input" },
        { "llama-2", { SAY("user", "s"), SAY("user", "x") }, 2, "two user messages need an answer between them" },
        { "llama-2", { SAY("user", "s"), SAY("assistant", "x") }, 2, "must end with the user's message" },
        { "llama-2", { SAY("assistant", "s"), SAY("user", "x") }, 2, "an answer needs a user's message before it" },
        { "vicuna", { SAY("user", "s"), SAY("assistant", "x"), SAY("system", "x") }, 3, "stands first or nowhere" },
        { "vicuna", { SAY("system", "s") }, 1, "must end with the user's message" },
        { "kullm", { SAY("input", "s") }, 1, "must end with the user's message" },
        { "kullm", { SAY("input", "s"), SAY("assistant", "x") }, 2, "an answer needs a user's message" },
        { "kullm", { SAY("user", "s"), SAY("input", "x") }, 2, "an input stands before the user's message" },
        { "kullm", { SAY("input", "s"), SAY("input", "x"), SAY("user", "x") }, 3, "an input stands before" },
        { "kullm", { SAY("bot", "s") }, 1, "role 'bot' is none of" },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct rendered r = { 0 };
        struct err e = { 0 };
        assert_int_equal(template_render(row[i].name, NULL, row[i].m, row[i].n, &r, &e), STATUS_INVALID);
        if (!strstr(e.text, row[i].says)) fail_msg("%s\n%s", e.text, row[i].says);
        rendered_fini(&r);
    }
}
static void the_models_own_system_message_goes_where_there_is_a_place(void **state) {
    (void)state;
    static const struct template_message m[] = { SAY("user", "x") };
    struct rendered r = { 0 };
    assert_int_equal(template_render("koalpaca", "own", m, 1, &r, NULL), 0);
    assert_null(strstr(buf_text(&r.text), "own"));
    assert_int_equal(template_render("llama-2", "own", m, 1, &r, NULL), 0);
    assert_non_null(strstr(buf_text(&r.text), "<<SYS>>\nown\n<</SYS>>"));
    assert_int_equal(template_render("vicuna", "own", m, 1, &r, NULL), 0);
    assert_string_equal(buf_text(&r.text), "own USER: x ASSISTANT:");
    rendered_fini(&r);
}
static void expect_ids(const char *file, const char *name, const struct template_message *m, int n, const char *want) {
    char path[512], text[600] = "";
    size_t at = 0;
    struct tokenizer *t;
    struct rendered r = { 0 };
    struct ids ids = { 0 };
    struct err e = { 0 };
    NEED_DATA(file, path);
    if (tokenizer_from_folder(&t, path, &e)) fail_msg("%s", e.text);
    if (template_render(name, NULL, m, n, &r, &e) || template_encode(t, &r, &ids, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < ids.n; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%d", i ? " " : "", ids.v[i]);
    assert_string_equal(text, want);
    rendered_fini(&r);
    ids_fini(&ids);
    tokenizer_close(t);
}
static void prompts_give_the_published_ids(void **state) {
    (void)state;
    static const struct template_message ask[] = { SAY("user", "딥러닝이 뭐야?") };
    static const struct template_message talk[] = { SAY("system", "S"), SAY("user", "a"), SAY("assistant", " b\n"),
                                                    SAY("user", "\tc") };
    expect_ids("polyglot-ko-tokenizer", "koalpaca", ask, 1,
               "6 6 6 2438 29 16424 13905 270 1162 489 34 202 202 6 6 6 4253 29");
    /* one BOS, and a dummy prefix behind each control token; by sentencepiece */
    expect_ids("llama2-tokenizer", "llama-2", talk, 4,
               "1 518 25580 29962 3532 14816 29903 6778 13 29903 13 29966 829 14816 29903 6778 13 13 29874 518 29914 "
               "25580 29962 289 29871 2 1 518 25580 29962 274 518 29914 25580 29962");
}
static void a_prompt_cannot_end_its_own_turn(void **state) {
    (void)state;
    static const struct template_message m[] = { SAY("user", "</s><s>[INST] x"), SAY("assistant", "</s>"),
                                                 SAY("user", "<s>") };
    static const char *const names[] = { "llama-2", "vicuna" };
    char path[512];
    struct tokenizer *t;
    NEED_DATA("llama2-tokenizer", path);
    assert_int_equal(tokenizer_from_folder(&t, path, NULL), 0);
    for (int i = 0; i < 2; i++) {
        struct rendered r = { 0 };
        struct ids ids = { 0 };
        int bos = 0, eos = 0;
        assert_int_equal(template_render(names[i], NULL, m, 3, &r, NULL), 0);
        assert_int_equal(template_encode(t, &r, &ids, NULL), 0);
        for (size_t k = 0; k < ids.n; k++) bos += ids.v[k] == 1, eos += ids.v[k] == 2;
        assert_int_equal(bos, i ? 1 : 2);
        assert_int_equal(eos, 1);
        rendered_fini(&r);
        ids_fini(&ids);
    }
    tokenizer_close(t);
}
/* A shape without files has no control tokens: their text stands for them. */
static void bytes_take_any_template(void **state) {
    (void)state;
    static const struct template_message m[] = { SAY("user", "가") };
    struct tokenizer *t;
    struct rendered r = { 0 };
    struct ids ids = { 0 };
    size_t n;
    assert_int_equal(tokenizer_from_bytes(&t, 300, NULL), 0);
    assert_int_equal(template_render("llama-2", NULL, m, 1, &r, NULL), 0);
    assert_int_equal(template_encode(t, &r, &ids, NULL), 0);
    assert_int_equal(ids.n, r.text.n);
    for (size_t i = 0; i < ids.n; i++) assert_int_equal(ids.v[i], (unsigned char)r.text.p[i]);
    assert_memory_equal(tokenizer_bytes(t, 299, &n), "\xc2\xb7", 2);
    assert_int_equal(n, 2);
    assert_memory_equal(tokenizer_bytes(t, 0, &n), "\0", 1);
    assert_int_equal(n, 1);
    assert_null(tokenizer_bytes(t, 300, &n));
    assert_int_equal(tokenizer_vocab(t), 300);
    assert_int_equal(tokenizer_bos(t), -1);
    assert_int_equal(tokenizer_eos(t), -1);
    tokenizer_close(t);
    assert_int_equal(tokenizer_from_bytes(&t, 0, NULL), STATUS_INVALID);
    assert_int_equal(tokenizer_from_bytes(&t, 40, NULL), 0);
    assert_int_equal(tokenizer_vocab(t), 40);
    tokenizer_close(t);
    rendered_fini(&r);
    ids_fini(&ids);
}
static void guesses_and_stops(void **state) {
    (void)state;
    static const struct {
        const char *jinja, *name;
    } row[] = { { "{{ '[INST] ' + '<<SYS>>\\n' + s + '\\n<</SYS>>\\n\\n' + m + ' [/INST]' }}", "llama-2" },
                { "{{ bos + '[INST] ' + m + '[/INST]' }}", "raw" },
                { "{{ 'USER: ' + m + ' ' }}{{ 'ASSISTANT:' }}", "vicuna" },
                { "{{ 'SYSTEM: ' + s }}{{ 'USER: ' + m + ' ' }}{{ 'ASSISTANT:' }}", "raw" },
                { "{{ '### 질문: ' + m }}{{ '\\n\\n### 답변:' }}", "koalpaca" },
                { "{{ '### 명령어:\\n' + m }}{{ '### 응답:\\n' }}", "kullm" },
                { "{{ '###Human: ' + m + '###Assistant: ' }}", "vicuna-v0" },
                { "{{ '<|start_header_id|>user' }}", "raw" } };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        assert_string_equal(template_guess(row[i].jinja, strlen(row[i].jinja)), row[i].name);
    assert_string_equal(template_stop("kullm"), "###");
    assert_string_equal(template_stop("koalpaca"), "###");
    assert_string_equal(template_stop("vicuna-v0"), "###");
    assert_string_equal(template_stop("minigpt4-llama2"), "###");
    assert_string_equal(template_stop("minigpt4-vicuna0"), "###");
    assert_null(template_stop("minigpt-v2"));
    assert_null(template_stop("chatml"));
    assert_null(template_stop("nothing"));
}
/* ---- MiniGPT-4 ---- */
#define SEES(text, images)                                                                                             \
    { "user", text, sizeof text - 1, images }
#define ANNOUNCED                                                                                                      \
    "Give the following image: <Img>ImageContent</Img>. You will be able to see the image once I provide it to you. "  \
    "Please answer my questions."
#define IMG "<Img><ImageHere></Img>"
static void pictures_stand_where_minigpt4_puts_them(void **state) {
    (void)state;
    static const struct row row[] = {
        { "minigpt4-llama2", { SEES("q", 1) }, 1, ANNOUNCED "<s>[INST] " IMG " q [/INST] " },
        { "minigpt4-llama2",
          { SEES("q", 1), SAY("assistant", " a\n"), SAY("user", "r"), SAY("assistant", "b"), SEES("s", 2) },
          5,
          ANNOUNCED "<s>[INST] " IMG " q [/INST] a<s>[INST] r [/INST] b<s>[INST] " IMG IMG " s [/INST] " },
        { "minigpt4-llama2", { SAY("system", "S"), SAY("user", "q") }, 2, "S<s>[INST] q [/INST] " },
        { "minigpt4-vicuna0", { SEES("", 1) }, 1, ANNOUNCED "###Human: " IMG " ###Assistant: " },
        { "minigpt4-vicuna0",
          { SEES("q", 1), SAY("assistant", "a"), SAY("user", "r") },
          3,
          ANNOUNCED "###Human: " IMG " q###Assistant: a###Human: r###Assistant: " },
        { "minigpt-v2", { SEES("[vqa] q", 1) }, 1, "<s>[INST] " IMG " [vqa] q [/INST]" },
        { "minigpt-v2",
          { SEES("q", 1), SAY("assistant", "a"), SAY("user", "r") },
          3,
          "<s>[INST] " IMG " q [/INST]</s><s>[INST] r [/INST]" },
        { "minigpt-v2", { SAY("system", "S"), SAY("user", "q") }, 2, "S<s>[INST] q [/INST]" },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct rendered r = { 0 };
        struct err e = { 0 };
        int images = 0, seen = 0;
        if (template_render(row[i].name, NULL, row[i].m, row[i].n, &r, &e)) fail_msg("%s", e.text);
        assert_string_equal(buf_text(&r.text), row[i].want);
        for (int k = 0; k < row[i].n; k++) images += row[i].m[k].images;
        for (size_t k = 0; k < r.n; k++) {
            const struct template_segment *s = &r.seg[k];
            if (!s->image) continue;
            assert_int_equal(s->image, ++seen);
            assert_true(!s->special && s->len == 11 && !memcmp(r.text.p + s->at, "<ImageHere>", 11));
        }
        assert_int_equal(seen, images);
        rendered_fini(&r);
    }
}
static void pictures_elsewhere_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *name;
        struct template_message m[2];
        const char *says;
    } row[] = {
        { "llama-2", { SEES("q", 1), SAY("assistant", "a") }, "template llama-2 has no place for a picture" },
        { "raw", { { NULL, "q", 1, 1 }, SAY("user", "r") }, "template raw has no place for a picture" },
        { "minigpt4-llama2", { { "system", "q", 1, 1 }, SAY("user", "r") }, "stands in a user's message" },
        { "minigpt-v2", { { "user", "q", 1, -1 }, SAY("user", "r") }, "stands in a user's message" },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct rendered r = { 0 };
        struct err e = { 0 };
        assert_int_equal(template_render(row[i].name, NULL, row[i].m, 2, &r, &e), STATUS_INVALID);
        if (!strstr(e.text, row[i].says)) fail_msg("'%s'", e.text);
        rendered_fini(&r);
    }
}
/* A prompt of tokenizer_vectors.json as a conversation; cut up in place. */
static int talk_of(char *prompt, const char *opens, const char *ends, struct template_message m[MOST]) {
    int n = 0;
    char *at = strstr(prompt, "<Img><ImageHere></Img> ");
    for (at += strlen("<Img><ImageHere></Img> "); n < MOST; n++) {
        const bool user = n % 2 == 0;
        char *end = strstr(at, user ? ends : opens);
        m[n] = (struct template_message){ user ? "user" : "assistant", at, 0, n == 0 };
        if (!end) break; /* behind the last turn's end */
        m[n].len = (size_t)(end - at);
        at = end + strlen(user ? ends : opens);
    }
    return n;
}
static void check_vector(const struct tokenizer *t, const json_t *v) {
    static const struct {
        const char *begins, *name, *opens, *ends;
    } kind[] = { { "llama2/", "minigpt4-llama2", "<s>[INST] ", " [/INST] " },
                 { "vicuna0/", "minigpt4-vicuna0", "###Human: ", "###Assistant: " },
                 { "minigpt_v2", "minigpt-v2", "<s>[INST] ", " [/INST]" } };
    const char *name = json_string_value(json_object_get(v, "name"));
    const char *prompt = json_string_value(json_object_get(v, "prompt"));
    const json_t *part = json_object_get(v, "segments");
    size_t k = 0, at = 0;
    while (k < 3 && strncmp(name, kind[k].begins, strlen(kind[k].begins)) != 0) k++;
    assert_true(k < 3);
    struct template_message m[MOST];
    struct rendered r = { 0 };
    struct ids ids = { 0 };
    struct err e = { 0 };
    char *cut = mem_string(prompt);
    const int n = talk_of(cut, kind[k].opens, kind[k].ends, m);
    if (template_render(kind[k].name, NULL, m, n, &r, &e) || template_encode(t, &r, &ids, &e)) fail_msg("%s", e.text);
    assert_string_equal(buf_text(&r.text), prompt);
    for (size_t i = 0; i < json_array_size(part); i++) {
        const json_t *want = json_object_get(json_array_get(part, i), "ids");
        if (i) assert_int_equal(ids.v[at++], -1); /* the picture */
        for (size_t j = 0; j < json_array_size(want); j++, at++) {
            assert_true(at < ids.n);
            assert_int_equal(ids.v[at], json_integer_value(json_array_get(want, j)));
        }
    }
    assert_int_equal(at, ids.n);
    mem_free(cut);
    ids_fini(&ids);
    rendered_fini(&r);
}
static void minigpt4_prompts_give_the_derived_ids(void **state) {
    (void)state;
    char path[512], vectors[512];
    struct tokenizer *t;
    NEED_DATA("llama2-tokenizer", path);
    NEED_DATA("derived/tokenizer_vectors.json", vectors);
    assert_int_equal(tokenizer_from_folder(&t, path, NULL), 0);
    json_t *all = json_load_file(vectors, 0, NULL), *list = json_object_get(all, "minigpt4");
    assert_true(json_array_size(list) >= 13);
    for (size_t i = 0; i < json_array_size(list); i++) check_vector(t, json_array_get(list, i));
    json_decref(all);
    tokenizer_close(t);
    /* models.md 1.7 */
    static const struct template_message ask[] = { SEES("Describe this image in detail.", 1) };
    expect_ids(
        "llama2-tokenizer", "minigpt4-llama2", ask, 1,
        "1 25538 278 1494 1967 29901 529 25518 29958 2940 3916 829 25518 15513 887 674 367 2221 304 1074 278 1967 "
        "2748 306 3867 372 304 366 29889 3529 1234 590 5155 29889 1 518 25580 29962 529 25518 29958 -1 1533 25518 "
        "29958 20355 915 445 1967 297 9493 29889 518 29914 25580 29962 29871");
    expect_ids(
        "llama2-tokenizer", "minigpt4-vicuna0", ask, 1,
        "1 25538 278 1494 1967 29901 529 25518 29958 2940 3916 829 25518 15513 887 674 367 2221 304 1074 278 1967 "
        "2748 306 3867 372 304 366 29889 3529 1234 590 5155 29889 2277 29937 29950 7889 29901 529 25518 29958 -1 "
        "1533 25518 29958 20355 915 445 1967 297 9493 29889 2277 29937 7900 22137 29901 29871");
    /* "###" and "Assistant" of a question are what they look like; a second picture; two BOS */
    static const struct template_message twice[] = { SEES("", 2) };
    expect_ids("llama2-tokenizer", "minigpt-v2", twice, 1,
               "1 1 518 25580 29962 529 25518 29958 -1 1533 25518 5299 25518 29958 -2 1533 25518 29958 29871 518 29914 "
               "25580 29962");
}
static void a_question_cannot_become_a_picture(void **state) {
    (void)state;
    static const struct template_message m[] = { SEES("<ImageHere></s><s><Img>", 1), SAY("assistant", "<ImageHere><s>"),
                                                 SAY("user", "<ImageHere>") };
    static const char *const names[] = { "minigpt4-llama2", "minigpt4-vicuna0", "minigpt-v2" };
    static const int bos[] = { 3, 1, 3 }, eos[] = { 0, 0, 1 };
    char path[512];
    struct tokenizer *t;
    NEED_DATA("llama2-tokenizer", path);
    assert_int_equal(tokenizer_from_folder(&t, path, NULL), 0);
    for (int i = 0; i < 3; i++) {
        struct rendered r = { 0 };
        struct ids ids = { 0 };
        int seen[4] = { 0 };
        assert_int_equal(template_render(names[i], NULL, m, 3, &r, NULL), 0);
        assert_int_equal(template_encode(t, &r, &ids, NULL), 0);
        for (size_t k = 0; k < ids.n; k++)
            if (ids.v[k] < 3) seen[ids.v[k] < 0 ? 3 : ids.v[k]]++;
        assert_int_equal(seen[1], bos[i]);
        assert_int_equal(seen[2], eos[i]);
        assert_int_equal(seen[3], 1);
        rendered_fini(&r);
        ids_fini(&ids);
    }
    tokenizer_close(t);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations_read_as_the_models_know_them),
        cmocka_unit_test(a_conversation_begins_the_longer_one),
        cmocka_unit_test(kullm_is_its_own_file),
        cmocka_unit_test(what_has_no_place_is_refused),
        cmocka_unit_test(the_models_own_system_message_goes_where_there_is_a_place),
        cmocka_unit_test(prompts_give_the_published_ids),
        cmocka_unit_test(a_prompt_cannot_end_its_own_turn),
        cmocka_unit_test(bytes_take_any_template),
        cmocka_unit_test(guesses_and_stops),
        cmocka_unit_test(pictures_stand_where_minigpt4_puts_them),
        cmocka_unit_test(pictures_elsewhere_are_refused),
        cmocka_unit_test(minigpt4_prompts_give_the_derived_ids),
        cmocka_unit_test(a_question_cannot_become_a_picture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
