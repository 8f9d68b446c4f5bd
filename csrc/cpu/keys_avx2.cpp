// Tile: six pairs are twelve of sixteen registers (block_keys, 2048 x 2048 x 576, AMD Zen 4).
#define MSMA_ISA avx2
#define MSMA_LANES_AVX2
#define MSMA_TILE_ROWS 3
#define MSMA_TILE_COLUMNS 2
#include "keys-inl.hpp"
