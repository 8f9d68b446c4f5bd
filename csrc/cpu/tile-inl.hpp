// The inner loops of the canonical keys over Lanes: tiles of rows in registers, and pairs of rows
// in memory.
//
// A tile of R rows of x and C rows of y keeps R C accumulators in registers, so that each loaded row serves R
// or C pairs and R C independent additions hide the latency of one: three instructions per eight coordinates
// and pair.
#pragma once

#include "body.hpp"
#include "term-inl.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

template <Kind kind>
inline double combine(Lanes accumulator) {
    return kind == Kind::chebyshev ? combine_maximum(accumulator) : combine_sum(accumulator);
}

// sums[r * stride + c] for R rows of x and C rows of y, both with `width` doubles a row, a multiple of eight.
template <Kind kind, int R, int C>
inline void tile(const double* x, const double* y, int64_t width, int p, double* sums, int64_t stride) {
    Lanes accumulator[R][C];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) accumulator[r][c] = zero();
    }
    for (int64_t k = 0; k < width; k += kLanes) {
        Lanes left[R];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) left[r] = load(x + r * width + k);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
            const Lanes right = load(y + c * width + k);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
                accumulator[r][c] = gather<kind>(accumulator[r][c], term<kind>(left[r], right, p, (r + c) % 2 == 1));
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) sums[r * stride + c] = combine<kind>(accumulator[r][c]);
    }
}

// The same for R rows of x and any number of rows of y.
template <Kind kind, int R>
void strip(const double* x, const double* y, int64_t y_rows, int64_t width, int p, double* sums, int64_t stride) {
    constexpr int C = MSMA_TILE_COLUMNS;
    int64_t c = 0;
    for (; c + C <= y_rows; c += C) tile<kind, R, C>(x, y + c * width, width, p, sums + c, stride);
    for (; c < y_rows; ++c) tile<kind, R, 1>(x, y + c * width, width, p, sums + c, stride);
}

// `rows` whole rows of T promoted to float64 rows of `width` doubles.
template <typename T>
void promote(const Rows<T>& from, Range rows, int64_t width, double* to) {
    const int64_t d = from.dimension, whole = d / kLanes * kLanes;
    for (int64_t r = rows.begin; r < rows.end; ++r, to += width) {
        const T* values = from.row(r);
        int64_t k = 0;
        for (; k < whole; k += kLanes) store(to + k, load(values + k));
        if (k < d) store(to + k, load_first(values + k, d - k));
    }
}

// sums[g] for G pairs of rows of T. Meanwhile the rows `ahead`, of the next G pairs, are asked for: rows of y lie
// anywhere.
template <Kind kind, int G, typename T>
inline void pair_sums(const T* const* x, const T* const* y, const T* const* ahead, int64_t d, int p, double* sums) {
    constexpr int64_t line = 64 / sizeof(T);
    Lanes accumulator[G];
#pragma GCC unroll 8
    for (int g = 0; g < G; ++g) accumulator[g] = zero();
    int64_t k = 0;
    for (; k + kLanes <= d; k += kLanes) {
#pragma GCC unroll 8
        for (int g = 0; g < G; ++g) {
            if (k % line == 0) __builtin_prefetch(ahead[g] + k);
            accumulator[g] = gather<kind>(accumulator[g], term<kind>(load(x[g] + k), load(y[g] + k), p, g % 2 == 1));
        }
    }
    if (k < d) {
#pragma GCC unroll 8
        for (int g = 0; g < G; ++g) {
            const Lanes left = load_first(x[g] + k, d - k), right = load_first(y[g] + k, d - k);
            accumulator[g] = gather<kind>(accumulator[g], term<kind>(left, right, p, false));
        }
    }
#pragma GCC unroll 8
    for (int g = 0; g < G; ++g) sums[g] = combine<kind>(accumulator[g]);
}

}  // namespace
}  // namespace MSMA_ISA
}  // namespace msma
