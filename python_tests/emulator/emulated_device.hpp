// csrc/cuda/device.cuh on a host compiler (C++17, GCC): a fiber for every thread of a block. What each function does is
// said there; how a mistake in a kernel is found, in the files included here.
//
// g++ -std=c++17 -O1 -g -I python_tests/emulator -I csrc/cuda, and for each of these a build of its own:
//   -fsanitize=address: accesses beyond an array, reads of a copy before its wait
//   -fsanitize=thread: races in a block and between blocks
//   neither: divergence, shared memory that is read unwritten (two_fills.hpp), wrong results at many seeds (set_seed)
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "copies.hpp"
#include "fiber.hpp"
#include "products.hpp"
#include "shared_memory.hpp"
#include "warp.hpp"

#define MSMA_KERNEL void
#define MSMA_DEVICE inline
#define __device__
#define __global__

namespace msma::device {

constexpr int kWarp = 32;
static_assert(kWarp == emulator::kLanes, "lanes of a warp");

inline int thread() { return emulator::own_thread(); }
inline int lane() { return emulator::own_thread() & (kWarp - 1); }
inline int warp() { return emulator::own_thread() / kWarp; }
MSMA_UNWATCHED inline int threads() { return emulator::machine.threads; }
MSMA_UNWATCHED inline int block_x() { return static_cast<int>(emulator::machine.block[0]); }
MSMA_UNWATCHED inline int block_y() { return static_cast<int>(emulator::machine.block[1]); }
MSMA_UNWATCHED inline int blocks_x() { return static_cast<int>(emulator::machine.blocks[0]); }
MSMA_UNWATCHED inline int blocks_y() { return static_cast<int>(emulator::machine.blocks[1]); }

inline int count_bits(unsigned word) { return __builtin_popcount(word); }
inline int lowest_bit(unsigned word) { return __builtin_ffs(static_cast<int>(word)) - 1; }

inline int atomic_add(int* at, int value) {
    emulator::let_others();
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}
inline unsigned atomic_add(unsigned* at, unsigned value) {
    emulator::let_others();
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}

// The value, through a register that the compiler cannot see into: it may not fuse this operation with another.
inline double rounded(double value) {
#ifdef __x86_64__
    asm("" : "+x"(value));
    return value;
#else
    volatile double stored = value;
    return stored;
#endif
}
inline double add(double a, double b) { return rounded(a + b); }
inline double subtract(double a, double b) { return rounded(a - b); }
inline double multiply(double a, double b) { return rounded(a * b); }
inline double divide(double a, double b) { return rounded(a / b); }
inline double root(double a) { return rounded(std::sqrt(a)); }
inline float smaller(float a, float b) { return a < b || a != a ? a : b; }
inline float fused(float a, float b, float c) { return std::fmaf(a, b, c); }

inline uint64_t bits_of(double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline double double_of(uint64_t bits) {
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

}  // namespace msma::device
