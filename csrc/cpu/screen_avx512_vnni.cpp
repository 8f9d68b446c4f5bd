#define MSMA_ISA avx512_vnni
#define MSMA_SCREEN_VNNI
#define MSMA_CODES_PER_WORD 4
#include "screen-inl.hpp"
