// The body of weighted differences for this machine.
#include "differences.hpp"

#include "msma/cpu.hpp"

namespace msma {

AddWeightedDifferences best_weighted_differences() {
#ifdef MSMA_X86_BODIES
    if (at_least(InstructionSet::avx512)) return avx512::add_weighted_differences;
    if (at_least(InstructionSet::avx2)) return avx2::add_weighted_differences;
#endif
    return scalar::add_weighted_differences;
}

}  // namespace msma
