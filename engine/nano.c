/* nano.c - puts engine/nano/'s four files into the program's read-only data. NANO_DIR comes from the build.
 */
#include "engine/nano.h"

#ifdef NANO_DIR

#define EMBED(symbol, file)                                                                                  \
    __asm__(".pushsection .rodata\n"                                                                         \
            ".balign 64\n"                                                                                   \
            ".global " #symbol "\n" #symbol ":\n"                                                            \
            ".incbin \"" NANO_DIR "/" file "\"\n"                                                            \
            ".global " #symbol "_end\n" #symbol "_end:\n"                                                    \
            ".byte 0\n"                                                                                      \
            ".popsection\n");                                                                                \
    extern const char symbol[], symbol##_end[]

EMBED(nano_config, "config.json");
EMBED(nano_generation, "generation_config.json");
EMBED(nano_tokenizer, "tokenizer.json");
EMBED(nano_weights, "model.safetensors");

const engine_files *nano_files(void) {
    static engine_files files;
    if (!files.config) {
        files = (engine_files){
            .name = "pharos-nano",
            .tokenizer = nano_tokenizer,
            .weights = nano_weights,
            .config_len = (size_t)(nano_config_end - nano_config),
            .tokenizer_len = (size_t)(nano_tokenizer_end - nano_tokenizer),
            .weights_len = (size_t)(nano_weights_end - nano_weights),
            .generation = nano_generation,
            .generation_len = (size_t)(nano_generation_end - nano_generation),
            .config = nano_config,
        };
    }
    return &files;
}

#else

const engine_files *nano_files(void) {
    return 0;
}

#endif
