// What one compiled body of the float32 distance kernel offers to the driver in pairwise_distances.cpp.
#pragma once

#include <cstdint>

#include "msma/cpu.hpp"

namespace msma {

// Rows of x, and of y, in one square of sums. A multiple of every body's tile and of a cache line of floats.
constexpr int64_t kSquare = 96;

// Packed rows: groups of `width` rows, coordinate-major within a group (k * width + r), the last group padded with zero
// rows.
struct DistanceBody {
    int64_t left_width, right_width;  // both divide kSquare

    // sums[r * kSquare + c] = sum_k (x_rk - y_ck)^2 for the packed rows of x and y; rows and columns of padding may be
    // written.
    void (*square)(const float* left, const float* right, int64_t d, int64_t rows, int64_t columns, float* sums);
    // In place, each value its square root; values on a cache line, with room for whole registers.
    void (*roots)(float* values, int64_t count);
    void (*double_roots)(double* values, int64_t count);  // any alignment, correctly rounded
    // to[r * stride + c] = from[r * kSquare + c]; `stream`: past the caches, where whole lines allow it.
    void (*copy)(const float* from, int64_t rows, int64_t columns, float* to, int64_t stride, bool stream);
    // to[c * stride + r] = from[r * kSquare + c].
    void (*mirror)(const float* from, int64_t rows, int64_t columns, float* to, int64_t stride, bool stream);
};

namespace scalar {
DistanceBody distance_body();
}
#ifdef MSMA_X86_BODIES
namespace avx2 {
DistanceBody distance_body();
}
namespace avx512 {
DistanceBody distance_body();
}
#endif

inline DistanceBody best_distance_body() {
#ifdef MSMA_X86_BODIES
    if (at_least(InstructionSet::avx512)) return avx512::distance_body();
    if (at_least(InstructionSet::avx2)) return avx2::distance_body();
#endif
    return scalar::distance_body();
}

}  // namespace msma
