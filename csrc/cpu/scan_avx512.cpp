#define MSMA_ISA avx512
#include "scan-inl.hpp"
