#define MSMA_ISA amx
#define MSMA_SCREEN_AMX
#ifdef __AVX512F__
#define MSMA_SCREEN_AVX512
#else  // emulated tiles on a processor with shorter vectors
#define MSMA_SCREEN_SCALAR
#endif
#define MSMA_CODES_PER_WORD 4
#include "screen-inl.hpp"
