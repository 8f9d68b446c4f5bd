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
// Notes the places of the set bits and returns how many there are; a branch on that would guess wrong too often.
inline int32_t append(int32_t* places, uint64_t bits, int32_t row, int32_t first) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i all = _mm512_add_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(first)), _mm512_set1_epi32(row));
    _mm512_storeu_si512(places, _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), all));
    return __builtin_popcountll(bits);
}
inline void insert(float* best, int64_t lines, float value) {
    const Float x = _mm512_set1_ps(value);
    Float line = _mm512_load_ps(best + (lines - 1) * kWidth);
    for (int64_t l = lines - 1; l >= 0; --l) {
        // Every place takes the smaller of its value and of the larger of x and its neighbour's; the first keeps -inf.
        const Float before = l > 0 ? _mm512_load_ps(best + (l - 1) * kWidth) : line;
        const Float neighbor = _mm512_castsi512_ps(
            _mm512_alignr_epi32(_mm512_castps_si512(line), _mm512_castps_si512(before), kWidth - 1));
        _mm512_store_ps(best + l * kWidth, _mm512_min_ps(line, _mm512_max_ps(neighbor, x)));
        line = before;
    }
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
inline int32_t append(int32_t* places, uint64_t bits, int32_t row, int32_t first) {
    int32_t count = 0;
    for (; bits; bits &= bits - 1) places[count++] = row + first + __builtin_ctzll(bits);
    return count;
}
inline void insert(float* best, int64_t lines, float value) {
    const Float x = _mm256_set1_ps(value);
    // Every place takes the smaller of its value and of the larger of x and its neighbour's; the first keeps -inf.
    for (int64_t e = 16 * lines - kWidth; e > 0; e -= kWidth) {
        const Float line = _mm256_load_ps(best + e), neighbor = _mm256_loadu_ps(best + e - 1);
        _mm256_store_ps(best + e, _mm256_min_ps(line, _mm256_max_ps(neighbor, x)));
    }
    const Float line = _mm256_load_ps(best);
    const Float neighbor = _mm256_permutevar8x32_ps(line, _mm256_setr_epi32(0, 0, 1, 2, 3, 4, 5, 6));
    _mm256_store_ps(best, _mm256_min_ps(line, _mm256_max_ps(neighbor, x)));
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
inline int32_t append(int32_t* places, uint64_t bit, int32_t row, int32_t first) {
    *places = row + first;
    return bit & 1;
}
inline void insert(float* best, int64_t lines, float value) {
    int64_t e = 16 * lines - 1;
    for (; e > 0 && best[e - 1] > value; --e) best[e] = best[e - 1];
    if (value < best[e]) best[e] = value;
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

template <bool both>
void judge_tile(const Marks& strip, const Marks& panel, const int32_t* products, TileSize size, Hits& hits) {
    constexpr int V = kPanel / kWidth;
    Float step[V], spread[V], inner[V], reach[V], outer[V];
    uint64_t present[V];
    for (int v = 0; v < V; ++v) {
        const int c = v * kWidth;
        step[v] = load(panel.step + c);
        spread[v] = load(panel.spread + c);
        inner[v] = load(panel.inner + c);
        reach[v] = load(panel.reach + c);
        outer[v] = load(panel.outer + c);
        present[v] = ((uint64_t{1} << size.columns) - 1) >> c;
    }
    int32_t count = 0;
    for (int r = 0; r < size.rows; ++r) {
        const Float twice = broadcast(2.0f * strip.step[r]);
        const Float own_reach = broadcast(2.0f * strip.reach[r]), own_spread = broadcast(2.0f * strip.spread[r]);
        const Float no_outer = broadcast(-strip.outer[r]), no_inner = broadcast(-strip.inner[r]);
#pragma GCC unroll 3
        for (int v = 0; v < V; ++v) {
            const Float product = multiply(to_float(products + r * kPanel + v * kWidth), step[v]);
            const Float to_row = fused(twice, product, fused(own_reach, spread[v], inner[v]));
            uint64_t bits = not_less(to_row, no_outer);
            if (both) {
                const Float to_column = fused(twice, product, fused(own_spread, reach[v], outer[v]));
                bits |= not_less(to_column, no_inner);
            }
            count += append(hits.place + count, bits & present[v], r << 8, v * kWidth);
        }
    }
    hits.count = count;
}

void judge(const Marks& strip, const Marks& panel, const int32_t* products, bool both, TileSize size, Hits& hits) {
    (both ? judge_tile<true> : judge_tile<false>)(strip, panel, products, size, hits);
}

void judge_product(const ProductMarks& strip, const ProductMarks& panel, const int32_t* products, TileSize size,
                   Hits& hits) {
    const uint64_t present = (uint64_t{1} << size.columns) - 1;
    int32_t count = 0;
    for (int32_t c = 0; c < kPanel; c += kWidth) {
        const Float step = load(panel.step + c), spread = load(panel.spread + c), length = load(panel.length + c);
        for (int r = 0; r < size.rows; ++r) {
            const Float product = multiply(to_float(products + r * kPanel + c), step);
            Float top = multiply(broadcast(2.0f * strip.spread[r]), length);
            top = fused(broadcast(2.0f * strip.length[r]), spread, top);
            top = fused(broadcast(2.0f * strip.step[r]), product, top);
            const uint64_t bits = not_less(top, broadcast(-strip.bar[r])) & (present >> c);
            count += append(hits.place + count, bits, r << 8, c);
        }
    }
    hits.count = count;
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
            insert,
            judge_product,
            {encode<float>},
            {encode<double>}};
}

}  // namespace MSMA_ISA
}  // namespace msma
