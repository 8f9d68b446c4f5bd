// The body of add_weighted_differences, compiled once per instruction set. R rows and their sums stay in
// registers while the columns pass; every difference serves both its rows. Multiply and add are rounded
// separately, so the sums are the same bits for every instruction set with the same R.
//
// The including file defines MSMA_ISA and one of MSMA_LANES_*.
#pragma once

#include "differences.hpp"
#include "lanes.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

// Rows at a time: their values and sums are eight registers of 512 bits, all sixteen of 256. Two groups of
// coordinates at a time were 8 % slower (stress, 2048 x 576, AMD Zen 4).
constexpr int kRows = 4;

template <int R>
inline void strip(const double* weights, int64_t stride, int64_t columns, const double* x, const double* y,
                  double* to_x, double* to_y) {
    Lanes left[R], sum[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
        left[r] = load(x + r * kLanes);
        sum[r] = zero();
    }
    for (int64_t c = 0; c < columns; ++c) {
        const Lanes right = load(y + c * kLanes);
        Lanes share;
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const Lanes pull = multiply(fill(weights[r * stride + c]), subtract(left[r], right, true));
            sum[r] = add(sum[r], pull);
            share = r == 0 ? pull : add(share, pull);
        }
        store(to_y + c * kLanes, subtract(load(to_y + c * kLanes), share));
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) store(to_x + r * kLanes, add(load(to_x + r * kLanes), sum[r]));
}

}  // namespace

void add_weighted_differences(const WeightedDifferences& t) {
    for (int64_t group = 0; group < t.groups; ++group) {
        const int64_t at = group * t.step * kLanes;
        const double *x = t.x + at, *y = t.y + at;
        double *to_x = t.to_x + at, *to_y = t.to_y + at;
        int64_t r = 0;
        for (; r + kRows <= t.rows; r += kRows) {
            strip<kRows>(t.weights + r * t.columns, t.columns, t.columns, x + r * kLanes, y, to_x + r * kLanes, to_y);
        }
        for (; r < t.rows; ++r) {
            strip<1>(t.weights + r * t.columns, t.columns, t.columns, x + r * kLanes, y, to_x + r * kLanes, to_y);
        }
    }
}

}  // namespace MSMA_ISA
}  // namespace msma
