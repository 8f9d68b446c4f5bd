#define MSMA_ISA avx512
#define MSMA_SCREEN_AVX512
#define MSMA_CODES_PER_WORD 2
#include "screen-inl.hpp"
