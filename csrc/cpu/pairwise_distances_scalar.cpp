// Tile: four lanes are one SSE register; 4 x 2 was a fifth faster than 4 x 1 and 2 x 2 (d = 576, AMD Zen 4).
#define MSMA_ISA scalar
#define MSMA_LANES_SCALAR
#define MSMA_DISTANCE_ROWS 4
#define MSMA_DISTANCE_COLUMNS 2
#include "pairwise_distances-inl.hpp"
