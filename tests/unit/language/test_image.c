/* Pictures in cells: %image, --image, --show, boxes, and what is read from where. The engine is a script, the web server
 * a thread of this program. */
#include "language/cells.h"

#include "base/mem.h"
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* ---- files ---- */
static const char jpeg[] = "\xff\xd8\xff\xe0 a photograph";
static char folder[64], cwd[4096];
static void write_file(const char *name, const char *bytes, size_t n) {
    FILE *f = fopen(name, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}
static int begin(void **state) {
    snprintf(folder, sizeof folder, "/tmp/jaeda-image-XXXXXX");
    if (setup(state) || !mkdtemp(folder) || !getcwd(cwd, sizeof cwd) || chdir(folder)) return -1;
    write_file("photo.jpg", jpeg, sizeof jpeg);
    write_file("b.png", "\x89PNG\r\n\x1a\n and more", 17);
    write_file("한글 이름.webp", "RIFF....WEBPVP8 ", 16);
    write_file("text.jpg", "not a picture", 13);
    write_file("anim.gif", "GIF89a", 6);
    write_file("empty.jpg", "", 0);
    fake.done.images = 1;
    fake.done.images_encoded = 1;
    fake.done.image_tokens = 64;
    fake.done.image_decode_ms = 12, fake.done.image_resize_ms = 3, fake.done.image_encode_ms = 1660;
    fake.done.image_merge_ms = 0.1, fake.done.image_project_ms = 20;
    return 0;
}
static int end(void **state) {
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return chdir(cwd) || system(command) || teardown(state);
}
/* The kinds of displays in order: "J" a JPEG, "P" a PNG, "." text. */
static const char *kinds(void) {
    static char text[64];
    size_t i, n = 0;
    json_t *d;
    json_array_foreach(o.displays, i, d) {
        const json_t *data = json_object_get(d, "data");
        text[n++] = json_object_get(data, "image/jpeg") ? 'J' : json_object_get(data, "image/png") ? 'P' : '.';
    }
    text[n] = 0;
    return text;
}
static const char *all_plain(void) {
    static char text[16384];
    size_t n = 0;
    for (int i = 0; i < (int)json_array_size(o.displays); i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s\n", out_plain(&o, i));
    narrow(text);
    return text;
}

/* ---- %image ---- */
static void image_shows_and_remembers(void **state) {
    (void)state;
    runs("%image");
    says(printed(), "no picture is remembered: %image FILE");
    runs("%image photo.jpg");
    assert_string_equal(kinds(), "J.");
    assert_string_equal(out_plain(&o, 0), "[photo.jpg, 48 x 32]");
    says(out_plain(&o, 1), "photo.jpg: JPEG, 1,920 x 1,080, ");
    says(out_plain(&o, 1), "prompts to a model that sees are about it from now on");
    const json_t *told = json_object_get(json_object_get(json_array_get(o.displays, 0), "metadata"), "image/jpeg");
    assert_int_equal(json_integer_value(json_object_get(told, "width")), 48);
    assert_int_equal(fake.last.look_px, 512);
    runs("%image --width 300 b.png");
    assert_int_equal(fake.last.look_px, 300);
    assert_string_equal(kinds(), "P.");
    runs("%picture");
    says(out_plain(&o, 1), "b.png: PNG");
    says(out_plain(&o, 1), "remembered; %image --clear forgets it");
    runs("%img --clear");
    says(printed(), "b.png is forgotten");
    runs("%image --clear");
    says(printed(), "no picture was remembered");
    fails("%image --clear photo.jpg", STATUS_INVALID, "FILE or --clear, not both");
    fails("%image --width 3 photo.jpg", STATUS_INVALID, "from 16 to 4096");
    fake.fail = (struct err){ STATUS_FORMAT, "photo.jpg: the file ends early" };
    fails("%image photo.jpg", STATUS_FORMAT, "ends early");
    fake.fail.code = 0;
    runs("%image"); /* what cannot be seen is not remembered */
    says(printed(), "no picture is remembered");
}
static void paths_of_pictures(void **state) {
    (void)state;
    char code[400];
    runs("%image \"한글 이름.webp\"");
    says(out_plain(&o, 1), "한글 이름.webp: WebP");
    snprintf(code, sizeof code, "%%image file://%s/%%ED%%95%%9C%%EA%%B8%%80%%20%%EC%%9D%%B4%%EB%%A6%%84.webp", folder);
    runs(code);
    says(out_plain(&o, 1), "한글 이름.webp: WebP");
    snprintf(code, sizeof code, "%%image file:%s/photo.jpg", folder);
    runs(code);
    snprintf(code, sizeof code, "%%image file://localhost%s/photo.jpg", folder);
    runs(code);
    setenv("HOME", folder, 1);
    runs("%image ~/photo.jpg");
    fails("%image file://elsewhere/photo.jpg", STATUS_INVALID, "begins with file:///");
    fails("%image no.jpg", STATUS_NOTFOUND, "no.jpg: No such file");
    fails("%image text.jpg", STATUS_FORMAT, "begins like no JPEG, PNG or WebP");
    fails("%image anim.gif", STATUS_FORMAT, "anim.gif is GIF; JPEG, PNG and WebP are read: convert it first");
    fails("%image empty.jpg", STATUS_FORMAT, "it is empty");
    fails("%image .", STATUS_INVALID, "is a folder");
    fails("%image /dev/zero", STATUS_INVALID, "a device or pipe");
    fails("%image s3://bucket/a.jpg", STATUS_INVALID, "fetch it in a ! line first");
    assert_int_equal(truncate("photo.jpg", (64 << 20) + 1), 0);
    fails("%image photo.jpg", STATUS_INVALID, "larger than 64 MiB");
}

/* ---- %generate ---- */
static void a_picture_goes_with_a_prompt(void **state) {
    (void)state;
    fake.sees = true;
    runs("%generate --image photo.jpg --image b.png 이 그림은?");
    assert_string_equal(fake.images, "photo.jpg@0 b.png@0");
    assert_string_equal(fake.roles, "user"); /* its place is in the model's own template */
    assert_string_equal(fake.template_name, "(own)");
    assert_string_equal(kinds(), "JP."); /* shown above the text */
    fake.done.images = fake.done.images_encoded = 2, fake.done.image_tokens = 128;
    runs("%generate --image photo.jpg --image b.png hi");
    says(out_plain(&o, -1), "photo.jpg, b.png: 128 tokens · read 12.0 ms");
    all_plain();
    fake.done.images_encoded = 1;
    runs("%generate --image photo.jpg --image b.png hi");
    says(out_plain(&o, -1), "1 of 2 encoded, the others were known");
    fake.done.images_encoded = 0;
    runs("%generate --image photo.jpg hi");
    says(out_plain(&o, -1), "photo.jpg: 128 tokens · known already, not encoded again");
    const json_t *numbers = json_object_get(json_object_get(json_array_get(o.displays, 1), "metadata"), "jaeda");
    assert_int_equal(json_integer_value(json_object_get(numbers, "image_tokens")), 128);
    assert_true(json_real_value(json_object_get(numbers, "image_encode_ms")) == 1660);
    runs("%generate --image photo.jpg --template minigpt-v2 --system s hi");
    assert_string_equal(fake.roles, "system user");
    assert_string_equal(fake.images, "photo.jpg@1");
    runs("%generate --image photo.jpg --template raw hi");
    assert_string_equal(fake.roles, "raw");
    runs("%generate hi");
    assert_string_equal(fake.roles, "raw");
    assert_string_equal(fake.images, "");
    fails("%generate --image no.jpg hi", STATUS_NOTFOUND, "no.jpg");
    fails("%generate --image text.jpg hi", STATUS_FORMAT, "is no picture");
    fake.fail = (struct err){ STATUS_INVALID, "small reads text only: photo.jpg cannot be shown to it" };
    fails("%generate --image photo.jpg hi", STATUS_INVALID, "reads text only");
}
static void too_many_pictures(void **state) {
    (void)state;
    char code[1024] = "%generate hi";
    for (int i = 0; i < 17; i++) strncat(code, " --image b.png", sizeof code - strlen(code) - 1);
    fails(code, STATUS_INVALID, "at most 16 pictures");
    assert_int_equal(truncate("photo.jpg", 60 << 20), 0);
    snprintf(code, sizeof code, "%%generate hi");
    for (int i = 0; i < 5; i++) strncat(code, " --image photo.jpg", sizeof code - strlen(code) - 1);
    fails(code, STATUS_INVALID, "240 MiB together");
}
static void a_remembered_picture_goes_with_what_sees(void **state) {
    (void)state;
    runs("%image photo.jpg");
    runs("%generate hi");
    assert_string_equal(fake.images, "");
    says(out_plain(&o, -1), "! photo.jpg is not shown to small: it reads text only");
    assert_string_equal(fake.roles, "raw");
    runs("%generate --quiet hi");
    says(out_plain(&o, -1), "! photo.jpg is not shown to small");
    fake.sees = true;
    runs("a prompt without magic");
    assert_string_equal(fake.images, "photo.jpg@0");
    assert_string_equal(kinds(), "."); /* %image has shown it */
    says(out_plain(&o, -1), "photo.jpg: 64 tokens");
    assert_null(strstr(out_plain(&o, -1), "not shown"));
    runs("%generate --image b.png hi"); /* its own instead */
    assert_string_equal(fake.images, "b.png@0");
    runs("%generate --no-record hi");
    assert_string_equal(fake.images, "photo.jpg@0");
    runs("%image --clear\n%generate hi");
    assert_string_equal(fake.images, "");
}
static void sampling_of_the_models_authors(void **state) {
    (void)state;
    fake.sees = true;
    runs("%generate hi");
    assert_true(fake.last.own_sampling && fake.last.max_new_tokens == 0);
    runs("%generate -n 128 hi");
    assert_true(fake.last.own_sampling && fake.last.max_new_tokens == 128);
    runs("%generate --seed 7 hi");
    assert_true(fake.last.own_sampling && fake.last.sampling.seed == 7);
    static const char *const said[] = {
        "--temperature 1",       "--top-p 1", "--top-k 0", "--greedy", "--do-sample", "--num-beams 2",
        "--repetition-penalty 1"
    };
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        char code[80];
        snprintf(code, sizeof code, "%%generate %s hi", said[i]);
        runs(code);
        assert_true(!fake.last.own_sampling && fake.last.max_new_tokens == 128);
    }
    runs("%set temperature=0\n%generate hi");
    assert_true(!fake.last.own_sampling && fake.last.max_new_tokens == 128);
    runs("%set --reset\n%set max_new_tokens=9\n%chat hi");
    assert_true(fake.last.own_sampling && fake.last.max_new_tokens == 9);
    runs("%set --reset");
    fails("%generate --min-new-tokens 200 hi", STATUS_INVALID, "more than --max-new-tokens 128");
    fake.hang = true;
    stopped("%generate hi", 100, "interrupted after 128 tokens"); /* how many might have come is not known */
    fake.sees = false;
    stopped("%generate hi", 100, "interrupted after 128 of 128 tokens");
}

/* ---- views ---- */
static void views_stand_below_the_text(void **state) {
    (void)state;
    fake.sees = true;
    runs("%generate --image photo.jpg --show input hi");
    assert_int_equal(fake.last.show, ENGINE_SHOW_INPUT);
    assert_string_equal(kinds(), "JP..");
    says(out_plain(&o, 2), "photo.jpg: what the model sees: 48 x 32");
    runs("%generate --image photo.jpg --show input,attention hi");
    assert_int_equal(fake.last.show, ENGINE_SHOW_INPUT | ENGINE_SHOW_ATTENTION);
    assert_string_equal(kinds(), "JP.P.P..");
    says(all_plain(), "photo.jpg: where the image encoder looked");
    says(out_plain(&o, 6), "where the answer looked · 12.5 % of its attention went to this picture");
    says(out_plain(&o, 6), "2 x 2 fields");
    says(out_plain(&o, 6), "mean of 16 heads");
    says(printed(), "안녕 world");
    fake.looked[0] = 0;
    runs("%image b.png\n%generate --show attention hi"); /* what lies under the heat is looked at behind the answer */
    assert_string_equal(fake.looked, "b.png b.png");
    assert_string_equal(kinds(), "P.P.P..");
    runs("%set show=attention\n%generate hi");
    assert_string_equal(kinds(), "P.P..");
    runs("%image --clear\n%generate hi"); /* a default asks for nothing where there is no picture */
    assert_int_equal(fake.last.show, 0);
    runs("%set show=default");
    fails("%generate --show input hi", STATUS_INVALID, "--show needs a picture");
    fails("%generate --show heads hi", STATUS_INVALID, "input, attention");
    fake.sees = false;
    runs("%image b.png\n%generate --show input hi");
    says(out_plain(&o, -1), "! b.png is not shown to small");
}
static void boxes_of_the_answer_are_drawn(void **state) {
    (void)state;
    fake.sees = true;
    fake.answer = "<p>a dog</p> {<10><10><60><90>}<delim>{<50><20><90><80>} and <p>나무</p> {<0><0><20><40>}";
    runs("%generate --image photo.jpg [grounding] describe this image in detail");
    assert_string_equal(kinds(), "JP..");
    assert_string_equal(out_plain(&o, 1), "[photo.jpg with 3 boxes]");
    assert_string_equal(out_plain(&o, 2), "1: a dog, 2 places · 2: 나무");
    runs("%generate hi"); /* without a picture it is text */
    assert_string_equal(kinds(), ".");
    fake.answer = "{<10><10><60><90>}";
    runs("%chat --image photo.jpg where?");
    assert_string_equal(out_plain(&o, 1), "[photo.jpg with 1 box]");
    runs("%chat again?"); /* on the picture of an earlier turn */
    assert_string_equal(kinds(), "P..");
}

/* ---- %chat ---- */
static void a_picture_stays_in_the_conversation(void **state) {
    (void)state;
    fake.sees = true;
    runs("%chat --image photo.jpg what is it?");
    assert_string_equal(fake.images, "photo.jpg@0");
    assert_string_equal(kinds(), "J.");
    runs("%chat and its colour?");
    assert_string_equal(fake.roles, "user assistant user");
    assert_string_equal(fake.images, "photo.jpg@0");
    assert_string_equal(kinds(), "."); /* not again */
    runs("%chat --image b.png and this?");
    assert_string_equal(fake.images, "photo.jpg@0 b.png@4");
    assert_string_equal(kinds(), "P.");
    fake.fail = (struct err){ STATUS_INVALID, "too long" };
    fails("%chat --image b.png --image photo.jpg once more", STATUS_INVALID, "too long");
    fake.fail.code = 0;
    runs("%chat next"); /* the failed question took its pictures along */
    assert_string_equal(fake.images, "photo.jpg@0 b.png@4");
    runs("%chat");
    says(out_plain(&o, 0), "user, about photo.jpg:\nwhat is it?");
    says(out_plain(&o, 0), "user, about b.png:\nand this?");
    says(out_plain(&o, 0), "user:\nnext");
    fails("%chat --image photo.jpg", STATUS_INVALID, "goes with a question");
    fake.sees = false;
    fake.fail = (struct err){ STATUS_INVALID, "small reads text alone" };
    fails("%chat next", STATUS_INVALID, "small reads text alone; %chat --reset begins a conversation without pictures");
    fake.fail.code = 0;
    runs("%chat --reset hi");
    assert_string_equal(fake.images, "");
}
static void a_remembered_picture_comes_into_a_conversation_once(void **state) {
    (void)state;
    fake.sees = true;
    runs("%image photo.jpg\n%chat what is it?\n%chat more");
    assert_string_equal(fake.images, "photo.jpg@0");
    runs("%image b.png\n%chat and this?\n%chat more");
    assert_string_equal(fake.images, "photo.jpg@0 b.png@4");
    runs("%chat --reset hi"); /* a new one is about what is remembered now */
    assert_string_equal(fake.images, "b.png@0");
    runs("%image b.png\n%chat more"); /* the same picture */
    assert_string_equal(fake.images, "b.png@0");
    runs("%chat --reset");
    fake.fail = (struct err){ STATUS_INVALID, "no" };
    fails("%chat hi", STATUS_INVALID, "no");
    fake.fail.code = 0;
    runs("%chat hi");
    assert_string_equal(fake.images, "b.png@0");
}
/* A picture of its own is what a turn is about, not the one that was remembered before. */
static void a_given_picture_goes_before_the_remembered_one(void **state) {
    (void)state;
    fake.sees = true;
    runs("%image photo.jpg\n%chat --image b.png what is it?\n%chat more");
    assert_string_equal(fake.images, "b.png@0");
    runs("%image photo.jpg\n%chat and this?");
    assert_string_equal(fake.images, "b.png@0");
    runs("%chat --reset\n%chat hi");
    assert_string_equal(fake.images, "photo.jpg@0");
}
static void a_conversation_has_room_for_so_many(void **state) {
    (void)state;
    char code[400] = "%chat hi";
    for (int i = 0; i < 8; i++) strncat(code, " --image b.png", sizeof code - strlen(code) - 1);
    runs(code);
    runs(code);
    fails("%chat --image b.png hi", STATUS_INVALID, "at most 16 pictures");
    runs("%chat hi");
    assert_int_equal(fake.last.images, 16);
    runs("%chat --reset");
    assert_int_equal(truncate("photo.jpg", 60 << 20), 0);
    for (int i = 0; i < 4; i++) runs("%chat --image photo.jpg hi");
    fails("%chat --image photo.jpg hi", STATUS_INVALID, "240 MiB together");
}

/* ---- %load and what tells of a model ---- */
static void parts_of_a_model(void **state) {
    (void)state;
    char want[400];
    fake.sees = true;
    assert_int_equal(mkdir("llm", 0700), 0);
    write_file("llm/config.json", "{}", 2);
    write_file("eva.pth", "x", 1);
    setenv("HOME", folder, 1);
    runs("%load minigpt4-7b --vit eva.pth --qformer ~/q.pth --llm llm --projector no-file --vision-dtype bfloat16 "
         "--max-images 2");
    snprintf(want, sizeof want, "%s/eva.pth|%s/q.pth|no-file|%s/llm|bf16", folder, folder, folder);
    assert_string_equal(fake.parts, want);
    assert_int_equal(fake.last.max_images, 2);
    says(out_plain(&o, -1),
         "small sees: EVA ViT-g/14, 224 px, fp16, 64 tokens a picture; of the memory: weights 1.86 GiB");
    says(out_plain(&o, -1), "up to 4 pictures");
    narrow(out_plain(&o, -1));
    runs("%cd /\n%load");
    assert_string_equal(fake.parts, want);
    runs("%load --vit other"); /* alone it changes what is remembered */
    says(fake.parts, "other|");
    says(fake.parts, "/llm|bf16");
    runs("%load small"); /* another model starts anew */
    assert_string_equal(fake.parts, "||||auto");
    assert_int_equal(fake.last.max_images, 0);
    fails("%load x --vision-dtype int4", STATUS_INVALID, "auto, fp32, fp16, bf16, int8");
    fails("%load x --max-images 17", STATUS_INVALID, "from 1 to 16");
    runs("%ps");
    says(out_plain(&o, 0), "small sees: EVA ViT-g/14");
    narrow(out_plain(&o, 0));
    runs("%show");
    says(out_plain(&o, 0), "sees through");
    says(out_plain(&o, 0), "image encoder: /models/eva_vit_g.pth");
    runs("%models");
    says(out_plain(&o, 0), "models that see pictures (%image, --image): small");
    runs("%fit small --vit a --llm b --machine this --dtype fp16");
    assert_string_equal(fake.parts, "a|||b|");
    says(out_plain(&o, 0),
         "the image path (EVA ViT-g/14, 224 px) has 1.86 GiB of the weights; a picture takes 64 tokens");
    fake.sees = false;
    runs("%ps");
    assert_null(strstr(out_plain(&o, 0), "sees"));
}
static void profile_of_the_image_path(void **state) {
    (void)state;
    static const struct engine_profile_row rows[] = {
        { ENGINE_VISION, 0, "linear", "blocks.qkv", 39, 60, 2e8, 3e11 },
        { ENGINE_VISION, 0, "attn", "blocks.attn", 39, 20, 1e7, 1e10 },
        { ENGINE_PREFILL, 0, "linear", "attn.q", 30, 40, 1e8, 1e9 },
        { ENGINE_DECODE, 0, "linear", "attn.q", 30, 2, 1e8, 1e7 },
    };
    fake.profile = (struct engine_profile){ .row = rows,
                                            .rows = 4,
                                            .runs = 3,
                                            .warmups = 1,
                                            .threads = 2,
                                            .batch_size = 1,
                                            .prompt_tokens = 512,
                                            .decode_steps = 32,
                                            .context = 528,
                                            .wall_ms = { 41, 2.1, 82 },
                                            .wall_sd_ms = { 1, 0.1, 2 },
                                            .profiled_ms = { 42, 2.2, 84 },
                                            .spans_ms = { 40, 2, 80 },
                                            .stream_gbs = 20,
                                            .peak_gflops = 300,
                                            .peak_kind = "int8",
                                            .vision = true,
                                            .vision_peak_gflops = 6000,
                                            .vision_peak_kind = "bf16",
                                            .vision_dtype = "fp16",
                                            .image_tokens = 64,
                                            .image_resize_ms = 3.5,
                                            .dtype = "q4_1",
                                            .isa = "avx2",
                                            .model = "small" };
    runs("%profile");
    assert_false(fake.last.vision_only);
    const char *page = out_plain(&o, -1);
    narrow(page);
    says(page, "image: a picture in 82.0 ± 2.00 ms, 12.2 images/s, 64 tokens\n");
    says(page, "before it comes the resize, of a picture of 1,920 x 1,080 in 3.50 ms");
    says(page, "prefill: 512 tokens");
    says(page, "blocks.qkv");
    says(page, "5,000       83.3"); /* GFLOP/s, and of the encoder's own peak */
    says(page, "the image path");
    says(page, "image encoder fp16");
    says(page, "300 GFLOP/s in int8, 6,000 GFLOP/s in bf16");
    fake.profile.vision_only = true;
    fake.profile.rows = 2;
    runs("%profile --stage vision --runs 10");
    assert_true(fake.last.vision_only && fake.last.runs == 10);
    page = out_plain(&o, -1);
    assert_null(strstr(page, "prefill"));
    assert_null(strstr(page, "int8"));
    says(page, "6,000 GFLOP/s in bf16");
    runs("%runs show 2");
    says(out_plain(&o, -1), "%profile --stage vision --runs 10");
    says(out_plain(&o, -1), "wall_ms.image");
    assert_null(strstr(out_plain(&o, -1), "wall_ms.prefill"));
    fails("%%profile --stage vision\nhi", STATUS_INVALID, "reads no prompt");
    fails("%profile --stage sound", STATUS_INVALID, "all, vision");
}
static void a_run_with_pictures_is_kept_and_repeated(void **state) {
    (void)state;
    char want[400];
    fake.sees = true;
    fake.done.greedy = false;
    runs("%load small --vit eva.pth --max-images 2\n%generate --image photo.jpg --image b.png --seed 7 hi");
    runs("%runs show 1");
    const char *page = out_plain(&o, -1);
    snprintf(want, sizeof want, "--seed 7 --image %s/photo.jpg --image %s/b.png\nhi", folder, folder);
    says(page, want);
    says(page, "--vit eva.pth --max-images 2\n");
    says(page, "image_encode_ms");
    assert_null(strstr(page, "--no-do-sample"));
    assert_null(strstr(page, "--max-new-tokens"));
    runs("%chat --image photo.jpg a\n%chat b\n%runs show 3");
    assert_null(strstr(out_plain(&o, -1), "photo.jpg")); /* of an earlier question */
    assert_int_equal(unlink("b.png"), 0);                /* what is remembered is in memory */
    runs("%chat c");
}

static void offers(const char *code, const char *want) {
    json_t *c = interp_complete(in, code, strlen(code), strlen(code)), *m;
    size_t i;
    bool found = false;
    json_array_foreach(json_object_get(c, "matches"), i, m) found |= !strcmp(json_string_value(m), want);
    json_decref(c);
    if (!found) fail_msg("%s does not offer %s", code, want);
}
static void files_and_views_are_offered(void **state) {
    (void)state;
    offers("%image ph", "photo.jpg");
    offers("%generate --image ", "b.png");
    offers("%chat --image ./a", "./anim.gif");
    offers("%generate --show in", "input");
    offers("%chat --show input,at", "attention");
    offers("%load x --vit ph", "photo.jpg");
    offers("%load x --llm sm", "smollm2-135m");
    offers("%profile --stage v", "vision");
    offers("%generate --im", "--image");
    write_file("a,b.jpg", jpeg, sizeof jpeg); /* a comma parts no paths */
    offers("%generate --image a,", "a,b.jpg");
    runs("%generate --image a,b.jpg hi");
    assert_string_equal(fake.images, "a,b.jpg@0");
}
/* Whatever allocation fails: an error or a result, and the next cell runs. */
static void no_memory_is_an_error_and_no_more(void **state) {
    (void)state;
    fake.sees = true;
    fake.answer = "<p>a</p> {<1><2><30><40>}";
    runs("%chat --image photo.jpg --show input,attention hi"); /* what stays in memory is there */
    static const char code[] = "%chat --image b.png --show input,attention hi";
    bool good = false;
    for (long n = 1; n < 3000 && !good; n += 1 + n / 16) {
        struct err e = { 0 };
        fresh();
        mem_fail_at(n);
        good = !interp_execute(in, &o, code, strlen(code), &e);
        mem_fail_at(0);
        assert_true(good || e.code);
    }
    assert_true(good);
    runs("%chat --reset hi");
}

/* ---- URLs ---- */
static int server_fd, server_port;
static bool serve_one(int fd) {
    char request[4096] = "", path[100] = "";
    size_t n = 0;
    ssize_t got;
    while (!strstr(request, "\r\n\r\n") && n < sizeof request - 1 &&
           (got = read(fd, request + n, sizeof request - 1 - n)) > 0)
        request[n += (size_t)got] = 0;
    sscanf(request, "GET %99s", path);
    if (!strncmp(path, "/photo", 6)) {
        dprintf(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nContent-Type: image/jpeg\r\n\r\n", sizeof jpeg);
        return write(fd, jpeg, sizeof jpeg) == sizeof jpeg;
    }
    if (!strcmp(path, "/moved")) dprintf(fd, "HTTP/1.1 302 Found\r\nLocation: /photo.jpg\r\nContent-Length: 0\r\n\r\n");
    if (!strcmp(path, "/loop")) dprintf(fd, "HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n");
    if (!strcmp(path, "/file"))
        dprintf(fd, "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n");
    if (!strcmp(path, "/page"))
        dprintf(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>");
    if (!strcmp(path, "/told")) dprintf(fd, "HTTP/1.1 200 OK\r\nContent-Length: 70000000\r\n\r\n");
    if (!strcmp(path, "/secret")) dprintf(fd, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    if (!strcmp(path, "/none")) dprintf(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope");
    if (!strcmp(path, "/cut")) dprintf(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
    if (!strcmp(path, "/endless")) {
        static const char zeros[1 << 16];
        dprintf(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        for (int i = 0; i < 1100 && send(fd, zeros, sizeof zeros, MSG_NOSIGNAL) > 0; i++) {
        }
    }
    if (!strcmp(path, "/slow")) {
        dprintf(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx");
        poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, 8000); /* until the other side has enough of it */
    }
    return true;
}
static void *serve(void *arg) {
    int fd;
    while ((fd = accept(server_fd, NULL, NULL)) >= 0) {
        serve_one(fd);
        close(fd);
    }
    return arg;
}
static int begin_server(void **state) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof at;
    setenv("no_proxy", "*", 1);
    server_fd = socket(AF_INET, SOCK_STREAM, 0);
    if (begin(state) || bind(server_fd, (struct sockaddr *)&at, n) || listen(server_fd, 8) ||
        getsockname(server_fd, (struct sockaddr *)&at, &n))
        return -1;
    server_port = ntohs(at.sin_port);
    static pthread_t t;
    *state = &t;
    return pthread_create(&t, NULL, serve, NULL);
}
static int end_server(void **state) {
    pthread_t *t = *state;
    shutdown(server_fd, SHUT_RDWR);
    pthread_join(*t, NULL);
    close(server_fd);
    return end(state);
}
static const char *url(const char *path) {
    static char code[200];
    snprintf(code, sizeof code, "%%image http://127.0.0.1:%d%s", server_port, path);
    return code;
}
static void pictures_are_fetched(void **state) {
    (void)state;
    runs(url("/photo.jpg?size=9#top"));
    says(out_plain(&o, 1), "photo.jpg: JPEG");
    assert_string_equal(kinds(), "J.");
    runs(url("/moved"));
    says(out_plain(&o, 1), "moved: JPEG");
}
static void what_cannot_be_fetched_is_told(void **state) {
    (void)state;
    fails(url("/none"), STATUS_NOTFOUND, "/none: the server says 404, there is no such file");
    fails(url("/secret"), STATUS_IO, "the server says 403, it does not hand it out");
    fails(url("/loop"), STATUS_IO, "redirected more than 5 times");
    fails(url("/file"), STATUS_INVALID, "redirected to what is neither http nor https");
    fails(url("/page"), STATUS_FORMAT, "/page is no picture: the server sent text/html");
    fails(url("/told"), STATUS_INVALID, "larger than 64 MiB");
    fails(url("/endless"), STATUS_INVALID, "larger than 64 MiB");
    fails(url("/cut"), STATUS_IO, "/cut: ");
    fails("%image http://127.0.0.1:1/a.jpg", STATUS_IO, "no server answers there");
    fails("%image http://no-such-host.invalid/a.jpg", STATUS_IO, "no such host, or no network here");
    fails("%generate --image http://127.0.0.1:1/a.jpg hi", STATUS_IO, "no server answers there");
}
static void a_download_is_interrupted(void **state) {
    (void)state;
    const double s = stopped(url("/slow"), 300, "interrupted while slow was fetched");
    if (s > 0.9) fail_msg("it took %.1f s to stop", s);
    runs("%image");
    says(printed(), "no picture is remembered");
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
#define WEB(f) cmocka_unit_test_setup_teardown(f, begin_server, end_server)
    const struct CMUnitTest tests[] = {
        TEST(image_shows_and_remembers),
        TEST(paths_of_pictures),
        TEST(a_picture_goes_with_a_prompt),
        TEST(too_many_pictures),
        TEST(a_remembered_picture_goes_with_what_sees),
        TEST(sampling_of_the_models_authors),
        TEST(views_stand_below_the_text),
        TEST(boxes_of_the_answer_are_drawn),
        TEST(a_picture_stays_in_the_conversation),
        TEST(a_remembered_picture_comes_into_a_conversation_once),
        TEST(a_given_picture_goes_before_the_remembered_one),
        TEST(a_conversation_has_room_for_so_many),
        TEST(parts_of_a_model),
        TEST(profile_of_the_image_path),
        TEST(a_run_with_pictures_is_kept_and_repeated),
        TEST(files_and_views_are_offered),
        TEST(no_memory_is_an_error_and_no_more),
        WEB(pictures_are_fetched),
        WEB(what_cannot_be_fetched_is_told),
        WEB(a_download_is_interrupted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
