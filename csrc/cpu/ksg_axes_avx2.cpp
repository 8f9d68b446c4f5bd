#define MSMA_ISA avx2
#define MSMA_LANES_AVX2
#include "ksg_axes-inl.hpp"
