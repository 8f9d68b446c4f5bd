// Tile: 24 sums of 32 registers; 8 x 3 and 6 x 4 are as fast in the first-level cache (0.27 ns a step of subtract and
// multiply-add, AMD Zen 4), and the tall tile asks the other caches for the fewest bytes.
#define MSMA_ISA avx512
#define MSMA_LANES_AVX512
#define MSMA_DISTANCE_ROWS 12
#define MSMA_DISTANCE_COLUMNS 2
#include "pairwise_distances-inl.hpp"
