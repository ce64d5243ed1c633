/* zip.h - the directory of a ZIP archive (PKWARE APPNOTE 6.3: 4.3.6-4.3.16, 4.5.3) whose members are stored, not compressed,
 * as torch.save writes it. Nothing is ever unpacked; every place is checked against the file. */
#ifndef JAEDA_DATA_ZIP_H
#define JAEDA_DATA_ZIP_H
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

struct zip_member {
    const char *name;
    uint64_t head, at, bytes; /* of its own header; of its contents */
};
struct zip {
    struct zip_member *member; /* by name */
    int members;
    char *names;
};
/* Refuses compressed, encrypted, overlapping and doubled members, and what lies outside the file. On failure z is empty. */
int zip_read(struct zip *z, int fd, uint64_t file_bytes, const char *label, struct err *e);
void zip_fini(struct zip *z);
const struct zip_member *zip_find(const struct zip *z, const char *name); /* NULL: not there */

#endif
