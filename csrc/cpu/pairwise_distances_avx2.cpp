// Tile: twelve sums, two registers of y, one of x and one of differences fill the sixteen registers.
#define MSMA_ISA avx2
#define MSMA_LANES_AVX2
#define MSMA_DISTANCE_ROWS 6
#define MSMA_DISTANCE_COLUMNS 2
#include "pairwise_distances-inl.hpp"
