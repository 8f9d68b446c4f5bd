// The kernel body for this machine.
#pragma once

#include "body.hpp"
#include "msma/cpu.hpp"

namespace msma {

template <typename T>
KeyBody<T> best_body(Kind kind) {
#ifdef MSMA_X86_BODIES
    if (instruction_set() == InstructionSet::avx512) return avx512::key_body<T>(kind);
    if (instruction_set() == InstructionSet::avx2) return avx2::key_body<T>(kind);
#endif
    return scalar::key_body<T>(kind);
}

}  // namespace msma
