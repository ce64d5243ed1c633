#define CURL_DISABLE_DEPRECATION /* CURLOPT_PROTOCOLS: the string options came with 7.85, Ubuntu 22.04 has 7.81 */
#include "fetch.h"
#include "kernel/language/state.h"
#include "kernel/present/progress.h"
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { REDIRECTS = 5, CONNECT_S = 10, STALL_S = 30 };
static const double BAR_AFTER_S = 1;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void begin(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

struct fetching {
    CURL *easy;
    CURLM *multi;
    struct out *o;
    struct buf *to;
    const char *url, *name;
    char why[CURL_ERROR_SIZE];
    struct progress progress;
};
static size_t on_bytes(char *p, size_t size, size_t n, void *arg) {
    struct fetching *f = arg;
    return buf_add(f->to, p, size * n) ? 0 : size * n;
}
static int set_up(struct fetching *f, struct err *e) {
    pthread_once(&once, begin);
    f->easy = curl_easy_init();
    f->multi = curl_multi_init();
    if (!f->easy || !f->multi) return err_set(e, STATUS_NOMEM, "out of memory for a download");
    const long web = CURLPROTO_HTTP | CURLPROTO_HTTPS;
    CURLcode rc = curl_easy_setopt(f->easy, CURLOPT_URL, f->url);
    curl_easy_setopt(f->easy, CURLOPT_PROTOCOLS, web);
    curl_easy_setopt(f->easy, CURLOPT_REDIR_PROTOCOLS, web);
    curl_easy_setopt(f->easy, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(f->easy, CURLOPT_MAXREDIRS, (long)REDIRECTS);
    curl_easy_setopt(f->easy, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(f->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(f->easy, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(f->easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(f->easy, CURLOPT_LOW_SPEED_TIME, (long)STALL_S);
    curl_easy_setopt(f->easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)f->to->max);
    curl_easy_setopt(f->easy, CURLOPT_USERAGENT, "jaeda/" JAEDA_VERSION);
    curl_easy_setopt(f->easy, CURLOPT_ERRORBUFFER, f->why);
    curl_easy_setopt(f->easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(f->easy, CURLOPT_WRITEDATA, f);
    if (rc || curl_multi_add_handle(f->multi, f->easy)) return err_set(e, STATUS_NOMEM, "out of memory for a download");
    return 0;
}
static void show(struct fetching *f) {
    double seconds = 0;
    curl_off_t total = 0;
    char what[160];
    curl_easy_getinfo(f->easy, CURLINFO_TOTAL_TIME, &seconds);
    if (seconds < BAR_AFTER_S) return;
    curl_easy_getinfo(f->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &total);
    snprintf(what, sizeof what, "fetching %s", f->name);
    interp_resume();
    progress_update(&f->progress, what, (double)f->to->n, total > 0 ? (double)total : 0, "B");
    interp_pause();
}
/* What the transfer ended in. */
static CURLcode transfer(struct fetching *f, struct err *e) {
    int running = 1, left;
    CURLMcode rc = CURLM_OK;
    while (!rc && running && !out_interrupted(f->o)) {
        struct curl_waitfd stop = { out_interrupt_fd(f->o), CURL_WAIT_POLLIN, 0 };
        rc = curl_multi_perform(f->multi, &running);
        if (!rc && running) rc = curl_multi_poll(f->multi, &stop, 1, 250, NULL);
        show(f);
    }
    if (out_interrupted(f->o)) err_set(e, STATUS_CANCELLED, "interrupted while %s was fetched", f->name);
    const CURLMsg *m = curl_multi_info_read(f->multi, &left);
    return m ? m->data.result : CURLE_OUT_OF_MEMORY;
}
static int explain(const struct fetching *f, CURLcode rc, struct err *e) {
    const char *url = f->url, *why = *f->why ? f->why : curl_easy_strerror(rc);
    long status = 0;
    switch (rc) {
    case CURLE_HTTP_RETURNED_ERROR:
        curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
        return err_set(e, status == 404 || status == 410 ? STATUS_NOTFOUND : STATUS_IO, "%.200s: the server says %ld%s",
                       url, status,
                       status == 404 || status == 410   ? ", there is no such file"
                       : status == 401 || status == 403 ? ", it does not hand it out"
                                                        : "");
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return err_set(e, STATUS_IO, "%.180s: no such host, or no network here: %.80s", url, why);
    case CURLE_COULDNT_CONNECT: return err_set(e, STATUS_IO, "%.180s: no server answers there: %.100s", url, why);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return err_set(e, STATUS_IO, "%.160s: its certificate is not trusted here, nothing was read: %.100s", url, why);
    case CURLE_TOO_MANY_REDIRECTS:
        return err_set(e, STATUS_IO, "%.200s: redirected more than %d times, in a circle perhaps", url, REDIRECTS);
    case CURLE_UNSUPPORTED_PROTOCOL:
        return err_set(e, STATUS_INVALID, "%.200s: redirected to what is neither http nor https", url);
    case CURLE_FILESIZE_EXCEEDED:
    case CURLE_WRITE_ERROR: return err_set(e, STATUS_INVALID, "%.200s is larger than %zu MiB", url, f->to->max >> 20);
    case CURLE_OPERATION_TIMEDOUT:
        return err_set(e, STATUS_IO, "%.180s: the server is too slow, given up: %.100s", url, why);
    default: return err_set(e, STATUS_IO, "%.180s: %.120s", url, why);
    }
}
int fetch_url(struct out *o, const char *url, const char *name, struct buf *out, char type[64], struct err *e) {
    struct fetching f = { .o = o, .to = out, .url = url, .name = name };
    const char *told = NULL;
    progress_init(&f.progress, o);
    int rc = set_up(&f, e);
    if (!rc) {
        interp_pause();
        const CURLcode ended = transfer(&f, e);
        interp_resume();
        rc = e->code ? e->code : ended ? explain(&f, ended, e) : 0;
        if (progress_shown(&f.progress)) progress_end(&f.progress, json_object()); /* {}: it vanishes */
        curl_easy_getinfo(f.easy, CURLINFO_CONTENT_TYPE, &told);
        snprintf(type, 64, "%s", told ? told : "");
        curl_multi_remove_handle(f.multi, f.easy);
    }
    curl_easy_cleanup(f.easy);
    curl_multi_cleanup(f.multi);
    return rc;
}
