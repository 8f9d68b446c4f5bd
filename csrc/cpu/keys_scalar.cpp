// Tile: one pair fills the sixteen SSE registers (block_keys, 2048 x 2048 x 576, AMD Zen 4).
#define MSMA_ISA scalar
#define MSMA_LANES_SCALAR
#define MSMA_TILE_ROWS 1
#define MSMA_TILE_COLUMNS 1
#include "keys-inl.hpp"
