// Tile: 24 sums of 32 registers; 12 x 2 and 14 x 2 are no faster (each at the pace of the arithmetic units, AMD Zen 4)
// and do not fill a group of 16.
#define MSMA_ISA avx512
#define MSMA_LANES_AVX512
#define MSMA_FISHER_ROWS 8
#define MSMA_FISHER_COLUMNS 3
#include "fisher-inl.hpp"
