// The tile is that of pairwise_distances_avx512.cpp.
#define MSMA_ISA avx512
#define MSMA_LANES_AVX512
#define MSMA_DISTANCE_ROWS 12
#define MSMA_DISTANCE_COLUMNS 2
#include "ksg_rows-inl.hpp"
