#include "msma/cpu.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>

#ifdef MSMA_AMX_BODY
#include "planted_product.hpp"
#endif

#if defined(__x86_64__) && defined(__GNUC__)
#define MSMA_HAVE_CPUID 1
#include <cpuid.h>
#endif
#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace msma {
namespace {

#ifdef MSMA_HAVE_CPUID

struct Registers {
    unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers leaf(unsigned number, unsigned sub) {
    Registers r;
    __get_cpuid_count(number, sub, &r.a, &r.b, &r.c, &r.d);
    return r;
}

bool bit(unsigned word, unsigned index) { return (word >> index) & 1u; }

// The register files that the operating system saves and restores (XCR0).
uint64_t saved_state() {
    if (!bit(leaf(1, 0).c, 27)) return 0;  // OSXSAVE
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t{high} << 32) | low;
}

bool all_of(uint64_t state, uint64_t mask) { return (state & mask) == mask; }

// Linux hands out the AMX tile data register (state component 18) only to processes that ask for it.
bool tiles_granted() {
#if defined(__linux__) && defined(SYS_arch_prctl)
    constexpr long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return false;
#endif
}

#endif  // MSMA_HAVE_CPUID

// The widest vectors of this machine.
InstructionSet widest(const CpuFeatures& f) {
#ifdef MSMA_X86_BODIES
    if (f.avx512f && f.avx512bw && f.avx512dq && f.avx512vl) return InstructionSet::avx512;
    if (f.avx2 && f.fma) return InstructionSet::avx2;
#else
    (void)f;
#endif
    return InstructionSet::scalar;
}

InstructionSet allowed_by_environment() {
    const char* value = std::getenv("MSMA_FAST_CPU");
    if (value == nullptr || *value == '\0') return InstructionSet::amx;
    const std::string name = value;
    if (name == "scalar") return InstructionSet::scalar;
    if (name == "avx2") return InstructionSet::avx2;
    if (name == "avx512") return InstructionSet::avx512;
    if (name == "amx") return InstructionSet::amx;
    throw std::invalid_argument("MSMA_FAST_CPU: expected one of scalar, avx2, avx512, amx, got '" + name + "'");
}

#ifdef MSMA_AMX_BODY
bool has_tiles([[maybe_unused]] const CpuFeatures& f, [[maybe_unused]] InstructionSet vectors) {
#ifdef MSMA_EMULATED_TILES
    return true;
#else
    return f.amx_tile && f.amx_int8 && f.avx512_vnni && vectors == InstructionSet::avx512;
#endif
}

// Three steps of the tiles, the last one half empty.
constexpr int64_t kPlantedDimension = 160;
#endif

struct Choice {
    InstructionSet vectors, set;  // they differ where the tiles are used
    std::string fault;
};

Choice choose() {
    const InstructionSet cap = allowed_by_environment();
    const CpuFeatures features = cpu_features();
    const InstructionSet vectors = std::min(widest(features), cap);
    Choice choice{vectors, vectors, ""};
#ifdef MSMA_AMX_BODY
    if (cap == InstructionSet::amx && has_tiles(features, vectors)) {
        choice.fault = fault_of(amx::screen_body(), kPlantedDimension);
        if (choice.fault.empty()) choice.set = InstructionSet::amx;
    }
#endif
    return choice;
}

const Choice& choice() {
    static const Choice chosen = choose();
    return chosen;
}

}  // namespace

CpuFeatures cpu_features() {
    CpuFeatures f{};
#ifdef MSMA_HAVE_CPUID
    const uint64_t state = saved_state();
    const bool ymm = all_of(state, 0x6), zmm = all_of(state, 0xe6), tiles = all_of(state, 0x60000);
    const Registers one = leaf(1, 0), seven = leaf(7, 0), seven_one = leaf(7, 1);
    f.avx2 = ymm && bit(seven.b, 5);
    f.fma = ymm && bit(one.c, 12);
    f.avx512f = zmm && bit(seven.b, 16);
    f.avx512dq = zmm && bit(seven.b, 17);
    f.avx512bw = zmm && bit(seven.b, 30);
    f.avx512vl = zmm && bit(seven.b, 31);
    f.avx512_vnni = zmm && bit(seven.c, 11);
    f.avx512_bf16 = zmm && bit(seven_one.a, 5);
    if (tiles && bit(seven.d, 24) && tiles_granted()) {
        f.amx_tile = true;
        f.amx_bf16 = bit(seven.d, 22);
        f.amx_int8 = bit(seven.d, 25);
    }
#endif
    return f;
}

InstructionSet instruction_set() { return choice().set; }

bool at_least(InstructionSet set) {
    return set <= choice().vectors || (set == InstructionSet::amx && choice().set == set);
}

const char* amx_fault() { return choice().fault.c_str(); }

const char* name_of(InstructionSet set) {
    switch (set) {
        case InstructionSet::amx:
            return "amx";
        case InstructionSet::avx512:
            return "avx512";
        case InstructionSet::avx2:
            return "avx2";
        case InstructionSet::scalar:
            break;
    }
    return "scalar";
}

}  // namespace msma
