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
static int port(const json_t *o, const char *channel, int *out, struct err *e) {
    char name[32];
    snprintf(name, sizeof name, "%s_port", channel);
    const json_t *v = json_object_get(o, name);
    if (!v) return err_set(e, STATUS_INVALID, "it has no %s", name);
    char *end = "";
    const char *s = json_string_value(v);
    const long long n = s ? strtoll(s, &end, 10) : json_is_integer(v) ? json_integer_value(v) : 0;
    if (*end || n < 1 || n > 65535) return err_set(e, STATUS_INVALID, "its %s is no port (1..65535)", name);
    *out = (int)n;
    return 0;
}
static int curve_key(const json_t *o, const char *name, char out[CURVE_KEY], struct err *e) {
    static const char Z85[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
    const char *s = json_string_value(json_object_get(o, name));
    if (!s || strlen(s) != CURVE_KEY - 1 || strspn(s, Z85) != CURVE_KEY - 1)
        return err_set(e, STATUS_INVALID, "its %s is no key of CurveZMQ: %d characters of Z85", name, CURVE_KEY - 1);
    memcpy(out, s, CURVE_KEY);
    return 0;
}
static int curve(struct connection *c, const json_t *o, struct err *e) {
    static const char PUBLIC[] = "curve_publickey", SECRET[] = "curve_secretkey";
    const bool public = json_object_get(o, PUBLIC), secret = json_object_get(o, SECRET);
    if (!public && !secret) return 0;
    if (!public || !secret)
        return err_set(e, STATUS_INVALID, "it has a %s and no %s: CurveZMQ encryption needs both",
                       public ? PUBLIC : SECRET, public ? SECRET : PUBLIC);
    const int rc = curve_key(o, PUBLIC, c->curve_public, e);
    return rc ? rc : curve_key(o, SECRET, c->curve_secret, e);
}
static int tcp_endpoint(const char *ip, int at, char *out, size_t size, struct err *e) {
    char text[16] = "*";
    if (at) snprintf(text, sizeof text, "%d", at);
    const bool v6 = strchr(ip, ':') && ip[0] != '[';
    const int n = snprintf(out, size, v6 ? "tcp://[%s]:%s" : "tcp://%s:%s", ip, text);
    return n < (int)size ? 0 : err_set(e, STATUS_INVALID, "the address %.150s is too long", out);
}
/* A launcher's: {kernel_id, registration_ip, registration_port}. ip, where the kernel listens, is the launcher's own
 * unless it says otherwise. */
static int registration(struct connection *c, const json_t *o, struct err *e) {
    char ip[sizeof c->ip];
    int at = 0;
    if (json_object_get(o, "shell_port"))
        return err_set(e, STATUS_INVALID, "it has both a shell_port and a registration_port: one of the two is meant");
    if (c->ipc) return err_set(e, STATUS_INVALID, "its transport is ipc, but a registration is for tcp");
    int rc = port(o, "registration", &at, e);
    if (!rc) rc = text(o, "registration_ip", "127.0.0.1", ip, sizeof ip, e);
    if (!rc) rc = text(o, "ip", ip, c->ip, sizeof c->ip, e);
    if (!rc) rc = text(o, "kernel_id", NULL, c->kernel_id, sizeof c->kernel_id, e);
    return rc ? rc : tcp_endpoint(ip, at, c->registration, sizeof c->registration, e);
}
static int members(struct connection *c, const json_t *o, struct err *e) {
    char transport[32];
    if (!json_is_object(o)) return err_set(e, STATUS_FORMAT, "it is no JSON object");
    int rc = text(o, "transport", "tcp", transport, sizeof transport, e);
    if (!rc) c->ipc = !strcmp(transport, "ipc");
    if (!rc && !c->ipc && strcmp(transport, "tcp"))
        rc = err_set(e, STATUS_INVALID, "its transport '%s' is neither tcp nor ipc", transport);
    if (!rc) rc = text(o, "key", "", c->key, sizeof c->key, e);
    if (!rc) rc = text(o, "signature_scheme", "hmac-sha256", c->scheme, sizeof c->scheme, e);
    if (!rc) rc = curve(c, o, e);
    if (rc) return rc;
    if (json_object_get(o, "registration_port")) return registration(c, o, e);
    rc = text(o, "ip", c->ipc ? NULL : "127.0.0.1", c->ip, sizeof c->ip, e);
    for (int i = 0; !rc && i < CHANNELS; i++) rc = port(o, channel_name((enum channel)i), &c->port[i], e);
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
    if (!c->ipc) return tcp_endpoint(c->ip, c->port[channel], out, size, e);
    const size_t limit = sizeof((struct sockaddr_un *)0)->sun_path;
    const int n = snprintf(out, size, "ipc://%s-%d", c->ip, c->port[channel]);
    if (strlen("ipc://") + limit <= (size_t)n || n >= (int)size)
        return err_set(e, STATUS_INVALID, "the socket path %.150s is longer than %zu bytes", out + strlen("ipc://"),
                       limit - 1);
    return 0;
}
void connection_remove_sockets(const struct connection *c) {
    char path[sizeof c->ip + 16];
    for (int i = 0; c->ipc && i < CHANNELS; i++) {
        snprintf(path, sizeof path, "%s-%d", c->ip, c->port[i]);
        unlink(path);
    }
}
