// The body of the KSG counts, compiled once per instruction set (ksg_rows_scalar, _avx2, _avx512).
//
// nearest: every value of max(a, b) falls into one of 16 bins, of which the smallest is kept; the k-th smallest of 16
// different values is a bound of the k-th smallest of all. A second pass lists what is not above it, a few values more
// than k. tally: masks and their population, two comparisons a value.
//
// The including file defines MSMA_ISA, one of MSMA_LANES_*, and the tile of its float32 distances,
// MSMA_DISTANCE_ROWS x MSMA_DISTANCE_COLUMNS: packed rows serve both.
#pragma once

#include "distance_body.hpp"
#include "floats.hpp"
#include "ksg_rows_body.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

constexpr int R = MSMA_DISTANCE_ROWS, C = MSMA_DISTANCE_COLUMNS;
constexpr int kWidth = C * kFloats;
constexpr int kRegisters = kKsgBins / kFloats;
constexpr int64_t kChunk = 192;  // coordinates of the columns that stay in the first-level cache
static_assert(kKsgStep == kRegisters * kFloats && kRegisters * kFloats == kKsgBins, "a step fills the bins once");

#if defined(MSMA_LANES_AVX512)
// The larger of |a| and |b|.
inline Floats larger_size(Floats a, Floats b) { return _mm512_range_ps(a, b, 0x0b); }
inline Floats smaller_of(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline unsigned below(Floats a, Floats limit) { return _mm512_cmp_ps_mask(a, limit, _CMP_LT_OQ); }
#elif defined(MSMA_LANES_AVX2)
inline Floats larger_size(Floats a, Floats b) { return larger_of(a, absolute(b)); }  // a is a size already
inline Floats smaller_of(Floats a, Floats b) { return _mm256_min_ps(a, b); }
inline unsigned below(Floats a, Floats limit) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, limit, _CMP_LT_OQ)));
}
#else
inline Floats larger_size(const Floats& a, const Floats& b) { return larger_of(a, absolute(b)); }
inline Floats smaller_of(const Floats& a, const Floats& b) {
    return each_float([&](int l) { return a.v[l] < b.v[l] ? a.v[l] : b.v[l]; });
}
inline unsigned below(const Floats& a, const Floats& limit) {
    unsigned mask = 0;
    for (int l = 0; l < kFloats; ++l) mask |= static_cast<unsigned>(a.v[l] < limit.v[l]) << l;
    return mask;
}
#endif

// `coordinates` of R rows and C registers of columns, on top of what `out` holds where they are not the first.
inline void tile(const float* x, const float* y, int64_t coordinates, bool first, float* out) {
    Floats most[R][C];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) most[r][c] = first ? zero_floats() : load_floats(out + r * kSquare + c * kFloats);
    }
    for (int64_t k = 0; k < coordinates; ++k, y += kWidth, x += R) {
        Floats right[C];
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) right[c] = load_floats(y + c * kFloats);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
            for (int c = 0; c < C; ++c) most[r][c] = larger_size(most[r][c], subtract_all(right[c], x + r));
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) store(out + r * kSquare + c * kFloats, most[r][c]);
    }
}

void chebyshev_square(const float* left, const float* right, int64_t d, int64_t rows, int64_t columns, float* out) {
    for (int64_t c = 0; c < columns; c += kWidth) {
        for (int64_t k = 0; k < d; k += kChunk) {
            const int64_t coordinates = d - k < kChunk ? d - k : kChunk;
            for (int64_t r = 0; r < rows; r += R) {
                tile(left + r * d + k * R, right + c * d + k * kWidth, coordinates, k == 0, out + r * kSquare + c);
            }
        }
    }
}

// The k-th smallest of the bins.
inline float smallest_of_bins(const Floats (&bins)[kRegisters], int k) {
#if defined(MSMA_LANES_AVX512)
    Floats rest = bins[0];
    float least = _mm512_reduce_min_ps(rest);
    for (int i = 1; i < k; ++i) {
        const unsigned equal = _mm512_cmp_ps_mask(rest, _mm512_set1_ps(least), _CMP_EQ_OQ);
        rest = _mm512_mask_mov_ps(rest, static_cast<__mmask16>(equal & (0u - equal)), _mm512_set1_ps(HUGE_VALF));
        least = _mm512_reduce_min_ps(rest);
    }
    return least;
#else
    alignas(64) float values[kKsgBins];
    for (int t = 0; t < kRegisters; ++t) store(values + t * kFloats, bins[t]);
    for (int i = 0; i < k; ++i) {
        for (int l = i + 1; l < kKsgBins; ++l) {
            const float low = values[l] < values[i] ? values[l] : values[i];
            values[l] = values[l] < values[i] ? values[i] : values[l];
            values[i] = low;
        }
    }
    return values[k - 1];
#endif
}

int64_t nearest(const float* a, const float* b, int64_t size, int k, float* out) {
    Floats bins[kRegisters];
    for (int t = 0; t < kRegisters; ++t) bins[t] = fill_floats(HUGE_VALF);
    for (int64_t j = 0; j < size; j += kKsgStep) {
#pragma GCC unroll 4
        for (int t = 0; t < kRegisters; ++t) {
            const int64_t at = j + t * kFloats;
            bins[t] = smaller_of(bins[t], larger_of(load_floats(a + at), load_floats(b + at)));
        }
    }
    const Floats limit = fill_floats(smallest_of_bins(bins, k));
    int64_t found = 0;
    for (int64_t j = 0; j < size; j += kFloats) {
        for (unsigned mask = not_above(larger_of(load_floats(a + j), load_floats(b + j)), limit); mask;
             mask &= mask - 1) {
            const int64_t at = j + __builtin_ctz(mask);
            out[found++] = a[at] > b[at] ? a[at] : b[at];
        }
    }
    return found;
}

#if defined(MSMA_LANES_AVX512)

KsgTally tally(const float* a, int64_t size, float low, float high) {
    const Floats least = fill_floats(low), most = fill_floats(high);
    const __m512i one = _mm512_set1_epi32(1);
    __m512i lower = _mm512_setzero_si512(), upper = lower;
    for (int64_t j = 0; j < size; j += 16) {
        const Floats v = load_floats(a + j);
        lower = _mm512_mask_add_epi32(lower, _mm512_cmp_ps_mask(v, least, _CMP_LT_OQ), lower, one);
        upper = _mm512_mask_add_epi32(upper, _mm512_cmp_ps_mask(v, most, _CMP_LE_OQ), upper, one);
    }
    return {_mm512_reduce_add_epi32(lower), _mm512_reduce_add_epi32(upper)};
}

#else

KsgTally tally(const float* a, int64_t size, float low, float high) {
    const Floats least = fill_floats(low), most = fill_floats(high);
    int64_t under = 0, upto = 0;
    for (int64_t j = 0; j < size; j += kKsgStep) {
#pragma GCC unroll 4
        for (int t = 0; t < kRegisters; ++t) {
            const Floats v = load_floats(a + j + t * kFloats);
            under += __builtin_popcount(below(v, least));
            upto += __builtin_popcount(not_above(v, most));
        }
    }
    return {under, upto};
}

#endif

int64_t list(const float* a, const float* b, int64_t size, float low, float high, int32_t* out) {
    const Floats least = fill_floats(low), most = fill_floats(high);
    int64_t found = 0;
    for (int64_t j = 0; j < size; j += kFloats) {
        const Floats v = larger_of(load_floats(a + j), load_floats(b + j));
        for (unsigned mask = not_above(v, most) & ~below(v, least); mask; mask &= mask - 1) {
            out[found++] = static_cast<int32_t>(j) + __builtin_ctz(mask);
        }
    }
    return found;
}

void gather(const float* from, const int32_t* index, int64_t n, float* to) {
    int64_t j = 0;
#if defined(MSMA_LANES_AVX512)
    for (; j + 16 <= n; j += 16) store(to + j, _mm512_i32gather_ps(_mm512_loadu_si512(index + j), from, 4));
#elif defined(MSMA_LANES_AVX2)
    for (; j + 8 <= n; j += 8) {
        store(to + j, _mm256_i32gather_ps(from, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index + j)), 4));
    }
#endif
    for (; j < n; ++j) to[j] = from[index[j]];
}

}  // namespace

KsgRowsBody ksg_rows_body() { return {chebyshev_square, nearest, tally, list, gather}; }

}  // namespace MSMA_ISA
}  // namespace msma
