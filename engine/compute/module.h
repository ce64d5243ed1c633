/* module.h - backends that are not part of the program: shared objects with one entry, opened when there is a device. */
#ifndef JAEDA_COMPUTE_MODULE_H
#define JAEDA_COMPUTE_MODULE_H
#include "compute/backend.h"
#ifdef __cplusplus
extern "C" {
#endif

/* What a module exports as backend_entry: its table, or NULL when it was built for another BACKEND_ABI. */
typedef const struct backend_api *backend_entry_fn(int abi);
/* name: "cuda": libjaeda-cuda.so in the folder of the running program; or a path (with a '/'). Opened once and kept for the
 * life of the process. NULL: e says why, in one line. Any thread. */
const struct backend_api *module_open(const char *name, struct err *e);

#ifdef __cplusplus
}
#endif
#endif
