/* nano.h - the embedded model's files, linked into the program (library `nano`; the files are in
 * engine/nano/). */
#ifndef PHAROS_NANO_H
#define PHAROS_NANO_H

#include "engine/engine.h"

/* NULL in a build without engine/nano/model.safetensors. */
const engine_files *nano_files(void);

#endif
