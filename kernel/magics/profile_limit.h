/* profile_limit.h - the sentence that says what limits a step. Pure.
 *
 * A step can be no faster than its bytes at the measured memory bandwidth and its arithmetic at the measured peak. The
 * shares of these two that were reached decide, over the unprofiled wall time:
 *   less than 70 % of the wall time lies inside ops          -> overhead between calls
 *   more bytes a second than memory gives (above 105 %)       -> data come from the cache
 *   memory share at least 60 % and above the arithmetic share -> memory
 *   arithmetic share at least 50 %                            -> arithmetic
 *   else neither wall is near: the kernels themselves, and the slowest op is named. */
#ifndef JAEDA_MAGICS_PROFILE_LIMIT_H
#define JAEDA_MAGICS_PROFILE_LIMIT_H

struct limit_facts {
    const char *phase;
    double wall_ms, spans_ms, bytes, flops, calls; /* of one step */
    double stream_gbs, peak_gflops;                /* measured; 0: unknown */
    const char *slowest;                           /* label of the slowest op; NULL: not told */
    double slowest_ms;
};
void limit_sentence(const struct limit_facts *f, char out[320]);

#endif
