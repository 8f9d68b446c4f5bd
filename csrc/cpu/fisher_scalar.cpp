// Tile: four lanes are one SSE register.
#define MSMA_ISA scalar
#define MSMA_LANES_SCALAR
#define MSMA_FISHER_ROWS 4
#define MSMA_FISHER_COLUMNS 2
#include "fisher-inl.hpp"
