// What the kernels ask of a GPU, by names of our own: a GPU gives it by instructions, and the emulator of the tests
// (python_tests/emulator) by plain C++, so that every kernel also runs, is checked for races and bounds, and is
// compared with the oracles where there is no GPU. A kernel uses nothing of CUDA but these names, __device__,
// __global__ and what is here.
//
// A warp is 32 lanes. Every function with `warp` or `tile` in its comment is called by all lanes of a warp at once, at
// the same place of the program; sync_block by all threads of a block. Shared memory is handed out by Shared, never
// declared. Barriers order memory, votes and shuffles do not. No kernel relies on anything finer than barriers and
// relaxed atomics.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define MSMA_UNROLL _Pragma("unroll")
#define MSMA_ROLLED _Pragma("unroll 1")
#define MSMA_CALLED __device__ __noinline__ inline  // what is long and seldom done
#else
#define MSMA_UNROLL
#define MSMA_ROLLED
#define MSMA_CALLED inline
#endif

#ifndef __CUDACC__
#include "emulated_device.hpp"
#else

#include <cuda_bf16.h>

#define MSMA_KERNEL __global__ void
#define MSMA_DEVICE __device__ __forceinline__

namespace msma::device {

constexpr int kWarp = 32;

MSMA_DEVICE int thread() { return static_cast<int>(threadIdx.x); }  // of the block
MSMA_DEVICE int threads() { return static_cast<int>(blockDim.x); }
MSMA_DEVICE int lane() { return static_cast<int>(threadIdx.x) & (kWarp - 1); }
MSMA_DEVICE int warp() { return static_cast<int>(threadIdx.x) / kWarp; }  // of the block
MSMA_DEVICE int block_x() { return static_cast<int>(blockIdx.x); }
MSMA_DEVICE int block_y() { return static_cast<int>(blockIdx.y); }
MSMA_DEVICE int blocks_x() { return static_cast<int>(gridDim.x); }
MSMA_DEVICE int blocks_y() { return static_cast<int>(gridDim.y); }

MSMA_DEVICE void sync_block() { __syncthreads(); }
MSMA_DEVICE void sync_warp() { __syncwarp(); }

// Whether any lane said yes (warp).
MSMA_DEVICE bool any(bool yes) { return __any_sync(0xffffffffu, yes) != 0; }
// Bit l: whether lane l said yes (warp).
MSMA_DEVICE unsigned ballot(bool yes) { return __ballot_sync(0xffffffffu, yes); }
// The value of a lane, of lane ^ mask (warp). T: int, unsigned, int64_t, float, double.
template <typename T>
MSMA_DEVICE T shuffle(T value, int from) {
    return __shfl_sync(0xffffffffu, value, from);
}
template <typename T>
MSMA_DEVICE T shuffle_xor(T value, int mask) {
    return __shfl_xor_sync(0xffffffffu, value, mask);
}

MSMA_DEVICE int count_bits(unsigned word) { return __popc(word); }
MSMA_DEVICE int lowest_bit(unsigned word) { return __ffs(static_cast<int>(word)) - 1; }  // -1 of 0

// Relaxed, on global or shared memory; the value before.
MSMA_DEVICE int atomic_add(int* at, int value) { return atomicAdd(at, value); }
MSMA_DEVICE unsigned atomic_add(unsigned* at, unsigned value) { return atomicAdd(at, value); }

// Each operation rounded to nearest on its own, never fused.
MSMA_DEVICE double add(double a, double b) { return __dadd_rn(a, b); }
MSMA_DEVICE double subtract(double a, double b) { return __dsub_rn(a, b); }
MSMA_DEVICE double multiply(double a, double b) { return __dmul_rn(a, b); }
MSMA_DEVICE double divide(double a, double b) { return __ddiv_rn(a, b); }
MSMA_DEVICE double root(double a) { return __dsqrt_rn(a); }
// The smaller one, NaN where one is.
MSMA_DEVICE float smaller(float a, float b) {
    float found;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(found) : "f"(a), "f"(b));
    return found;
}
// a b + c, rounded once.
MSMA_DEVICE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }

MSMA_DEVICE uint64_t bits_of(double value) { return static_cast<uint64_t>(__double_as_longlong(value)); }
MSMA_DEVICE double double_of(uint64_t bits) { return __longlong_as_double(static_cast<long long>(bits)); }

// 16 bytes from global to shared memory, both aligned to 16. They arrive no sooner than a wait_copies<N> that leaves
// fewer groups open, of the thread that asked for them, and a barrier for the others.
MSMA_DEVICE void copy_16(void* shared, const void* global) {
    const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(to), "l"(global) : "memory");
}
MSMA_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <int kOpen>
MSMA_DEVICE void wait_copies() {  // until at most kOpen of this thread's groups are on their way
    asm volatile("cp.async.wait_group %0;\n" ::"n"(kOpen) : "memory");
}

// Four 8 x 8 tiles of 16-bit numbers from shared memory (warp): lane 8 q + r names row r of tile q, 16 bytes, aligned
// to 16; out[q] of lane l are the numbers 2 (l % 4) and 2 (l % 4) + 1 of row l / 4 of tile q, the first in the low
// half.
MSMA_DEVICE void load_tiles(uint32_t (&out)[4], const void* row) {
    const unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(from)
                 : "memory");
}
// sum (16 x 8, float32) += a (16 x 16) b (16 x 8), bfloat16 (warp). With g = lane / 4 and t = lane % 4:
//   sum[0..1] row g, columns 2 t and 2 t + 1; sum[2..3] row g + 8
//   a[0] row g, columns 2 t, 2 t + 1; a[1] row g + 8; a[2] row g, columns 2 t + 8, 2 t + 9; a[3] row g + 8 of these
//   b[0] rows 2 t, 2 t + 1 of column g; b[1] rows 2 t + 8, 2 t + 9
// (PTX ISA, mma.m16n8k16.) The order and rounding of the sums is the hardware's: |error| <= (d + 16) 2^-22 |a||b| is
// assumed.
MSMA_DEVICE void multiply_add(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};\n"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// A block's dynamic shared memory, handed out in order by every thread alike: Shared shared; float* x =
// shared.take<float>(n). What is taken is aligned to 16 bytes and holds anything at first.
class Shared {
  public:
    MSMA_DEVICE Shared() : at_(0) {}
    template <typename T>
    MSMA_DEVICE T* take(int count) {
        extern __shared__ __align__(16) unsigned char memory[];
        T* found = reinterpret_cast<T*>(memory + at_);
        at_ += (count * static_cast<int>(sizeof(T)) + 15) / 16 * 16;
        return found;
    }

  private:
    int at_;
};

}  // namespace msma::device
#endif
