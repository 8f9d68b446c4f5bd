// Tile: sixteen pairs are half of the registers; 4 x 5 and 4 x 6 were no faster (block_keys, 2048 x 2048 x
// 576, AMD Zen 4).
#define MSMA_ISA avx512
#define MSMA_LANES_AVX512
#define MSMA_TILE_ROWS 4
#define MSMA_TILE_COLUMNS 4
#include "keys-inl.hpp"
