#define MSMA_ISA avx2
#define MSMA_LANES_AVX2
#include "sketch-inl.hpp"
