#include "repeat.h"
#include <stdbool.h>
#include <string.h>

static void quote(struct buf *out, const char *s) {
    static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:+,@%-";
    if (*s && *s != '-' && *s != '%' && s[strspn(s, safe)] == 0) {
        buf_puts(out, s);
        return;
    }
    buf_puts(out, "\"");
    for (; *s; s++) {
        static const char from[] = "\n\t\r\"\\$", to[] = "ntr\"\\$";
        const char *at = strchr(from, *s);
        if (at) buf_puts(out, "\\");
        buf_add(out, at ? to + (at - from) : s, 1);
    }
    buf_puts(out, "\"");
}
void repeat_option(struct buf *out, const char *name, const char *word) {
    buf_printf(out, " --%s ", name);
    quote(out, word);
}

static const char *text_of(const json_t *o, const char *name) {
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "";
}
static double number_of(const json_t *o, const char *name) { return json_number_value(json_object_get(o, name)); }
static void number_option(struct buf *out, const char *name, const json_t *o, const char *key) {
    buf_printf(out, " --%s %.9g", name, number_of(o, key));
}
static void load_line(const json_t *run, struct buf *out) {
    static const char *const asked[] = { "fp32", "fp16", "bf16", "int8", "int4" }; /* others: as stored */
    const char *dtype = text_of(run, "dtype"), *kv = text_of(run, "kv_dtype"), *revision = text_of(run, "revision");
    const bool known = *text_of(run, "repo") || !*text_of(run, "file");
    buf_puts(out, "%load ");
    quote(out, known ? text_of(run, "model") : text_of(run, "file"));
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++)
        if (!strcmp(asked[i], dtype)) repeat_option(out, "dtype", dtype);
    if (*kv) repeat_option(out, "kv-cache-dtype", kv);
    if (number_of(run, "max_model_len") > 0) number_option(out, "max-model-len", run, "max_model_len");
    const json_t *options = json_object_get(run, "options");
    if (number_of(options, "batch_size") > 1) number_option(out, "max-sequences", options, "batch_size");
    static const char *const parts[] = { "vit", "qformer", "projector", "llm", "vision_dtype" };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (*text_of(options, parts[i])) repeat_option(out, parts[i], text_of(options, parts[i]));
    if (number_of(options, "max_images") > 0) number_option(out, "max-images", options, "max_images");
    if (known && *revision) repeat_option(out, "revision", revision);
    if (!strcmp(text_of(run, "format"), "dummy")) buf_puts(out, " --load-format dummy");
    buf_puts(out, "\n");
}
static void sampling_options(const json_t *o, struct buf *out) {
    if (number_of(o, "num_beams") > 1) {
        number_option(out, "num-beams", o, "num_beams");
        number_option(out, "length-penalty", o, "length_penalty");
        buf_puts(out, json_is_true(json_object_get(o, "early_stopping")) ? " --early-stopping" : "");
    } else if (number_of(o, "temperature") > 0) {
        number_option(out, "temperature", o, "temperature");
        number_option(out, "top-p", o, "top_p");
        number_option(out, "top-k", o, "top_k");
        number_option(out, "min-p", o, "min_p");
        number_option(out, "typical-p", o, "typical_p");
        buf_printf(out, " --seed %.17g", number_of(o, "seed"));
    } else {
        buf_puts(out, " --no-do-sample");
    }
    if (number_of(o, "repetition_penalty") != 1) number_option(out, "repetition-penalty", o, "repetition_penalty");
}
static void stop_options(const json_t *o, struct buf *out) {
    size_t i;
    json_t *v;
    json_array_foreach(json_object_get(o, "stop"), i, v) repeat_option(out, "stop", json_string_value(v));
    json_array_foreach(json_object_get(o, "stop_token_ids"), i, v)
        buf_printf(out, " --stop-token-ids %.0f", json_number_value(v));
}
/* The system message, the last question and what it was about; gives the question's text. */
static const json_t *message_options(const json_t *run, struct buf *out) {
    const json_t *last = NULL, *input = NULL;
    size_t i;
    json_t *m;
    json_array_foreach(json_object_get(run, "messages"), i, m) {
        const char *role = text_of(m, "role");
        if (!strcmp(role, "system")) repeat_option(out, "system", text_of(m, "text"));
        if (!strcmp(role, "input")) input = m;
        if (!*role || !strcmp(role, "user")) last = m;
    }
    if (input) repeat_option(out, "input", text_of(input, "text"));
    return json_object_get(last, "text");
}
static void body(const json_t *text, struct buf *out) {
    buf_puts(out, "\n");
    buf_add(out, json_string_value(text), json_string_length(text));
}
static void generate_line(const json_t *run, const char *kind, struct buf *out) {
    const json_t *o = json_object_get(run, "options");
    buf_puts(out, "%%");
    buf_puts(out, kind);
    if (!strcmp(kind, "chat")) buf_puts(out, " --reset");
    const json_t *first = json_array_get(json_object_get(run, "messages"), 0);
    const char *template = *text_of(first, "role") ? text_of(run, "template") : "raw";
    if (*template) repeat_option(out, "template", template);
    /* Chosen as the model's authors do it: nothing is said of it again. */
    const json_t *numbers = json_object_get(run, "numbers");
    const bool own =
        json_is_true(json_object_get(o, "own_sampling")) && json_is_false(json_object_get(numbers, "greedy"));
    if (number_of(o, "max_new_tokens") > 0) {
        number_option(out, "max-new-tokens", o, "max_new_tokens");
    } else if (!own) {
        buf_puts(out, " --max-new-tokens 128");
    }
    if (number_of(o, "min_new_tokens") > 0) number_option(out, "min-new-tokens", o, "min_new_tokens");
    if (json_is_true(json_object_get(o, "ignore_eos"))) buf_puts(out, " --ignore-eos");
    if (own) buf_printf(out, " --seed %.17g", number_of(o, "seed"));
    if (!own) sampling_options(o, out);
    stop_options(o, out);
    size_t i;
    json_t *image;
    json_array_foreach(json_object_get(o, "image"), i, image) repeat_option(out, "image", json_string_value(image));
    body(message_options(run, out), out);
}
static void profile_lines(const json_t *run, struct buf *out) {
    const json_t *o = json_object_get(run, "options");
    const json_t *message = json_array_get(json_object_get(run, "messages"), 0);
    buf_puts(out, message ? "%%profile" : "%profile");
    if (*text_of(o, "stage")) {
        repeat_option(out, "stage", text_of(o, "stage"));
        number_option(out, "runs", o, "runs");
        return;
    }
    if (!message) number_option(out, "prompt-tokens", run, "prompt_tokens"); /* as it was cut to the context */
    number_option(out, "max-new-tokens", o, "max_new_tokens");
    number_option(out, "runs", o, "runs");
    if (number_of(o, "batch_size") > 1) number_option(out, "batch-size", o, "batch_size");
    if (message) body(json_object_get(message, "text"), out);
}
void repeat_text(const json_t *run, struct buf *out) {
    const char *kind = text_of(run, "kind");
    const size_t said = json_array_size(json_object_get(run, "messages"));
    if (!strcmp(kind, "chat") && said > 2)
        buf_printf(out, "# this was message %zu of a conversation: those before it are asked first\n", said);
    load_line(run, out);
    if (!strcmp(kind, "profile")) {
        profile_lines(run, out);
    } else {
        generate_line(run, kind, out);
    }
}
