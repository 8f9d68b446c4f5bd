// What the processor and the operating system offer, and which instruction set the kernels use.
#pragma once

namespace msma {

enum class InstructionSet { scalar, avx2, avx512 };

struct CpuFeatures {
    bool avx2, fma;
    bool avx512f, avx512bw, avx512dq, avx512vl, avx512_vnni, avx512_bf16;
    bool amx_tile, amx_bf16, amx_int8;  // true only once the operating system has granted the tile registers
};

CpuFeatures cpu_features();

// The best set that was compiled, that this machine runs and that MSMA_FAST_CPU (read once) allows.
// Throws std::invalid_argument when the variable holds an unknown value.
InstructionSet instruction_set();

const char* name_of(InstructionSet set);

}  // namespace msma
