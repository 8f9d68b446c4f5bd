#define MSMA_ISA avx512
#define MSMA_LANES_AVX512
#include "sketch-inl.hpp"
