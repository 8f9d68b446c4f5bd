#define MSMA_ISA avx2
#define MSMA_SCREEN_AVX2
#define MSMA_CODES_PER_WORD 2
#include "screen-inl.hpp"
