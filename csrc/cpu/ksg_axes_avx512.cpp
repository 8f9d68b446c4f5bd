#define MSMA_ISA avx512
#define MSMA_LANES_AVX512
#include "ksg_axes-inl.hpp"
