#include "engine/safetensors.h"
#include "engine/read_file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The format's own limit on a header, and generous ones on the rest (V3.2 has 163 shards and 90,000 tensors).
 */
enum {
    MAX_HEADER = 100000000,
    MAX_INDEX = 256 << 20,
    MAX_SHARDS = 100000,
    MAX_DIMS = 8,
    COPY_ALIGNMENT = 64
};

typedef struct mapping {
    void *base; /* NULL: borrowed memory */
    size_t size;
} mapping;

struct tensor_files {
    tensor *tensors; /* sorted by name once open */
    size_t n, capacity;
    mapping *maps;
    size_t n_maps;
    void **copies; /* misaligned tensors, and every tensor name */
    size_t n_copies, copies_capacity;
};

/* Keeps a block until close; frees it itself when it cannot be kept. */
static int keep(tensor_files *f, void *block, ph_error *err) {
    if (f->n_copies == f->copies_capacity) {
        size_t capacity = f->copies_capacity ? f->copies_capacity * 2 : 16;
        void **grown = realloc(f->copies, capacity * sizeof *grown);
        if (!grown) {
            free(block);
            return ph_fail(err, PH_MEMORY, "out of memory for %zu bytes", capacity * sizeof *grown);
        }
        f->copies = grown;
        f->copies_capacity = capacity;
    }
    f->copies[f->n_copies++] = block;
    return 0;
}

static const struct {
    const char *name;
    unsigned bits;
    tensor_type type;
} types[] = {
    {"F32", 32, TENSOR_F32},
    {"BF16", 16, TENSOR_BF16},
    {"F16", 16, TENSOR_F16},
    {"F8_E4M3", 8, TENSOR_FP8_E4M3},
    {"F64", 64, TENSOR_F64},
    {"I8", 8, TENSOR_I8},
    {"U8", 8, TENSOR_U8},
    {"I32", 32, TENSOR_I32},
    {"I64", 64, TENSOR_I64},
    {"BOOL", 8, TENSOR_OTHER},
    {"U16", 16, TENSOR_OTHER},
    {"I16", 16, TENSOR_OTHER},
    {"U32", 32, TENSOR_OTHER},
    {"U64", 64, TENSOR_OTHER},
    {"C64", 64, TENSOR_OTHER},
    {"F8_E5M2", 8, TENSOR_OTHER},
    {"F8_E8M0", 8, TENSOR_OTHER},
    {"F8_E4M3FNUZ", 8, TENSOR_OTHER},
    {"F8_E5M2FNUZ", 8, TENSOR_OTHER},
    {"F6_E2M3", 6, TENSOR_OTHER},
    {"F6_E3M2", 6, TENSOR_OTHER},
    {"F4", 4, TENSOR_OTHER},
};

/* What a header says about one tensor, checked against itself and the file but not yet against the others. */
typedef struct claim {
    tensor t;
    uint64_t begin, end;
} claim;

static int read_claim(claim *c, const char *name, const json_t *entry, uint64_t buffer, ph_error *err) {
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (!dtype || !json_is_array(shape) || !json_is_array(offsets) || json_array_size(offsets) != 2)
        return ph_fail(err, PH_MODEL, "tensor %.120s: dtype, shape or data_offsets is missing or malformed",
                       name);
    unsigned bits = 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i].name, dtype)) continue;
        bits = types[i].bits;
        c->t.type = types[i].type;
    }
    if (!bits) return ph_fail(err, PH_MODEL, "tensor %.120s has the unknown type %.40s", name, dtype);

    size_t n_dim = json_array_size(shape);
    if (n_dim > MAX_DIMS)
        return ph_fail(err, PH_MODEL, "tensor %.120s has %zu dimensions, more than %d", name, n_dim,
                       MAX_DIMS);
    c->t.n_dim = (int)n_dim;
    uint64_t size_bits = bits;
    for (size_t i = 0; i < n_dim; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return ph_fail(err, PH_MODEL, "tensor %.120s: a dimension is not a whole number", name);
        c->t.shape[i] = json_integer_value(d);
        if (__builtin_mul_overflow(size_bits, (uint64_t)c->t.shape[i], &size_bits))
            return ph_fail(err, PH_MODEL, "tensor %.120s: the product of its shape overflows", name);
    }
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (!json_is_integer(begin) || !json_is_integer(end) || json_integer_value(begin) < 0 ||
        json_integer_value(end) < json_integer_value(begin))
        return ph_fail(err, PH_MODEL, "tensor %.120s: data_offsets are not an ascending pair", name);
    c->begin = (uint64_t)json_integer_value(begin);
    c->end = (uint64_t)json_integer_value(end);
    if (c->end > buffer)
        return ph_fail(err, PH_MODEL,
                       "tensor %.120s ends at byte %llu of %llu: the file is truncated or lies", name,
                       (unsigned long long)c->end, (unsigned long long)buffer);
    if (size_bits % 8 || c->end - c->begin != size_bits / 8)
        return ph_fail(err, PH_MODEL, "tensor %.120s: its shape needs %llu bits and it has %llu bytes", name,
                       (unsigned long long)size_bits, (unsigned long long)(c->end - c->begin));
    c->t.bytes = (size_t)(c->end - c->begin);
    return 0;
}

static int by_begin(const void *a, const void *b) {
    const claim *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static int reserve(tensor_files *f, size_t more, ph_error *err) {
    if (f->n + more <= f->capacity) return 0;
    size_t capacity = f->capacity + more > f->capacity * 2 ? f->capacity + more : f->capacity * 2;
    tensor *grown = realloc(f->tensors, capacity * sizeof *grown);
    if (!grown) return ph_fail(err, PH_MEMORY, "out of memory for %zu bytes", capacity * sizeof *grown);
    f->tensors = grown;
    f->capacity = capacity;
    return 0;
}

static size_t alignment(tensor_type type) {
    switch (type) {
    case TENSOR_F64:
    case TENSOR_I64:
    case TENSOR_OTHER:
        return 8;
    case TENSOR_F32:
    case TENSOR_I32:
        return 4;
    case TENSOR_BF16:
    case TENSOR_F16:
        return 2;
    default:
        return 1;
    }
}

/* Old writers did not pad the header, so that their data may stand at any address. */
static int place(tensor_files *f, tensor *t, const uint8_t *at, ph_error *err) {
    t->data = at;
    if (!t->bytes || (uintptr_t)at % alignment(t->type) == 0) return 0;
    size_t size = (t->bytes + COPY_ALIGNMENT - 1) / COPY_ALIGNMENT * COPY_ALIGNMENT;
    void *copy = aligned_alloc(COPY_ALIGNMENT, size);
    if (!copy) return ph_fail(err, PH_MEMORY, "out of memory for %zu bytes of tensor %.120s", size, t->name);
    memcpy(copy, at, t->bytes);
    t->data = copy;
    return keep(f, copy, err);
}

static int accept_claims(tensor_files *f, claim *claims, size_t n, const uint8_t *buffer, ph_error *err) {
    qsort(claims, n, sizeof *claims, by_begin);
    uint64_t covered = 0;
    for (size_t i = 0; i < n; i++) {
        if (claims[i].begin == claims[i].end) continue; /* an empty tensor overlaps nothing */
        if (claims[i].begin < covered)
            return ph_fail(err, PH_MODEL, "tensor %.120s overlaps another one", claims[i].t.name);
        covered = claims[i].end;
    }
    for (size_t i = 0; i < n; i++) {
        int code = place(f, &claims[i].t, buffer + claims[i].begin, err);
        if (code) return code;
        f->tensors[f->n++] = claims[i].t;
    }
    return 0;
}

static int read_entries(tensor_files *f, json_t *root, const uint8_t *buffer, uint64_t size, ph_error *err) {
    size_t n = json_object_size(root);
    claim *claims = calloc(n ? n : 1, sizeof *claims);
    if (!claims) return ph_fail(err, PH_MEMORY, "out of memory for %zu bytes", n * sizeof *claims);
    int code = reserve(f, n, err);
    n = 0;
    const char *name;
    json_t *entry;
    json_object_foreach(root, name, entry) {
        if (code) break;
        if (!strcmp(name, "__metadata__")) continue;
        char *copy = strdup(name);
        code = copy ? keep(f, copy, err) : ph_fail(err, PH_MEMORY, "out of memory for a tensor's name");
        if (code) break;
        claims[n].t.name = copy;
        code = read_claim(&claims[n], copy, entry, size, err);
        n++;
    }
    if (!code) code = accept_claims(f, claims, n, buffer, err);
    free(claims);
    return code;
}

/* Adds every tensor of one file's bytes. */
static int add_bytes(tensor_files *f, const uint8_t *bytes, size_t len, ph_error *err) {
    if (len < 8) return ph_fail(err, PH_MODEL, "%zu bytes are too few for a safetensors file", len);
    uint64_t header = 0;
    for (int i = 0; i < 8; i++) header |= (uint64_t)bytes[i] << (8 * i);
    if (header < 2 || header > MAX_HEADER || header > len - 8)
        return ph_fail(err, PH_MODEL, "the header claims %llu bytes in a file of %zu",
                       (unsigned long long)header, len);
    json_t *root;
    int code = read_file_json(&root, (const char *)bytes + 8, (size_t)header, err);
    if (code) {
        ph_context(err, "the header is malformed");
        return code;
    }
    code = read_entries(f, root, bytes + 8 + header, len - 8 - header, err);
    json_decref(root);
    return code;
}

/* Maps one file; the mapping lives until close. The size is taken once: a file that is cut short while it is
 * mapped raises SIGBUS, which no check here can prevent. */
static int map_file(tensor_files *f, const char *path, mapping *out, ph_error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return ph_fail(err, errno == ENOENT ? PH_NOT_FOUND : PH_FAIL, "%s", strerror(errno));
    struct stat st;
    int code = 0;
    void *base = NULL;
    if (fstat(fd, &st))
        code = ph_fail(err, PH_FAIL, "%s", strerror(errno));
    else if (!S_ISREG(st.st_mode))
        code = ph_fail(err, PH_MODEL, "not a regular file");
    else if (st.st_size < 8)
        code = ph_fail(err, PH_MODEL, "%lld bytes are too few for a safetensors file", (long long)st.st_size);
    else if ((base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
        code = ph_fail(err, errno == ENOMEM ? PH_MEMORY : PH_FAIL, "cannot map %lld bytes: %s",
                       (long long)st.st_size, strerror(errno));
    close(fd);
    if (code) return code;
    *out = (mapping){base, (size_t)st.st_size};
    mapping *grown = realloc(f->maps, (f->n_maps + 1) * sizeof *grown);
    if (!grown) {
        munmap(base, out->size);
        return ph_fail(err, PH_MEMORY, "out of memory for %zu bytes", (f->n_maps + 1) * sizeof *grown);
    }
    f->maps = grown;
    f->maps[f->n_maps++] = *out;
    return 0;
}

static int add_file(tensor_files *f, const char *path, ph_error *err) {
    mapping m;
    int code = map_file(f, path, &m, err);
    if (!code) code = add_bytes(f, m.base, m.size, err);
    if (code) ph_context(err, "%s", path);
    return code;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const tensor *)a)->name, ((const tensor *)b)->name);
}

/* Sorts for tensors_find; two shards must not both have a tensor. */
static int finish(tensor_files *f, ph_error *err) {
    if (f->n) qsort(f->tensors, f->n, sizeof *f->tensors, by_name);
    for (size_t i = 1; i < f->n; i++)
        if (!strcmp(f->tensors[i - 1].name, f->tensors[i].name))
            return ph_fail(err, PH_MODEL, "tensor %.120s stands in two shards", f->tensors[i].name);
    return 0;
}

static int plain_file_name(const char *s) {
    return s && *s && *s != '.' && !strchr(s, '/') && !strchr(s, '\\') && strlen(s) < 256;
}

static int by_string(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int add_shards(tensor_files *f, const char *dir, const char **names, size_t n, ph_error *err) {
    size_t shards = 0;
    qsort(names, n, sizeof *names, by_string);
    for (size_t i = 0; i < n; i++) {
        if (i && !strcmp(names[i], names[i - 1])) continue;
        char path[4096];
        if (++shards > MAX_SHARDS) return ph_fail(err, PH_MODEL, "%s: more than %d shards", dir, MAX_SHARDS);
        int code = read_file_path(path, sizeof path, dir, names[i], err);
        if (!code) code = add_file(f, path, err);
        if (code == PH_NOT_FOUND)
            return ph_fail(err, PH_MODEL, "%s: the shard %.200s is missing", dir, names[i]);
        if (code) return code;
    }
    return 0;
}

static int read_weight_map(tensor_files *f, const char *dir, const json_t *map, ph_error *err) {
    size_t n = json_object_size(map);
    if (!json_is_object(map) || !n)
        return ph_fail(err, PH_MODEL, "%s: model.safetensors.index.json has no weight_map", dir);
    const char **names = malloc(n * sizeof *names);
    if (!names) return ph_fail(err, PH_MEMORY, "out of memory for %zu bytes", n * sizeof *names);
    int code = 0;
    n = 0;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)map, name, value) {
        names[n] = json_string_value(value);
        if (!plain_file_name(names[n])) {
            code = ph_fail(err, PH_MODEL, "%s: the shard of tensor %.120s is no plain file name", dir, name);
            break;
        }
        n++;
    }
    if (!code) code = add_shards(f, dir, names, n, err);
    free(names);
    if (!code) code = finish(f, err);
    if (code) return code;
    /* A shard that lacks what the index promises is an old or mixed download: say so now, by name. */
    json_object_foreach((json_t *)map, name, value) {
        if (!tensors_find(f, name))
            return ph_fail(err, PH_MODEL, "%s: tensor %.120s is not in the shard that the index names", dir,
                           name);
    }
    return 0;
}

static int open_sharded(tensor_files *f, const char *dir, ph_error *err) {
    char path[4096];
    char *text;
    size_t len;
    int code = read_file_path(path, sizeof path, dir, "model.safetensors.index.json", err);
    if (code) return code;
    code = read_file_text(&text, &len, path, MAX_INDEX, err);
    if (code == PH_NOT_FOUND)
        return ph_fail(err, PH_MODEL, "%s has neither model.safetensors nor model.safetensors.index.json",
                       dir);
    if (code) return code;
    json_t *root;
    code = read_file_json(&root, text, len, err);
    free(text);
    if (code) {
        ph_context(err, "%s", path);
        return code;
    }
    code = read_weight_map(f, dir, json_object_get(root, "weight_map"), err);
    json_decref(root);
    return code;
}

static int deliver(tensor_files **out, tensor_files *f, int code) {
    if (code) {
        tensors_close(f);
        f = NULL;
    }
    *out = f;
    return code;
}

static int start(tensor_files **out, tensor_files **f, ph_error *err) {
    *out = NULL;
    *f = calloc(1, sizeof **f);
    return *f ? 0 : ph_fail(err, PH_MEMORY, "out of memory for %zu bytes", sizeof **f);
}

int tensors_open_dir(tensor_files **out, const char *dir, ph_error *err) {
    tensor_files *f;
    char path[4096];
    int code = start(out, &f, err);
    if (code) return code;
    code = read_file_path(path, sizeof path, dir, "model.safetensors", err);
    if (!code) code = add_file(f, path, err);
    if (!code) code = finish(f, err);
    if (code == PH_NOT_FOUND) {
        if (err) *err = (ph_error){0};
        code = open_sharded(f, dir, err);
    }
    return deliver(out, f, code);
}

int tensors_open_file(tensor_files **out, const char *path, ph_error *err) {
    tensor_files *f;
    int code = start(out, &f, err);
    if (code) return code;
    code = add_file(f, path, err);
    if (!code) code = finish(f, err);
    return deliver(out, f, code);
}

int tensors_open_memory(tensor_files **out, const void *bytes, size_t len, ph_error *err) {
    tensor_files *f;
    int code = start(out, &f, err);
    if (code) return code;
    code = add_bytes(f, bytes, len, err);
    if (!code) code = finish(f, err);
    return deliver(out, f, code);
}

void tensors_close(tensor_files *f) {
    if (!f) return;
    for (size_t i = 0; i < f->n_maps; i++) munmap(f->maps[i].base, f->maps[i].size);
    for (size_t i = 0; i < f->n_copies; i++) free(f->copies[i]);
    free(f->maps);
    free(f->copies);
    free(f->tensors);
    free(f);
}

size_t tensors_count(const tensor_files *f) {
    return f->n;
}

const tensor *tensors_at(const tensor_files *f, size_t i) {
    return i < f->n ? &f->tensors[i] : NULL;
}

const tensor *tensors_find(const tensor_files *f, const char *name) {
    size_t low = 0, high = f->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(name, f->tensors[mid].name);
        if (order == 0) return &f->tensors[mid];
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}
