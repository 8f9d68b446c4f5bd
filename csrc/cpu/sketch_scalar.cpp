#define MSMA_ISA scalar
#define MSMA_LANES_SCALAR
#include "sketch-inl.hpp"
