#define MSMA_ISA scalar
#define MSMA_LANES_SCALAR
#include "ksg_axes-inl.hpp"
