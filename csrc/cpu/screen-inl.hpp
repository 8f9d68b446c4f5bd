// The tile kernels of the certified screen: integer products of codes, and the comparison of a tile with the
// thresholds of its rows and columns. The inequalities are in codes.hpp.
//
// The including file defines MSMA_ISA, MSMA_CODES_PER_WORD and one of MSMA_SCREEN_VNNI, MSMA_SCREEN_AVX512,
// MSMA_SCREEN_AVX2, MSMA_SCREEN_SCALAR; MSMA_SCREEN_AMX as well takes the products from screen_amx-inl.hpp. No library
// templates here, see lanes.hpp.
#pragma once

#if !defined(MSMA_SCREEN_SCALAR)
#include <immintrin.h>
#endif

#include "encode-inl.hpp"
#if defined(MSMA_SCREEN_AMX)
#include "screen_amx-inl.hpp"
#endif

namespace msma {
namespace MSMA_ISA {
namespace {

#if !defined(MSMA_SCREEN_AMX)
constexpr int64_t kGroupMultiple = 1;
constexpr void (*configure)() = nullptr;
constexpr void (*release)() = nullptr;
constexpr void (*arrange)(const int32_t*, int64_t, int32_t*) = nullptr;
#endif

#if defined(MSMA_SCREEN_VNNI) || defined(MSMA_SCREEN_AVX512)

constexpr int kWidth = 16;
using Float = __m512;

#if !defined(MSMA_SCREEN_AMX)
constexpr int kRows = 8, kVectors = 3;  // 24 accumulators of the 32 registers

inline void multiply(const int32_t* strip, const int32_t* panel, int64_t groups,
                     [[maybe_unused]] const int32_t* strip_sums, int32_t* products) {
    __m512i acc[kRows][kVectors];
#if defined(MSMA_SCREEN_VNNI)
    // vpdpbusd wants one unsigned operand: the panel's codes + 128, taken back by -128 times the row's sum.
    const __m512i flip = _mm512_set1_epi8(-128);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
        const __m512i start = _mm512_set1_epi32(-128 * strip_sums[r]);
#pragma GCC unroll 3
        for (int v = 0; v < kVectors; ++v) acc[r][v] = start;
    }
#else
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
        for (int v = 0; v < kVectors; ++v) acc[r][v] = _mm512_setzero_si512();
    }
#endif
    for (int64_t g = 0; g < groups; ++g, strip += kPanel, panel += kPanel) {
        __m512i column[kVectors];
#pragma GCC unroll 3
        for (int v = 0; v < kVectors; ++v) {
            column[v] = _mm512_load_si512(panel + v * kWidth);
#if defined(MSMA_SCREEN_VNNI)
            column[v] = _mm512_xor_si512(column[v], flip);
#endif
        }
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            const __m512i row = _mm512_set1_epi32(strip[r]);
#pragma GCC unroll 3
            for (int v = 0; v < kVectors; ++v) {
#if defined(MSMA_SCREEN_VNNI)
                // As an intrinsic GCC 12 copies the accumulators through memory: 102 instead of 230 G products/s.
                __asm__("vpdpbusd %2, %1, %0" : "+v"(acc[r][v]) : "v"(column[v]), "v"(row));
#else
                acc[r][v] = _mm512_add_epi32(acc[r][v], _mm512_madd_epi16(column[v], row));
#endif
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
        for (int v = 0; v < kVectors; ++v) _mm512_store_si512(products + r * kPanel + v * kWidth, acc[r][v]);
    }
}
#endif

inline Float load(const float* p) { return _mm512_load_ps(p); }
inline Float broadcast(float v) { return _mm512_set1_ps(v); }
inline Float to_float(const int32_t* p) { return _mm512_cvtepi32_ps(_mm512_load_si512(p)); }
inline Float multiply(Float a, Float b) { return _mm512_mul_ps(a, b); }
inline Float fused(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
// NaN counts as not less.
inline uint64_t not_less(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ); }
// NaN counts as above.
inline uint64_t not_above(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
inline Float root(Float a) { return _mm512_sqrt_ps(_mm512_max_ps(a, _mm512_setzero_ps())); }
inline Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
inline void lower(float* p, Float a, uint64_t excluded) {
    const Float before = _mm512_load_ps(p);
    _mm512_store_ps(p, _mm512_mask_min_ps(before, static_cast<__mmask16>(~excluded), a, before));
}

#elif defined(MSMA_SCREEN_AVX2)

constexpr int kRows = 6, kVectors = 2;  // 12 accumulators of the 16 registers
constexpr int kWidth = 8;
using Float = __m256;

inline void multiply(const int32_t* strip, const int32_t* panel, int64_t groups, const int32_t*, int32_t* products) {
    for (int64_t first = 0; first < kPanel; first += kVectors * kWidth) {
        __m256i acc[kRows][kVectors];
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) acc[r][v] = _mm256_setzero_si256();
        }
        const int32_t* left = strip;
        const int32_t* right = panel + first;
        for (int64_t g = 0; g < groups; ++g, left += kPanel, right += kPanel) {
            __m256i column[kVectors];
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) {
                column[v] = _mm256_load_si256(reinterpret_cast<const __m256i*>(right + v * kWidth));
            }
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                const __m256i row = _mm256_set1_epi32(left[r]);
#pragma GCC unroll 2
                for (int v = 0; v < kVectors; ++v) {
                    acc[r][v] = _mm256_add_epi32(acc[r][v], _mm256_madd_epi16(column[v], row));
                }
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) {
                _mm256_store_si256(reinterpret_cast<__m256i*>(products + r * kPanel + first + v * kWidth), acc[r][v]);
            }
        }
    }
}

inline Float load(const float* p) { return _mm256_load_ps(p); }
inline Float broadcast(float v) { return _mm256_set1_ps(v); }
inline Float to_float(const int32_t* p) {
    return _mm256_cvtepi32_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Float multiply(Float a, Float b) { return _mm256_mul_ps(a, b); }
inline Float fused(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
inline uint64_t not_less(Float a, Float b) {
    return static_cast<uint64_t>(static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NLT_UQ))));
}
inline uint64_t not_above(Float a, Float b) {
    return static_cast<uint64_t>(static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ))));
}
inline Float root(Float a) { return _mm256_sqrt_ps(_mm256_max_ps(a, _mm256_setzero_ps())); }
inline Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
inline void lower(float* p, Float a, uint64_t excluded) {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i bits = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(excluded & 0xff)), bit);
    const Float keep = _mm256_castsi256_ps(_mm256_cmpeq_epi32(bits, bit));
    const Float before = _mm256_load_ps(p);
    _mm256_store_ps(p, _mm256_blendv_ps(_mm256_min_ps(a, before), before, keep));
}

#else

constexpr int kWidth = 1;
using Float = float;

#if !defined(MSMA_SCREEN_AMX)
constexpr int kRows = 4;

inline int32_t low_code(int32_t word) { return static_cast<int16_t>(word & 0xffff); }
inline int32_t high_code(int32_t word) { return word >> 16; }

inline void multiply(const int32_t* strip, const int32_t* panel, int64_t groups, const int32_t*, int32_t* products) {
    for (int r = 0; r < kRows; ++r) {
        int32_t* row = products + r * kPanel;
        for (int64_t c = 0; c < kPanel; ++c) row[c] = 0;
        for (int64_t g = 0; g < groups; ++g) {
            const int32_t low = low_code(strip[g * kPanel + r]), high = high_code(strip[g * kPanel + r]);
            const int32_t* right = panel + g * kPanel;
            for (int64_t c = 0; c < kPanel; ++c) row[c] += low * low_code(right[c]) + high * high_code(right[c]);
        }
    }
}
#endif

inline Float load(const float* p) { return *p; }
inline Float broadcast(float v) { return v; }
inline Float to_float(const int32_t* p) { return static_cast<float>(*p); }
inline Float multiply(Float a, Float b) { return a * b; }
inline Float fused(Float a, Float b, Float c) { return a * b + c; }
inline uint64_t not_less(Float a, Float b) { return !(a < b); }
inline uint64_t not_above(Float a, Float b) { return a <= b; }
inline Float root(Float a) { return a > 0.0f ? __builtin_sqrtf(a) : 0.0f; }
inline Float add(Float a, Float b) { return a + b; }
inline void lower(float* p, Float a, uint64_t excluded) {
    if (!(excluded & 1) && a < *p) *p = a;
}

#endif

void lowest(const Marks& strip, const Marks& panel, const int32_t* products, const uint64_t* excluded, float* bins) {
    for (int64_t c = 0; c < kPanel; c += kWidth) {
        const Float step = load(panel.step + c), spread = load(panel.spread + c), square = load(panel.square + c);
        for (int r = 0; r < kRows; ++r) {
            const Float product = multiply(to_float(products + r * kPanel + c), step);
            const Float squares = add(square, broadcast(strip.square[r]));
            const Float distance = root(fused(broadcast(-2.0f * strip.step[r]), product, squares));
            lower(bins + r * kPanel + c, add(distance, spread), excluded[r] >> c);
        }
    }
}

// Entries that are not above the pivots.
template <int pivots>
inline void count_within(const float* values, int64_t count, const float* pivot, int64_t* within) {
    Float at[pivots];
    for (int p = 0; p < pivots; ++p) {
        at[p] = broadcast(pivot[p]);
        within[p] = 0;
    }
    for (int64_t e = 0; e < count; e += kWidth) {
        const Float v = load(values + e);
#pragma GCC unroll 3
        for (int p = 0; p < pivots; ++p) within[p] += __builtin_popcountll(not_above(v, at[p]));
    }
}

// The extremes, then seven rounds of three pivots that quarter the interval: a sort would cost many times that.
float select(const float* values, int64_t count, int64_t k) {
    constexpr int64_t L = 16;
    constexpr float infinity = __builtin_inff();
    float low[L], high[L];
    for (int64_t l = 0; l < L; ++l) {
        low[l] = infinity;
        high[l] = -infinity;
    }
    for (int64_t e = 0; e < count; e += L) {
        for (int64_t l = 0; l < L; ++l) {
            const float v = values[e + l], finite = v < infinity ? v : -infinity;
            low[l] = v < low[l] ? v : low[l];
            high[l] = finite > high[l] ? finite : high[l];
        }
    }
    float bottom = infinity, top = -infinity;
    for (int64_t l = 0; l < L; ++l) {
        bottom = low[l] < bottom ? low[l] : bottom;
        top = high[l] > top ? high[l] : top;
    }
    int64_t all;
    count_within<1>(values, count, &top, &all);
    if (all < k) return infinity;
    for (int round = 0; round < 7; ++round) {
        const float quarter = 0.25f * (top - bottom);
        const float pivot[3] = {bottom + quarter, bottom + 2.0f * quarter, bottom + 3.0f * quarter};
        int64_t within[3];
        count_within<3>(values, count, pivot, within);
        const int below = (within[0] < k) + (within[1] < k) + (within[2] < k);
        top = below == 3 ? top : pivot[below];
        bottom = below == 0 ? bottom : pivot[below - 1];
    }
    return top;
}

int32_t keep(float* upper, float* lower, int32_t* column, int32_t count, float top) {
    int32_t kept = 0;
#if defined(MSMA_SCREEN_VNNI) || defined(MSMA_SCREEN_AVX512)
    const Float limit = broadcast(top);
    for (int32_t e = 0; e < count; e += kWidth) {
        const auto present = static_cast<__mmask16>(count - e < kWidth ? (1u << (count - e)) - 1 : 0xffffu);
        const Float low = load(lower + e), high = load(upper + e);
        const __m512i index = _mm512_load_si512(column + e);
        const __mmask16 here = present & _mm512_cmp_ps_mask(low, limit, _CMP_NGT_UQ);
        // A whole vector is written: what lies behind the kept entries has been read already.
        _mm512_storeu_ps(upper + kept, _mm512_maskz_compress_ps(here, high));
        _mm512_storeu_ps(lower + kept, _mm512_maskz_compress_ps(here, low));
        _mm512_storeu_si512(column + kept, _mm512_maskz_compress_epi32(here, index));
        kept += __builtin_popcount(here);
    }
#else
    for (int32_t e = 0; e < count; ++e) {
        const float low = lower[e];
        upper[kept] = upper[e];
        lower[kept] = low;
        column[kept] = column[e];
        kept += !(low > top);
    }
#endif
    return kept;
}

// The set bits of each mask as r << 8 | c. A few positions are written whether they are there or not: a tile has a
// handful of hits, and a branch that guesses wrong costs more than all the rest.
int list_hits(const uint64_t* masks, TileSize size, uint16_t* hits) {
    const uint64_t present = (uint64_t{1} << size.columns) - 1;
    unsigned rows = 0;
    for (int r = 0; r < kRows; ++r) rows |= static_cast<unsigned>((masks[r] & present) != 0) << r;
    rows &= (1u << size.rows) - 1;
    int count = 0;
    for (; rows; rows &= rows - 1) {
        const int r = __builtin_ctz(rows);
        uint64_t bits = masks[r] & present;
        const int here = __builtin_popcountll(bits);
        const auto row = static_cast<uint16_t>(r << 8);
        for (int written = 0; written == 0 || written < here; written += kAtOnce) {
            for (int w = 0; w < kAtOnce; ++w, bits &= bits - 1) {
                // Without a bit left the position is overwritten by the next row.
                hits[count + written + w] = static_cast<uint16_t>(row | __builtin_ctzll(bits | (uint64_t{1} << 63)));
            }
        }
        count += here;
    }
    return count;
}

template <bool both>
void judge_tile(const Marks& strip, const Marks& panel, const int32_t* products, TileSize size, Hits& hits) {
    uint64_t row_masks[kRows] = {}, column_masks[kRows] = {};
    for (int64_t c = 0; c < kPanel; c += kWidth) {
        const Float step = load(panel.step + c), spread = load(panel.spread + c), inner = load(panel.inner + c);
        const Float reach = load(panel.reach + c), outer = load(panel.outer + c);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            const Float product = multiply(to_float(products + r * kPanel + c), step);
            const Float twice = broadcast(2.0f * strip.step[r]);
            const Float to_row = fused(twice, product, fused(broadcast(2.0f * strip.reach[r]), spread, inner));
            row_masks[r] |= not_less(to_row, broadcast(-strip.outer[r])) << c;
            if (both) {
                const Float to_column = fused(twice, product, fused(broadcast(2.0f * strip.spread[r]), reach, outer));
                column_masks[r] |= not_less(to_column, broadcast(-strip.inner[r])) << c;
            }
        }
    }
    hits.row_count = list_hits(row_masks, size, hits.row);
    hits.column_count = both ? list_hits(column_masks, size, hits.column) : 0;
}

void judge(const Marks& strip, const Marks& panel, const int32_t* products, bool both, TileSize size, Hits& hits) {
    (both ? judge_tile<true> : judge_tile<false>)(strip, panel, products, size, hits);
}

void judge_product(const ProductMarks& strip, const ProductMarks& panel, const int32_t* products, TileSize size,
                   Hits& hits) {
    uint64_t masks[kRows] = {};
    for (int64_t c = 0; c < kPanel; c += kWidth) {
        const Float step = load(panel.step + c), spread = load(panel.spread + c), length = load(panel.length + c);
        for (int r = 0; r < kRows; ++r) {
            const Float product = multiply(to_float(products + r * kPanel + c), step);
            Float top = multiply(broadcast(2.0f * strip.spread[r]), length);
            top = fused(broadcast(2.0f * strip.length[r]), spread, top);
            top = fused(broadcast(2.0f * strip.step[r]), product, top);
            masks[r] |= not_less(top, broadcast(-strip.bar[r])) << c;
        }
    }
    hits.row_count = list_hits(masks, size, hits.row);
    hits.column_count = 0;
}

}  // namespace

ScreenBody screen_body() {
    return {MSMA_CODES_PER_WORD,
            kGroupMultiple,
            kRows,
            configure,
            release,
            arrange,
            multiply,
            judge,
            lowest,
            select,
            keep,
            judge_product,
            {encode<float>},
            {encode<double>}};
}

}  // namespace MSMA_ISA
}  // namespace msma
