#include "err.h"
#include "utf8.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, int code, const char *fmt, ...) {
    if (!e || e->code) return code;
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof e->text) {
        const size_t have = sizeof e->text - 1;
        e->text[have - utf8_tail(e->text, have)] = 0;
    }
    e->code = code;
    return code;
}

const char *status_name(int code) {
    switch (code) {
#define X(id, num, ename)                                                                                              \
    case STATUS_##id: return ename;
        STATUS_MAP(X)
#undef X
    }
    return "Error";
}
