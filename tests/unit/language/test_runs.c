/* The results database, %runs and %engine. The file is read back with SQLite itself. */
#include "language/cells.h"

#include "base/mem.h"
#include "kernel/magics/repeat.h"
#include "kernel/results.h"
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

/* ---- a network file system, when a test says so ---- */
static bool on_network, without_locks;
int statfs(const char *path, struct statfs *s) {
    *s = (struct statfs){ .f_type = on_network ? 0x6969 : 0xEF53 };
    return access(path, F_OK);
}
int fcntl(int fd, int what, ...) {
    va_list ap;
    va_start(ap, what);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    if (without_locks && (what == F_SETLK || what == F_SETLKW)) return errno = ENOLCK, -1;
    return (int)syscall(SYS_fcntl, fd, what, arg);
}

static const char *file(void) {
    static char path[4096];
    assert_int_equal(results_path(path, NULL), 0);
    return path;
}
static void query(const char *sql) {
    sqlite3 *db;
    char *why = NULL;
    assert_int_equal(sqlite3_open(file(), &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &why)) fail_msg("%s: %s", sql, why);
    sqlite3_close(db);
}
/* The first value of a query; valid until the next. */
static const char *asked(const char *sql) {
    static char text[65536];
    sqlite3 *db;
    sqlite3_stmt *s;
    assert_int_equal(sqlite3_open_v2(file(), &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL)) fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    const char *v = (const char *)sqlite3_column_text(s, 0);
    snprintf(text, sizeof text, "%s", v ? v : "(null)");
    sqlite3_finalize(s);
    sqlite3_close(db);
    return text;
}
static void is(const char *sql, const char *want) { assert_string_equal(asked(sql), want); }

/* Do these bytes stand anywhere in the file? */
static bool in_file(const char *text) {
    static char bytes[1 << 20];
    FILE *f = fopen(file(), "rb");
    assert_non_null(f);
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    return memmem(bytes, n, text, strlen(text)) != NULL;
}
static void a_generation_is_kept_with_all_that_repeats_it(void **state) {
    (void)state;
    setenv("JPY_SESSION_NAME", "/home/user/lab.ipynb", 1);
    fake.done.waited_ms = 12.5;
    runs("%load small\n%%generate --temperature 0.7 --top-p 0.9 --seed 7 --stop END -n 99 --template chatml --system "
         "s\nhi $x");
    is("select count(*) from run", "1");
    is("select model || ' ' || file || ' ' || repo || ' ' || dtype || ' ' || kv_dtype || ' ' || max_model_len from run",
       "small /models/small.gguf Org/Small-135M q4_1 fp16 4096");
    is("select kind || ' ' || state || ' ' || notebook || ' ' || cell from run",
       "generate finished /home/user/lab.ipynb 1");
    is("select text from run", "안녕 world");
    is("select code from run",
       "%%generate --temperature 0.7 --top-p 0.9 --seed 7 --stop END -n 99 --template chatml --system s\nhi $x");
    is("select messages from run", "[{\"role\":\"system\",\"text\":\"s\"},{\"role\":\"user\",\"text\":\"hi $x\"}]");
    is("select json_extract(options, '$.temperature') || ' ' || json_extract(options, '$.seed') || ' ' || "
       "json_extract(options, '$.stop[0]') || ' ' || json_extract(options, '$.max_new_tokens') from run",
       "0.7 7 END 99");
    is("select ttft_ms || ' ' || tpot_ms || ' ' || new_tokens || ' ' || prompt_tokens || ' ' || waited_ms from run",
       "48.0 22.4 128 21 12.5");
    is("select json_extract(numbers, '$.cached_tokens') || ' ' || json_extract(numbers, '$.chars') from run", "16 200");
    is("select json_extract(system, '$.cpu') || ' ' || json_extract(system, '$.backend') from run", "A Processor cpu");
    is("select at glob '20[0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:*Z' from run", "1");
    is("pragma user_version", "1");
    is("pragma journal_mode", "delete");
    struct stat st;
    assert_true(!stat(file(), &st) && (st.st_mode & 0777) == 0600);
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", file());
    *strrchr(folder, '/') = 0;
    assert_true(!stat(folder, &st) && (st.st_mode & 0777) == 0700);
    runs("%runs show 1");
    says(out_plain(&o, -1), "%load small --kv-cache-dtype fp16 --max-model-len 4096\n"
                            "%%generate --template chatml --max-new-tokens 99 --temperature 0.7 --top-p 0.9 --top-k 50 "
                            "--min-p 0 --typical-p 1 --seed 7 --stop END --system s\nhi $x");
    unsetenv("JPY_SESSION_NAME");
}
/* Read back by the language itself, the line asks the engine for the same. */
static void the_line_that_repeats_asks_for_the_same(void **state) {
    (void)state;
    static const char *const code[] = {
        "%%generate -n 5 --stop \"a\\\"b $$c\\n\" --stop-token-ids 7 --ignore-eos --min-new-tokens 2\n two\nlines ",
        "%generate --num-beams 3 --length-penalty 0.5 --early-stopping hello",
        "%generate --template koalpaca --input \"what it's about\" --repetition-penalty 1.25 --sample --min-p 0.05 hm",
        "%chat --system \"be \\\"brief\\\"\" hello",
    };
    for (size_t i = 0; i < sizeof code / sizeof *code; i++) {
        struct err e = { 0 };
        struct buf again;
        buf_init(&again, 65536);
        snprintf(fake.done.template_name, sizeof fake.done.template_name, i == 2 ? "koalpaca" : "chatml");
        runs(code[i]);
        const struct engine_req was = fake.last;
        char prompt[4096], roles[200], stop[64];
        snprintf(prompt, sizeof prompt, "%s", fake.prompt);
        snprintf(roles, sizeof roles, "%s", fake.roles);
        snprintf(stop, sizeof stop, "%s", fake.stop);
        json_t *run = results_get(0, NULL, &e);
        repeat_text(run, &again);
        json_decref(run);
        runs("%set --reset");
        runs(buf_text(&again));
        assert_string_equal(fake.prompt, prompt);
        assert_string_equal(fake.roles, roles);
        assert_string_equal(fake.stop, stop);
        assert_memory_equal(&fake.last.sampling, &was.sampling, sizeof was.sampling);
        assert_memory_equal(&fake.last.beams, &was.beams, sizeof was.beams);
        assert_true(fake.last.stops == was.stops && fake.last.stop_ids == was.stop_ids &&
                    fake.last.max_new_tokens == (was.max_new_tokens ? was.max_new_tokens : 128) &&
                    fake.last.ignore_eos == was.ignore_eos && fake.last.min_new_tokens == was.min_new_tokens);
        buf_fini(&again);
    }
}
static void what_is_not_to_be_kept_is_not(void **state) {
    (void)state;
    runs("%generate --no-record hidden words");
    assert_int_not_equal(access(file(), F_OK), 0);
    runs("%set no_record=true\n%generate hidden words\n%chat hidden words\n%profile");
    assert_int_not_equal(access(file(), F_OK), 0);
    runs("%set no_record=default\n%generate open words");
    is("select count(*) from run", "1");
}
static void secrets_are_in_no_byte_of_the_file(void **state) {
    (void)state;
    o.input = "asked-for-value";
    struct err e = { 0 };
    assert_int_equal(interp_execute(in, &o, "%env --ask PLAIN", 16, &e), 0);
    setenv("MY_SERVICE_TOKEN", "from-the-environment", 1);
    runs("db_password = 'from-a-variable'\n%env SOME_SECRET=from-env-magic");
    runs("%%generate\nasked-for-value from-the-environment from-a-variable from-env-magic hf_abcdefghijklmnop "
         "AKIAABCDEFGHIJKLMNOP");
    runs("%generate --stop from-a-variable x");
    unsetenv("MY_SERVICE_TOKEN");
    unsetenv("PLAIN");
    runs("%generate asked-for-value"); /* once a secret, always a secret */
    is("select count(*) from run", "3");
    is("select json_extract(messages, '$[0].text') from run where number = 1",
       "<hidden> <hidden> <hidden> <hidden> hf_<hidden> AKIA<hidden>");
    static const char *const secret[] = { "asked-for-value", "from-the-environment", "from-a-variable",
                                          "from-env-magic",  "abcdefghijklmnop",     "ABCDEFGHIJKLMNOP" };
    for (size_t i = 0; i < 6; i++) assert_false(in_file(secret[i]));
    assert_true(in_file("hidden"));
    unsetenv("SOME_SECRET");
}
static void an_end_before_the_end_is_kept(void **state) {
    (void)state;
    fake.hang = true;
    stopped("%generate a", 30, "interrupted");
    fake.hang = false;
    is("select state || ' ' || text from run", "interrupted 안녕 world");
    fake.fail = (struct err){ STATUS_DEVICE, "the device fell off" };
    fails("%generate b", STATUS_DEVICE, "fell off");
    is("select state || ' ' || text || ' ' || error from run where number = 2",
       "failed 안녕 world the device fell off");
}
static void runs_lists_shows_and_deletes(void **state) {
    (void)state;
    runs("%runs");
    says(out_plain(&o, -1), "no run is recorded yet");
    for (int i = 0; i < 5; i++) runs(i == 3 ? "%generate 등대 lighthouse" : "%generate other");
    runs("%runs");
    narrow(out_plain(&o, -1));
    says(out_plain(&o, -1), "  1  20");
    says(out_plain(&o, -1), "generate  small  q4_1    44.6     48.0  21→128\n");
    says(out_plain(&o, -1), "5 runs; %runs show N shows everything of one");
    const char *third = strstr(out_plain(&o, -1), "\n  3  "), *fifth = strstr(out_plain(&o, -1), "\n  5  ");
    assert_true(third && fifth && third < fifth); /* the newest last */
    runs("%runs --limit 2");
    assert_null(strstr(out_plain(&o, -1), "\n  3  "));
    says(out_plain(&o, -1), "the last 2 of 5 runs");
    runs("%results --grep 등대*house");
    says(out_plain(&o, -1), "\n  4  ");
    assert_null(strstr(out_plain(&o, -1), "\n  5  "));
    runs("%runs --model SMA*");
    says(out_plain(&o, -1), "5 runs");
    runs("%runs --model other");
    says(out_plain(&o, -1), "no recorded run fits");
    runs("%runs show");
    says(out_plain(&o, -1), "of run 5");
    fails("%runs show 77", STATUS_NOTFOUND, "no run 77");
    fails("%runs show x", STATUS_INVALID, "no number of a run");
    fails("%runs 4", STATUS_INVALID, "%runs show 4");
    fails("%runs drop", STATUS_INVALID, "show, delete and path");
    fails("%runs delete", STATUS_INVALID, "or --all");
    fails("%runs delete 1 --all", STATUS_INVALID, "one of the two");
    runs("%runs delete 4 77");
    says(printed(), "there is no run 77\n1 run removed from /");
    char large[20000] = "%%generate\n";
    memset(large + strlen(large), 'x', 9000);
    memcpy(large + 9000, "lantern", 7);
    runs(large);
    assert_true(in_file("lantern"));
    runs("%runs delete 6");
    assert_false(in_file("lantern") || in_file("lighthouse")); /* its bytes are gone too */
    runs("%runs delete --all");
    says(printed(), "4 runs removed");
    runs("%generate x");
    is("select number from run", "7"); /* a number is never given twice */
    runs("%runs path");
    says(printed(), file());
    says(printed(), "(ext4, record locks)");
}
static void a_damaged_file_is_set_aside(void **state) {
    (void)state;
    runs("%generate first");
    char command[4300];
    snprintf(command, sizeof command, "printf 'no database at all, but long enough to look at' > %s", file());
    assert_int_equal(system(command), 0);
    runs("%generate second");
    says(out_plain(&o, -1), "was damaged");
    says(out_plain(&o, -1), "and a fresh one is");
    is("select count(*) from run", "1");
    snprintf(command, sizeof command, "grep -q 'no database at all' %s.damaged-*", file());
    assert_int_equal(system(command), 0);
}
static void a_newer_file_is_left_alone(void **state) {
    (void)state;
    runs("%generate first");
    query("pragma user_version = 7");
    runs("%generate second");
    says(out_plain(&o, -1), "! not recorded:");
    says(out_plain(&o, -1), "is of a newer Jaeda (its version 7");
    fails("%runs", STATUS_FORMAT, "newer");
    is("select count(*) from run", "1");
}
static void a_place_that_cannot_be_written_is_one_line(void **state) {
    (void)state;
    setenv("XDG_DATA_HOME", "/dev/null/x", 1);
    runs("%generate a");
    says(out_plain(&o, -1), "! not recorded: cannot open /dev/null/x/jaeda/results.sqlite: Not a directory");
    unsetenv("XDG_DATA_HOME");
    char home[512];
    snprintf(home, sizeof home, "%s", getenv("HOME") ? getenv("HOME") : "");
    unsetenv("HOME");
    runs("%generate a");
    says(out_plain(&o, -1), "neither XDG_DATA_HOME nor HOME");
    setenv("HOME", home, 1);
}
static void on_a_network_home(void **state) {
    (void)state;
    on_network = true;
    runs("%generate a\n%runs path");
    says(printed(), "(nfs, record locks)");
    without_locks = true;
    runs("%generate b\n%runs path");
    says(printed(), "(nfs, a lock file)");
    char name[4200];
    snprintf(name, sizeof name, "%s.lock", file());
    assert_int_not_equal(access(name, F_OK), 0);
    assert_int_equal(mkdir(name, 0700), 0); /* what a killed kernel leaves */
    assert_int_equal(utimensat(AT_FDCWD, name, (struct timespec[2]){ { 1, 0 }, { 1, 0 } }, 0), 0);
    runs("%generate c");
    on_network = without_locks = false;
    is("select count(*) from run", "3");
}
static void *adds(void *arg) {
    json_t *run = json_pack("{s:s, s:i}", "kind", "generate", "cell", *(int *)arg);
    struct err e = { 0 };
    long long number;
    for (int i = 0; i < 10; i++)
        if (results_add(run, &number, NULL, &e)) break;
    json_decref(run);
    return e.code ? arg : NULL;
}
static void many_threads_add_at_once(void **state) {
    (void)state;
    pthread_t t[4];
    int cell[4] = { 0, 1, 2, 3 };
    void *failed;
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, adds, &cell[i]);
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], &failed);
        assert_null(failed);
    }
    is("select count(*) from run", "40");
    json_t *bad = json_pack("{s:i}", "no such column", 1);
    struct err e = { 0 };
    long long number;
    assert_int_equal(results_add(bad, &number, NULL, &e), STATUS_INVALID);
    json_decref(bad);
}
static void no_memory_is_an_error_and_no_more(void **state) {
    (void)state;
    json_t *run = json_pack("{s:s, s:{s:[s]}}", "text", "text", "options", "stop", "end");
    long long number;
    for (long n = 1, rc = 1; rc; n++) {
        struct err e = { 0 };
        mem_fail_at(n);
        rc = results_add(run, &number, NULL, &e);
        mem_fail_at(0);
        assert_true(n < 1000 && (!rc || e.code));
    }
    is("select count(*) > 0 from run", "1");
    json_decref(run);
}
static void load_remembers(void **state) {
    (void)state;
    fails("%load", STATUS_INVALID, "has loaded no model yet");
    runs("%load small --dtype int8 -c 512 --kv-cache-dtype fp32 --revision v2 --threads 3");
    runs("%unload\n%set dtype=fp16\n%load");
    assert_string_equal(fake.model, "small");
    assert_string_equal(fake.dtype, "int8");
    assert_string_equal(fake.kv_dtype, "fp32");
    assert_string_equal(fake.revision, "v2");
    assert_true(fake.last.max_model_len == 512 && fake.last.threads == 3 && !fake.last.evict);
    runs("%load --dtype int4 --evict"); /* what is typed changes it */
    assert_string_equal(fake.dtype, "int4");
    assert_true(fake.last.max_model_len == 512 && fake.last.evict);
    fake.fail = (struct err){ STATUS_GONE, "the engine was killed by signal 9" };
    fails("%generate x", STATUS_GONE, "killed by signal 9; %load loads small again");
}
static void who_shares_what(void **state) {
    (void)state;
    const struct engine_model was = fake_model;
    fake_model.users = 2;
    fake_model.load_s = 0;
    fake_model.resident_before = 1300ull << 20;
    fake_model.resident_after = 1290ull << 20;
    snprintf(fake_model.user, sizeof fake_model.user, "a.ipynb (you), b.ipynb");
    runs("%load small");
    says(out_plain(&o, -1), "small is loaded already, ready after ");
    says(out_plain(&o, -1), "shared by a.ipynb (you), b.ipynb");
    runs("%ps");
    says(out_plain(&o, -1), "small is used by a.ipynb (you), b.ipynb; at work");
    snprintf(fake_model.user, sizeof fake_model.user, "b.ipynb");
    fake_model.users = 1;
    runs("%unload small");
    says(out_plain(&o, -1), "b.ipynb");
    says(out_plain(&o, -1), "1.27 GiB before, 1.26 GiB after");
    fake_model.users = 0;
    fake_model.idle_s = 90;
    runs("%ps");
    says(out_plain(&o, -1), "used by nobody, idle for 90.0 s");
    fake_model = was;
}
static void waiting_is_told(void **state) {
    (void)state;
    fake.done.waited_ms = 1000;
    runs("%generate a");
    says(out_plain(&o, -1), "waited 1.00 s for other jobs");
    fake.done.waited_ms = 20; /* of 2893 */
    runs("%generate a");
    assert_null(strstr(out_plain(&o, -1), "waited"));
    fake.profile = (struct engine_profile){ .runs = 1,
                                            .prompt_tokens = 8,
                                            .decode_steps = 2,
                                            .wall_ms = { 10, 5 },
                                            .spans_ms = { 9, 4 },
                                            .waited_ms = 30,
                                            .model = "small" };
    runs("%profile");
    says(out_plain(&o, -1), "! waited 30.0 ms for other jobs");
    is("select waited_ms from run where kind = 'profile'", "30.0");
}
static void engine_inside_this_kernel(void **state) {
    (void)state;
    setenv("JAEDA_ENGINE", "local:", 1);
    runs("%engine");
    says(out_plain(&o, -1), "in this kernel (local:)");
    fails("%engine stop", STATUS_INVALID, "the engine runs in this kernel (local:)");
    fails("%engine restart", STATUS_INVALID, "the engine runs in this kernel (local:)");
    fails("%engine idle 30m", STATUS_INVALID, "no idle limit");
    runs("%engine log");
    says(printed(), "%log");
    fails("%engine nonsense", STATUS_INVALID, "status, stop, restart, log and idle");
    setenv("JAEDA_ENGINE", "ipc:/x", 1);
    static const struct {
        const char *text;
        double s;
    } good[] = { { "30m", 1800 }, { "never", -1 }, { "0", 0 }, { "90s", 90 }, { "1h30m", 5400 }, { "1d", 86400 } };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char code[64];
        snprintf(code, sizeof code, "%%engine idle %s", good[i].text);
        runs(code);
        assert_true(fake.last.kind == ENGINE_REQ_ENGINE && fake.last.set_idle && fake.last.idle_s == good[i].s);
    }
    static const char *const bad[] = { "30", "m", "-5m", "5x", "1e400s", "400d", "nan", "inf", "0x1m", "1.5h", "\"\"" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char code[64];
        snprintf(code, sizeof code, "%%engine idle %s", bad[i]);
        fails(code, STATUS_INVALID, "");
    }
    runs("%engine log -n 7");
    says(printed(), "the last 7 lines of ipc:/x with hf_<hidden>");
    unsetenv("JAEDA_ENGINE");
}
int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = { T(a_generation_is_kept_with_all_that_repeats_it),
                                        T(the_line_that_repeats_asks_for_the_same),
                                        T(what_is_not_to_be_kept_is_not),
                                        T(secrets_are_in_no_byte_of_the_file),
                                        T(an_end_before_the_end_is_kept),
                                        T(runs_lists_shows_and_deletes),
                                        T(a_damaged_file_is_set_aside),
                                        T(a_newer_file_is_left_alone),
                                        T(a_place_that_cannot_be_written_is_one_line),
                                        T(on_a_network_home),
                                        T(many_threads_add_at_once),
                                        T(no_memory_is_an_error_and_no_more),
                                        T(load_remembers),
                                        T(who_shares_what),
                                        T(waiting_is_told),
                                        T(engine_inside_this_kernel) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
