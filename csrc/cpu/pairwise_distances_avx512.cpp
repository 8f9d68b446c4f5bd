// Tile: 24 sums of 32 registers, as a tall tile, which asks the caches for the fewest bytes a step.
#define MSMA_ISA avx512
#define MSMA_LANES_AVX512
#define MSMA_DISTANCE_ROWS 12
#define MSMA_DISTANCE_COLUMNS 2
#include "pairwise_distances-inl.hpp"
