// The tile is that of pairwise_distances_scalar.cpp.
#define MSMA_ISA scalar
#define MSMA_LANES_SCALAR
#define MSMA_DISTANCE_ROWS 4
#define MSMA_DISTANCE_COLUMNS 2
#include "ksg_rows-inl.hpp"
