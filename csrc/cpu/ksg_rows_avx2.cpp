// The tile is that of pairwise_distances_avx2.cpp.
#define MSMA_ISA avx2
#define MSMA_LANES_AVX2
#define MSMA_DISTANCE_ROWS 6
#define MSMA_DISTANCE_COLUMNS 2
#include "ksg_rows-inl.hpp"
