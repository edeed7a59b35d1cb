/* fuzz_config.c - any bytes as config.json: refused, or a shape whose numbers can be used. */
#include "engine/config.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static model_config c;
    ph_error err;
    if (config_parse(&c, (const char *)data, size, &err)) return 0;
    float *freq = malloc((size_t)(c.rope / 2) * sizeof *freq);
    if (!freq) return 0;
    config_rope_freq(&c, freq);
    for (int i = 0; i < c.rope / 2; i++)
        if (!isfinite(freq[i])) abort();
    free(freq);
    if (!(c.softmax_scale > 0) || !isfinite(c.softmax_scale)) abort();
    if (!c.index_full[0] || c.layers < 1 || c.layers > CONFIG_MAX_LAYERS) abort();
    if ((int64_t)c.heads * (c.nope + c.rope) > 1 << 24 || (int64_t)c.heads * (c.nope + c.v_dim) > 1 << 24)
        abort();
    return 0;
}
