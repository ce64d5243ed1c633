/* Any bytes as a file of torch.save, and as the pickle of one. */
#include "data/pickle.h"
#include "data/torch.h"
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct pickle p;
    struct tensor_list s;
    struct err e = { 0 };
    if (!pickle_read(&p, data, size, "fuzz", &e)) {
        if (p.root < 0 || p.root >= p.nodes || p.used > size) __builtin_trap();
        pickle_fini(&p);
    } else if (p.node || !e.text[0]) {
        __builtin_trap();
    }
    e = (struct err){ 0 };
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) __builtin_trap();
    if (torch_read(&s, fd, size, "fuzz", &e)) {
        if (s.tensor || s.names || !e.text[0]) __builtin_trap();
    } else {
        for (int i = 0; i < s.tensors; i++) {
            const struct tensor *t = &s.tensor[i];
            if (t->bytes > size || t->offset > size - t->bytes || !t->name || !t->dt_name[0]) __builtin_trap();
        }
        tensor_list_fini(&s);
    }
    close(fd);
    return 0;
}
