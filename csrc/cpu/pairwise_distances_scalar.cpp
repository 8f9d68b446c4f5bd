// Tile: with the compiler's own SSE registers, 2 x 2 was the fastest of 2 x 2, 3 x 2 and 4 x 2.
#define MSMA_ISA scalar
#define MSMA_LANES_SCALAR
#define MSMA_DISTANCE_ROWS 2
#define MSMA_DISTANCE_COLUMNS 2
#include "pairwise_distances-inl.hpp"
