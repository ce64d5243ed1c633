#include "base/mem.h"
#include "data/checkpoint.h"
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "folder_build.h"
#include "gguf_build.h"
#include "safetensors_build.h"
#include <cmocka.h>

static const char config[] =
    "{ \"architectures\": [\"GPTNeoXForCausalLM\"], \"hidden_size\": 4, \"intermediate_size\": 16, \"vocab_size\": 3,"
    " \"max_position_embeddings\": 8, \"num_attention_heads\": 2, \"num_hidden_layers\": 1, \"rotary_pct\": 1.0,"
    " \"eos_token_id\": 0 }";
#define EMBED "\"gpt_neox.embed_in.weight\":{\"dtype\":\"F16\",\"shape\":[3,4],\"data_offsets\":[0,24]}"
#define OTHER "\"b.weight\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}"
#define JUNK "\"attention.bias\":{\"dtype\":\"BOOL\",\"shape\":[1,1,2,2],\"data_offsets\":[24,28]}"
#define ONE "model-00001-of-00002.safetensors"
#define TWO "model-00002-of-00002.safetensors"
#define INDEX "model.safetensors.index.json"

static void put_tensors(const char *name, const char *header, size_t data) {
    struct buf b;
    st_file(&b, header, data);
    folder_bytes(name, b.p, b.n);
    buf_fini(&b);
}
static void put_sharded(const char *folder, const char *map) {
    char name[300];
    snprintf(name, sizeof name, "%s/config.json", folder);
    folder_text(name, config);
    snprintf(name, sizeof name, "%s/" ONE, folder);
    put_tensors(name, "{" EMBED "," JUNK "}", 28);
    snprintf(name, sizeof name, "%s/" TWO, folder);
    put_tensors(name, "{" OTHER "}", 4);
    snprintf(name, sizeof name, "%s/" INDEX, folder);
    folder_text(name, map);
}
#define MAP(embed, other)                                                                                              \
    "{ \"metadata\": { \"total_size\": 32 }, \"weight_map\": { \"gpt_neox.embed_in.weight\": \"" embed                 \
    "\", \"b.weight\": \"" other "\" } }"

static void opens(struct checkpoint **c, const char *path) {
    struct err e = { 0 };
    if (checkpoint_open(c, path, &e)) fail_msg("%s: %s", path, e.text);
}
static void fails(const char *path, int code, const char *says) {
    struct checkpoint *c;
    struct err e = { 0 };
    const int rc = checkpoint_open(&c, path, &e);
    if (rc != code || !strstr(e.text, says)) fail_msg("%s: rc %d, '%s'", path, rc, e.text);
    assert_null(c);
}
static int descriptors(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}
static void a_single_file_opens(void **state) {
    (void)state;
    folder_text("single/config.json", config);
    put_tensors("single/model.safetensors", "{" EMBED "," JUNK "}", 28);
    folder_text("single/" INDEX, "not even read");
    const char *paths[] = { folder_at("single"), folder_at("single/model.safetensors") };
    for (int i = 0; i < 2; i++) {
        struct checkpoint *c;
        opens(&c, paths[i]);
        assert_int_equal(checkpoint_kind(c), CHECKPOINT_HF);
        assert_string_equal(checkpoint_path(c), paths[i]);
        assert_null(checkpoint_gguf(c));
        assert_int_equal(checkpoint_files(c), 1);
        assert_int_equal(checkpoint_tensors(c), 2);
        const struct tensor *t = checkpoint_tensor(c, "gpt_neox.embed_in.weight"),
                            *junk = checkpoint_tensor(c, "attention.bias");
        assert_true(t->dt == DTYPE_F16 && t->dim[0] == 4 && t->dim[1] == 3 && t->dim[2] == 1 && t->bytes == 24);
        assert_true(!dtype_info(junk->dt) && !strcmp(junk->dt_name, "BOOL"));
        assert_null(checkpoint_tensor(c, "absent"));
        char bytes[3];
        assert_int_equal(pread(checkpoint_file(c, t->file)->fd, bytes, 3, (off_t)t->offset), 3);
        assert_memory_equal(bytes, "www", 3);
        assert_null(checkpoint_file(c, 1));
        struct model_config m;
        struct err e = { 0 };
        if (checkpoint_config(c, &m, &e)) fail_msg("%s", e.text);
        assert_int_equal(m.vocab, 3);
        checkpoint_close(c);
    }
}
static void shards_open_by_their_index(void **state) {
    (void)state;
    put_sharded("sharded", MAP(ONE, TWO));
    put_tensors("sharded/model-00003-of-00002.safetensors", "{broken", 0); /* not in the index */
    folder_text("sharded/generation_config.json", "{ \"eos_token_id\": 2 }");
    struct checkpoint *c;
    struct err e = { 0 };
    opens(&c, folder_at("sharded"));
    assert_int_equal(checkpoint_files(c), 2);
    assert_int_equal(checkpoint_tensors(c), 3);
    const struct tensor *t = checkpoint_tensor(c, "b.weight");
    assert_non_null(strstr(checkpoint_file(c, t->file)->path, "/" TWO));
    assert_int_equal(checkpoint_bytes(c), 8 + strlen("{" EMBED "," JUNK "}") + 28 + 8 + strlen("{" OTHER "}") + 4);
    struct model_config m;
    if (checkpoint_config(c, &m, &e)) fail_msg("%s", e.text);
    assert_true(m.eos_n == 2 && m.eos[0] == 0 && m.eos[1] == 2);
    checkpoint_close(c);
    fails(folder_at("sharded/" ONE), STATUS_INVALID, "is one shard of several");
    folder_text("sharded/generation_config.json", "{ \"eos_token_id\": ");
    opens(&c, folder_at("sharded"));
    assert_int_equal(checkpoint_config(c, &m, &e), STATUS_FORMAT);
    assert_non_null(strstr(e.text, "generation_config.json: is no valid JSON"));
    checkpoint_close(c);
}
static void each_wrong_index_is_named(void **state) {
    (void)state;
    static const struct {
        const char *map;
        int code;
        const char *says;
    } row[] = {
        { "{ \"weight_map\": {} }", STATUS_FORMAT, "names 0 files" },
        { "{ \"metadata\": {} }", STATUS_FORMAT, "has no weight_map" },
        { "{ \"weight_map\": [] }", STATUS_FORMAT, "has no weight_map" },
        { "", STATUS_FORMAT, "is no valid JSON" },
        { "{ \"weight_map\": { \"a\": 1 } }", STATUS_FORMAT, "maps tensor 'a' to something that is no file" },
        { "{ \"weight_map\": { \"a\": \"../single/model.safetensors\" } }", STATUS_FORMAT, "no file of this folder" },
        { "{ \"weight_map\": { \"a\": \"/etc/passwd\" } }", STATUS_FORMAT, "no file of this folder" },
        { "{ \"weight_map\": { \"a\": \"..\" } }", STATUS_FORMAT, "no file of this folder" },
        { "{ \"weight_map\": { \"a\": \"a\\u001bb\" } }", STATUS_FORMAT, "no file of this folder" },
        { "{ \"weight_map\": { \"a\": \"" ONE "\", \"a\": \"" TWO "\" } }", STATUS_FORMAT, "is no valid JSON" },
        { "{ \"weight_map\": { \"a\": \"config.json\" } }", STATUS_FORMAT, "config.json: is no safetensors file" },
        { "{ \"weight_map\": { \"a\": \"gone.safetensors\" } }", STATUS_NOTFOUND,
          "shard 'gone.safetensors' is missing; get it with: hf download REPOSITORY --include \"gone.safetensors\"" },
        { MAP(ONE, ONE), STATUS_FORMAT, "says that tensor 'b.weight' is in '" ONE "', which lacks it" },
        { MAP(TWO, ONE), STATUS_FORMAT, "which lacks it" },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        put_sharded("wrong", row[i].map);
        fails(folder_at("wrong"), row[i].code, row[i].says);
    }
    put_sharded("wrong", MAP(ONE, TWO));
    put_tensors("wrong/" TWO, "{" EMBED "}", 24);
    fails(folder_at("wrong"), STATUS_FORMAT, "tensor 'gpt_neox.embed_in.weight' is in ");
    put_tensors("wrong/" TWO, "{" OTHER "}", 3);
    fails(folder_at("wrong"), STATUS_FORMAT, TWO ": the file ends inside tensor 'b.weight'");
    unlink(folder_at("wrong/" TWO));
    folder_link("../blobs/absent", "wrong/" TWO); /* what a pruned cache leaves */
    fails(folder_at("wrong"), STATUS_NOTFOUND, "shard '" TWO "' is missing");
}
static void a_missing_shard_of_the_hub_cache_names_its_repository(void **state) {
    (void)state;
    const char *folder = "models--org--name/snapshots/0123456789abcdef0123456789abcdef01234567";
    char name[300];
    put_sharded(folder, MAP(ONE, TWO));
    snprintf(name, sizeof name, "%s/" TWO, folder);
    unlink(folder_at(name));
    fails(folder_at(folder), STATUS_NOTFOUND, "get it with: hf download org/name --include \"" TWO "\"");
}
static void folders_without_weights(void **state) {
    (void)state;
    struct checkpoint *c;
    struct model_config m;
    struct err e = { 0 };
    folder_text("config-only/config.json", config);
    opens(&c, folder_at("config-only"));
    assert_int_equal(checkpoint_tensors(c), 0);
    assert_int_equal(checkpoint_files(c), 0);
    assert_int_equal(checkpoint_bytes(c), 0);
    assert_null(checkpoint_tensor(c, "a"));
    assert_int_equal(checkpoint_config(c, &m, &e), 0);
    checkpoint_close(c);
    folder_text("torch/config.json", config);
    folder_text("torch/pytorch_model-00001-of-00002.bin", "PK");
    fails(folder_at("torch"), STATUS_NOTFOUND,
          "has pytorch_model-00001-of-00002.bin but neither pytorch_model.bin nor pytorch_model.bin.index.json; "
          "get the rest with: hf download");
    fails(folder_at("torch/pytorch_model-00001-of-00002.bin"), STATUS_INVALID,
          "is one shard of several; give the folder that holds them all: ");
    folder_text(
        "torch/pytorch_model.bin.index.json",
        "{\"weight_map\":{\"a\":\"pytorch_model-00001-of-00002.bin\",\"b\":\"pytorch_model-00002-of-00002.bin\"}}");
    fails(folder_at("torch"), STATUS_NOTFOUND, "'pytorch_model-00002-of-00002.bin' is missing");
    folder_text("half/config.json", config);
    put_tensors("half/" ONE, "{" OTHER "}", 4);
    fails(folder_at("half"), STATUS_NOTFOUND, "has " ONE " but neither model.safetensors nor " INDEX);
    folder_text("empty/readme", "");
    fails(folder_at("empty"), STATUS_NOTFOUND, "holds no model");
    folder_text("ggufs/a.gguf", "");
    fails(folder_at("ggufs"), STATUS_INVALID, "give a file in it: a.gguf");
    fails(folder_at("absent"), STATUS_NOTFOUND, "No such file");
    fails(folder_at("empty/readme"), STATUS_FORMAT, "");
    put_tensors("alone/x.safetensors", "{" OTHER "}", 4);
    opens(&c, folder_at("alone/x.safetensors"));
    assert_int_equal(checkpoint_config(c, &m, &e), STATUS_NOTFOUND);
    assert_non_null(strstr(e.text, "no config.json there"));
    checkpoint_close(c);
    if (mkfifo(folder_at("pipe.safetensors"), 0600)) fail_msg("no pipe");
    fails(folder_at("pipe.safetensors"), STATUS_INVALID, "something special");
    if (mkdir(folder_at("single/generation_config.json"), 0700)) fail_msg("no folder");
    opens(&c, folder_at("single"));
    e.code = 0;
    assert_int_equal(checkpoint_config(c, &m, &e), STATUS_INVALID);
    checkpoint_close(c);
    checkpoint_close(NULL);
}
static void a_config_of_another_model_is_an_error(void **state) {
    (void)state;
    struct checkpoint *c;
    struct model_config m;
    struct err e = { 0 };
    char other[1000];
    const char *at = strstr(config, "\"vocab_size\": 3");
    snprintf(other, sizeof other, "%.*s\"vocab_size\": 4%s", (int)(at - config), config, at + 15);
    folder_text("other/config.json", other);
    put_tensors("other/model.safetensors", "{" EMBED "}", 24);
    opens(&c, folder_at("other"));
    assert_int_equal(checkpoint_config(c, &m, &e), STATUS_FORMAT);
    assert_non_null(strstr(e.text, "vocab_size 4 and hidden_size 4, but tensor 'gpt_neox.embed_in.weight' is [3, 4]"));
    checkpoint_close(c);
}
static void a_gguf_opens(void **state) {
    (void)state;
    struct buf b;
    put_head(&b, 3);
    put_u32(&b, "split.count", 1);
    put_tensor(&b, "token_embd.weight", 2, (const uint64_t[]){ 32, 2 }, 3, 0);
    put_tensor(&b, "odd", 1, (const uint64_t[]){ 4 }, 27, 64);
    put_counts(&b, 2, 1);
    put_align(&b, 32);
    const size_t data = b.n;
    for (int i = 0; i < 96; i++) buf_add(&b, "w", 1);
    folder_bytes("m.gguf", b.p, b.n);
    struct checkpoint *c;
    opens(&c, folder_at("m.gguf"));
    assert_int_equal(checkpoint_kind(c), CHECKPOINT_GGUF);
    assert_non_null(checkpoint_gguf(c));
    assert_int_equal(checkpoint_files(c), 1);
    assert_int_equal(checkpoint_bytes(c), b.n);
    const struct tensor *t = checkpoint_tensor(c, "token_embd.weight");
    assert_true(t->dt == DTYPE_Q4_1 && t->dim[0] == 32 && t->dim[1] == 2 && t->bytes == 40 && t->offset == data);
    assert_string_equal(t->dt_name, "q4_1");
    assert_string_equal(checkpoint_tensor_at(c, 1)->dt_name, "type 27");
    assert_null(checkpoint_tensor_at(c, 2));
    struct model_config m;
    struct err e = { 0 };
    assert_int_equal(checkpoint_config(c, &m, &e), STATUS_FORMAT);
    assert_non_null(strstr(e.text, "general.architecture is missing"));
    checkpoint_close(c);
    b.p[24 + 8 + 11 + 4] = 2; /* the value of split.count */
    folder_bytes("part.gguf", b.p, b.n);
    fails(folder_at("part.gguf"), STATUS_INVALID, "one part of a split GGUF");
    buf_fini(&b);
}
static void memory_may_end_at_any_point(void **state) {
    (void)state;
    static const char *const paths[] = { "single", "sharded", "m.gguf", "config-only" };
    const int before = descriptors();
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        int rc = -1;
        for (long k = 1; rc; k++) {
            struct checkpoint *c;
            struct err e = { 0 };
            mem_fail_at(k);
            rc = checkpoint_open(&c, folder_at(paths[i]), &e);
            mem_fail_at(0);
            assert_true(k < 60 && (!rc || rc == STATUS_NOMEM));
            assert_true(!rc == (c != NULL));
            checkpoint_close(c);
        }
    }
    assert_int_equal(descriptors(), before);
}
static int set_up(void **state) {
    (void)state;
    return folder_make("checkpoint");
}
static int tear_down(void **state) {
    (void)state;
    return folder_remove("");
}

/* make_folders.py has torch save the same weights: one shard as a zip archive, one in the format before that. */
static void torch_shards_hold_what_safetensors_hold(void **state) {
    (void)state;
    struct checkpoint *st, *bin;
    opens(&st, "tests/golden/folders/llama-gqa");
    opens(&bin, "tests/golden/folders/llama-bin");
    assert_string_equal(checkpoint_format(st), "safetensors");
    assert_string_equal(checkpoint_format(bin), "torch");
    assert_int_equal(checkpoint_files(bin), 2);
    assert_int_equal(checkpoint_tensors(bin), checkpoint_tensors(st));
    for (int i = 0; i < checkpoint_tensors(st); i++) {
        const struct tensor *a = checkpoint_tensor_at(st, i), *b = checkpoint_tensor(bin, a->name);
        static char bytes[2][1 << 20];
        if (!b) fail_msg("%s is missing", a->name);
        assert_int_equal(a->dt, b->dt);
        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(a->dim, b->dim, sizeof a->dim);
        assert_true(a->bytes <= sizeof bytes[0]);
        assert_int_equal(pread(checkpoint_file(st, a->file)->fd, bytes[0], a->bytes, (off_t)a->offset), a->bytes);
        assert_int_equal(pread(checkpoint_file(bin, b->file)->fd, bytes[1], b->bytes, (off_t)b->offset), b->bytes);
        assert_memory_equal(bytes[0], bytes[1], a->bytes);
    }
    checkpoint_close(st);
    checkpoint_close(bin);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torch_shards_hold_what_safetensors_hold),
        cmocka_unit_test(a_single_file_opens),
        cmocka_unit_test(shards_open_by_their_index),
        cmocka_unit_test(each_wrong_index_is_named),
        cmocka_unit_test(a_missing_shard_of_the_hub_cache_names_its_repository),
        cmocka_unit_test(folders_without_weights),
        cmocka_unit_test(a_config_of_another_model_is_an_error),
        cmocka_unit_test(a_gguf_opens),
        cmocka_unit_test(memory_may_end_at_any_point),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
