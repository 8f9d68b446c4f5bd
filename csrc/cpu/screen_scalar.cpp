#define MSMA_ISA scalar
#define MSMA_SCREEN_SCALAR
#define MSMA_CODES_PER_WORD 2
#include "screen-inl.hpp"
