/* err.h - one error value for both processes: the first cause wins, the text names the thing and the way out. */
#ifndef JAEDA_BASE_ERR_H
#define JAEDA_BASE_ERR_H
#ifdef __cplusplus
extern "C" {
#endif

/* X(id, number, ename shown in a notebook) */
#define STATUS_MAP(X)                                                                                                  \
    X(OK, 0, "OK")                                                                                                     \
    X(INVALID, -1, "UsageError")                                                                                       \
    X(NOMEM, -2, "OutOfMemory")                                                                                        \
    X(DEVMEM, -3, "OutOfDeviceMemory")                                                                                 \
    X(FORMAT, -4, "FormatError")                                                                                       \
    X(IO, -5, "IOError")                                                                                               \
    X(DEVICE, -6, "DeviceError")                                                                                       \
    X(BUSY, -7, "EngineBusy")                                                                                          \
    X(CANCELLED, -8, "KeyboardInterrupt")                                                                              \
    X(GONE, -9, "EngineGone")                                                                                          \
    X(NOTFOUND, -10, "NotFound")                                                                                       \
    X(SHELL, -11, "CommandFailed")
enum status {
#define X(id, num, ename) STATUS_##id = num,
    STATUS_MAP(X)
#undef X
};

struct err {
    int code; /* enum status; STATUS_OK: nothing failed yet */
    char text[320];
};

/* Records a failure unless e already holds one; e may be NULL. Returns code, so that `return err_set(...)` reads well.
 * The text is cut at a whole UTF-8 character. */
__attribute__((format(printf, 3, 4))) int err_set(struct err *e, int code, const char *fmt, ...);
/* The ename of a status ("UsageError"); never NULL. */
const char *status_name(int code);

#ifdef __cplusplus
}
#endif
#endif
