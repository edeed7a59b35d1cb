# The instruction sets of the CPU backend, file by file: the rest of the program runs on any processor.
# -ffp-contract=off: the compiler must not fuse a * b + c by its own lights. What is fused is written so, and
# the same everywhere, because rows must come out identical whichever code path computes them.
file(GLOB cpu_sources CONFIGURE_DEPENDS kernels/*.c kernels/cpu/*.c)
set_source_files_properties(${cpu_sources} PROPERTIES COMPILE_OPTIONS "-O3;-ffp-contract=off")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set_source_files_properties(kernels/cpu/avx512.c PROPERTIES COMPILE_OPTIONS
    "-O3;-ffp-contract=off;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512bf16;-mavx512vnni;-mavx512vbmi;-mfma;-mf16c;-mprefer-vector-width=512")
  set_source_files_properties(kernels/cpu/avx2.c PROPERTIES COMPILE_OPTIONS
    "-O3;-ffp-contract=off;-mavx2;-mfma;-mf16c")
endif()
# No fuzz target runs a kernel: instrumenting their unrolled loops would cost that build most of its minutes.
if(PHAROS_FUZZ)
  set_property(SOURCE ${cpu_sources} APPEND PROPERTY COMPILE_OPTIONS
    "-O1;-fno-sanitize=all;-fno-sanitize-coverage=edge,trace-pc-guard,inline-8bit-counters,pc-table,trace-cmp")
endif()
