/* format.h - numbers, sizes and texts as people read them. Pure; every out array holds at least 32 bytes. */
#ifndef JAEDA_PRESENT_FORMAT_H
#define JAEDA_PRESENT_FORMAT_H
#include "base/buf.h"
#include <stdint.h>

/* Three significant digits, integers whole and grouped: 0.0123, 1.42, 44.8, 2,415. No number: "–". */
void format_number(char out[32], double v);
void format_count(char out[32], uint64_t v);    /* 1,048,576 */
void format_bytes(char out[32], double bytes);  /* 93.8 MiB, 1.20 GiB */
void format_seconds(char out[32], double s);    /* 412 µs, 48.0 ms, 1.42 s, 2 min 13 s */
void format_params(char out[32], uint64_t n);   /* 135 M, 5.89 B */
void format_percent(char out[32], double part); /* 0.88 -> 88.0 % */
void format_tenths(char out[32], double v);     /* one digit behind the point: of shares and rates in a column */

/* Appends text with what HTML or a markdown table cell would take for markup made literal. */
void format_html(struct buf *out, const char *s, size_t n);
void format_markdown(struct buf *out, const char *s, size_t n);
/* Appends text with access keys (hf_..., AKIA..., sk-..., ghp_...) cut to their mark: "hf_<hidden>". */
void format_redacted(struct buf *out, const char *s, size_t n);
/* Is this the name of something that must not be shown? (key, token, secret, password, credential) */
bool format_is_secret_name(const char *name);

#endif
