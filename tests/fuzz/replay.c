/* replay.c - stands in for libFuzzer: feeds every file named on the command line, and every file of the folders named
 * there, to the target, in order of name. A target that finds a fault traps. */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replayed, unread;

static void replay_file(const char *path) {
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st)) {
        fprintf(stderr, "replay: cannot read %s\n", path);
        unread++;
        if (f) fclose(f);
        return;
    }
    /* Exactly as large as the input, so that a sanitizer sees a read beyond it. */
    uint8_t *data = malloc(st.st_size > 0 ? (size_t)st.st_size : 1);
    const size_t n = data ? fread(data, 1, (size_t)st.st_size, f) : 0;
    fclose(f);
    if (!data || n != (size_t)st.st_size) {
        unread++;
    } else {
        printf("replay: %s (%zu bytes)\n", path, n);
        fflush(stdout);
        LLVMFuzzerTestOneInput(data, n);
        replayed++;
    }
    free(data);
}
static int visible(const struct dirent *d) { return d->d_name[0] != '.'; }
static void replay(const char *path) {
    struct dirent **entry = NULL;
    const int n = scandir(path, &entry, visible, alphasort);
    if (n < 0) replay_file(path);
    for (int i = 0; i < n; i++) {
        char *full = NULL;
        if (asprintf(&full, "%s/%s", path, entry[i]->d_name) > 0) replay_file(full);
        free(full);
        free(entry[i]);
    }
    free(entry);
}
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) replay(argv[i]);
    printf("replay: %d inputs survived, %d could not be read\n", replayed, unread);
    return unread || !replayed;
}
