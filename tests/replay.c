/* replay.c - runs a libFuzzer target over every file of the folders it is given, for builds without libFuzzer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return perror(path), 1;
    uint8_t *bytes = NULL;
    size_t n = 0, capacity = 0;
    for (;;) {
        if (n == capacity) {
            capacity = capacity ? capacity * 2 : 1 << 16;
            bytes = realloc(bytes, capacity);
            if (!bytes) abort();
        }
        size_t got = fread(bytes + n, 1, capacity - n, f);
        if (got == 0) break;
        n += got;
    }
    fclose(f);
    /* An exact-size copy, so that AddressSanitizer sees a read one byte past the input. */
    uint8_t *exact = malloc(n ? n : 1);
    if (!exact) abort();
    memcpy(exact, bytes, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    free(bytes);
    return 0;
}

int main(int argc, char **argv) {
    int files = 0, failed = 0;
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (!dir) continue;
        for (struct dirent *e; (e = readdir(dir));) {
            char path[4096];
            struct stat st;
            snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
            if (stat(path, &st) || !S_ISREG(st.st_mode)) continue;
            failed += replay_file(path);
            files++;
        }
        closedir(dir);
    }
    printf("replayed %d files\n", files);
    return failed != 0;
}
