#include "module.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int module_path(char out[PATH_MAX], const char *name, struct err *e) {
    if (strchr(name, '/')) return snprintf(out, PATH_MAX, "%s", name), STATUS_OK;
    char self[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) return err_set(e, STATUS_IO, "the folder of this program cannot be found");
    self[n] = 0;
    *strrchr(self, '/') = 0;
    if (snprintf(out, PATH_MAX, "%s/libjaeda-%s.so", self, name) >= PATH_MAX)
        return err_set(e, STATUS_INVALID, "backend %.40s: the path is too long", name);
    if (access(out, R_OK)) return err_set(e, STATUS_NOTFOUND, "this build has no %.40s backend", name);
    return STATUS_OK;
}
const struct backend_api *module_open(const char *name, struct err *e) {
    char path[PATH_MAX];
    if (module_path(path, name, e)) return NULL;
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* never closed: its threads and handlers may outlive any user */
    if (!so) {
        const char *why = dlerror();
        err_set(e, STATUS_DEVICE, "the %.40s backend cannot be opened: %.200s", name, why ? why : "no reason given");
        return NULL;
    }
    backend_entry_fn *entry;
    *(void **)(void *)&entry = dlsym(so, "backend_entry");
    const struct backend_api *api = entry ? entry(BACKEND_ABI) : NULL;
    if (!api) err_set(e, STATUS_DEVICE, "%.200s is of another build: install both again", path);
    return api;
}
