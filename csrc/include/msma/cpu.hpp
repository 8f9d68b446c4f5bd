// What the processor and the operating system offer, and which instruction set the kernels use.
#pragma once

namespace msma {

// amx: avx512, but for the integer products of the certified screen, which take the tile unit.
enum class InstructionSet { scalar, avx2, avx512, amx };

struct CpuFeatures {
    bool avx2, fma;
    bool avx512f, avx512bw, avx512dq, avx512vl, avx512_vnni, avx512_bf16;
    bool amx_tile, amx_bf16, amx_int8;  // true only once the operating system has granted the tile registers
};

CpuFeatures cpu_features();

// The best set that was compiled, that this machine runs and that MSMA_FAST_CPU (read once) allows.
// Throws std::invalid_argument when the variable holds an unknown value.
InstructionSet instruction_set();

// Whether kernels compiled for `set` may run.
bool at_least(InstructionSet set);

// Why AMX tiles that are here and allowed are not used: a planted product came out wrong. Empty otherwise.
const char* amx_fault();

const char* name_of(InstructionSet set);

}  // namespace msma
