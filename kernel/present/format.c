#include "format.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Groups the digits before the point (or the end) by threes. */
static void group(char out[32], const char *digits) {
    const size_t whole = strcspn(digits + (*digits == '-'), ".");
    char *to = out;
    if (*digits == '-') *to++ = *digits++;
    for (size_t i = 0; i < whole && to < out + 28; i++) {
        *to++ = digits[i];
        if ((whole - i - 1) % 3 == 0 && i + 1 < whole) *to++ = ',';
    }
    snprintf(to, (size_t)(out + 32 - to), "%s", digits + whole);
}
void format_count(char out[32], uint64_t v) {
    char digits[32];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)v);
    group(out, digits);
}
void format_number(char out[32], double v) {
    const double a = fabs(v);
    if (!isfinite(v)) {
        snprintf(out, 32, "–");
    } else if (a == 0) {
        snprintf(out, 32, "0");
    } else if (a >= 1e15 || a < 0.000995) {
        snprintf(out, 32, "%.2e", v);
    } else if (a >= 99.95) {
        char digits[32];
        snprintf(digits, sizeof digits, "%.0f", v);
        group(out, digits);
    } else {
        const int decimals = a >= 9.995 ? 1 : a >= 0.9995 ? 2 : a >= 0.09995 ? 3 : a >= 0.009995 ? 4 : 5;
        snprintf(out, 32, "%.*f", decimals, v);
    }
}
void format_bytes(char out[32], double bytes) {
    static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    int u = 0;
    while (bytes >= 999.5 && u < 4) bytes /= 1024, u++;
    char n[32];
    if (u) {
        format_number(n, bytes);
    } else {
        snprintf(n, sizeof n, "%.0f", bytes);
    }
    snprintf(out, 32, "%.20s %s", n, unit[u]);
}
void format_seconds(char out[32], double s) {
    char n[32];
    if (!isfinite(s) || s < 0) {
        snprintf(out, 32, "–");
    } else if (s < 0.0009995) {
        format_number(n, s * 1e6);
        snprintf(out, 32, "%.20s µs", n);
    } else if (s < 0.9995) {
        format_number(n, s * 1e3);
        snprintf(out, 32, "%.20s ms", n);
    } else if (s < 120) {
        format_number(n, s);
        snprintf(out, 32, "%.20s s", n);
    } else if (s < 7200) {
        snprintf(out, 32, "%d min %d s", (int)(s / 60), (int)s % 60);
    } else {
        snprintf(out, 32, "%.0f h %d min", floor(s / 3600), (int)(fmod(s, 3600) / 60));
    }
}
void format_params(char out[32], uint64_t n) {
    static const char *const unit[] = { "", " K", " M", " B", " T" };
    double v = (double)n;
    int u = 0;
    while (v >= 999.5 && u < 4) v /= 1000, u++;
    char number[32];
    if (u) {
        format_number(number, v);
    } else {
        snprintf(number, sizeof number, "%.0f", v);
    }
    snprintf(out, 32, "%.20s%s", number, unit[u]);
}
void format_tenths(char out[32], double v) {
    if (!isfinite(v) || fabs(v) >= 99.95) {
        format_number(out, v);
    } else {
        snprintf(out, 32, "%.1f", v);
    }
}
void format_percent(char out[32], double part) {
    char n[32];
    format_number(n, part * 100);
    snprintf(out, 32, "%.20s %%", n);
}

void format_html(struct buf *out, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        switch (s[i]) {
        case '&': buf_puts(out, "&amp;"); break;
        case '<': buf_puts(out, "&lt;"); break;
        case '>': buf_puts(out, "&gt;"); break;
        case '"': buf_puts(out, "&quot;"); break;
        case '\'': buf_puts(out, "&#39;"); break;
        case '\n': buf_puts(out, "<br>"); break;
        default: buf_add(out, s + i, 1);
        }
    }
}
/* A backslash before $ too: JupyterLab and GitHub read $...$ as mathematics. */
void format_markdown(struct buf *out, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '<') {
            buf_puts(out, "&lt;");
        } else if (s[i] == '\n') {
            buf_puts(out, " ");
        } else {
            if (s[i] && strchr("\\`*_|[]$~", s[i])) buf_puts(out, "\\");
            buf_add(out, s + i, 1);
        }
    }
}

static bool key_letter(char c) { return isalnum((unsigned char)c) || c == '_' || c == '-'; }

void format_redacted(struct buf *out, const char *s, size_t n) {
    static const char *const mark[] = { "hf_", "AKIA", "ASIA", "sk-", "ghp_", "github_pat_", "glpat-", "xoxb-" };
    for (size_t i = 0; i < n;) {
        size_t cut = 0;
        const char *found = NULL;
        for (size_t m = 0; m < sizeof mark / sizeof *mark && !found; m++) {
            const size_t len = strlen(mark[m]);
            if ((i && key_letter(s[i - 1])) || n - i < len || memcmp(s + i, mark[m], len)) continue;
            for (cut = len; i + cut < n && key_letter(s[i + cut]);) cut++;
            if (cut >= len + 8) found = mark[m]; /* shorter ones are words, such as hf_home */
        }
        if (found) {
            buf_printf(out, "%s<hidden>", found);
            i += cut;
        } else {
            buf_add(out, s + i++, 1);
        }
    }
}
bool format_is_secret_name(const char *name) {
    static const char *const mark[] = { "key", "token", "secret", "password", "passwd", "credential" };
    for (size_t m = 0; m < sizeof mark / sizeof *mark; m++)
        if (strcasestr(name, mark[m])) return true;
    return false;
}
