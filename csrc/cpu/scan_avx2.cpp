#define MSMA_ISA avx2
#include "scan-inl.hpp"
