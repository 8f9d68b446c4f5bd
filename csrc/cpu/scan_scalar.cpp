#define MSMA_ISA scalar
#include "scan-inl.hpp"
