// Tile: twelve sums, three registers of columns and a broadcast fill the sixteen registers.
#define MSMA_ISA avx2
#define MSMA_LANES_AVX2
#define MSMA_FISHER_ROWS 4
#define MSMA_FISHER_COLUMNS 3
#include "fisher-inl.hpp"
