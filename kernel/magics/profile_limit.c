#include "profile_limit.h"
#include "kernel/present/format.h"
#include <stdio.h>

void limit_sentence(const struct limit_facts *f, char out[320]) {
    if (!(f->stream_gbs > 0) || !(f->peak_gflops > 0) || !(f->wall_ms > 0)) {
        snprintf(out, 320, "What limits %s is not known: this machine's peaks were not measured.", f->phase);
        return;
    }
    const double gbs = f->bytes / f->wall_ms * 1e-6, gflops = f->flops / f->wall_ms * 1e-6;
    const double memory = gbs / f->stream_gbs, math = gflops / f->peak_gflops, inside = f->spans_ms / f->wall_ms;
    char b[32], bp[32], m[32], fl[32], fp[32], a[32], in[32], calls[32], slow[32];
    format_number(b, gbs);
    format_number(bp, f->stream_gbs);
    format_percent(m, memory);
    format_number(fl, gflops);
    format_number(fp, f->peak_gflops);
    format_percent(a, math);
    format_percent(in, inside);
    format_number(calls, f->calls);
    format_percent(slow, f->spans_ms > 0 ? f->slowest_ms / f->spans_ms : 0);
    if (inside < 0.7) {
        snprintf(out, 320,
                 "Overhead limits %s: only %s of the time is inside ops; the rest is starting %s calls and waiting for "
                 "threads.",
                 f->phase, in, calls);
    } else if (memory > 1.05) {
        snprintf(out, 320,
                 "The processor's cache feeds %s: %s GB/s where memory gives %s; its kernels limit, at %s of the peak "
                 "arithmetic.",
                 f->phase, b, bp, a);
    } else if (memory >= 0.6 && memory >= math) {
        snprintf(out, 320,
                 "Memory limits %s: %s of %s GB/s (%s), arithmetic at %s. Fewer bytes a token would help: a smaller "
                 "dtype, or more "
                 "sequences at once.",
                 f->phase, b, bp, m, a);
    } else if (math > 1.05) {
        snprintf(out, 320,
                 "Arithmetic limits %s: %s GFLOP/s, more than the %s measured as this machine's peak (it was slower at "
                 "that moment); memory at %s.",
                 f->phase, fl, fp, m);
    } else if (math >= 0.5) {
        snprintf(out, 320, "Arithmetic limits %s: %s of %s GFLOP/s (%s), memory at %s. More or wider cores would help.",
                 f->phase, fl, fp, a, m);
    } else {
        snprintf(out, 320,
                 "Neither memory (%s) nor arithmetic (%s) is near its peak in %s: its kernels limit%s%s%s%s%s", m, a,
                 f->phase, f->slowest ? ", above all " : "", f->slowest ? f->slowest : "", f->slowest ? " (" : "",
                 f->slowest ? slow : "", f->slowest ? " of the step)." : ".");
    }
}
