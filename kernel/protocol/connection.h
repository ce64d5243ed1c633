/* connection.h - the connection file: which addresses to bind, and the keys to sign and to encrypt with. Pure but for reading the file. */
#ifndef JAEDA_KERNEL_PROTOCOL_CONNECTION_H
#define JAEDA_KERNEL_PROTOCOL_CONNECTION_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

/* X(id, name in the connection file) */
#define CHANNEL_MAP(X)                                                                                                 \
    X(SHELL, "shell")                                                                                                  \
    X(IOPUB, "iopub")                                                                                                  \
    X(STDIN, "stdin")                                                                                                  \
    X(CONTROL, "control")                                                                                              \
    X(HB, "hb")
enum channel {
#define X(id, name) CHANNEL_##id,
    CHANNEL_MAP(X)
#undef X
        CHANNELS
};
const char *channel_name(enum channel c);

enum { CURVE_KEY = 41 }; /* 32 bytes as Z85 text, and its NUL */
struct connection {
    bool ipc; /* else tcp */
    char ip[256];
    int port[CHANNELS]; /* 0: channel_bind takes a free one and writes it here */
    char key[256], scheme[32];
    char curve_public[CURVE_KEY], curve_secret[CURVE_KEY]; /* "": not encrypted */
    char kernel_id[256], registration[320];                /* "": no launcher waits to be told the ports */
};
/* Reads a connection file, or a registration file (JEP 66), which names the launcher instead of ports. Errors are one
 * line with the file's name and what is wrong with it, and hold no key. */
int connection_load(struct connection *c, const char *path, struct err *e);
/* The same from the file's text. */
int connection_parse(struct connection *c, const char *json, size_t n, struct err *e);
/* "tcp://127.0.0.1:5555", with port 0 "tcp://127.0.0.1:*"; or "ipc:///run/x-ipc-1". */
int connection_endpoint(const struct connection *c, enum channel channel, char *out, size_t size, struct err *e);
/* ZeroMQ leaves the files of ipc sockets behind. */
void connection_remove_sockets(const struct connection *c);

#endif
