// Questions put to 8 points at once, answered by a mask with one bit a point, counts of 8 points, and the smallest of 8
// numbers with its place; see lanes.hpp for the rules of this file.
//
// A tagged bound is a number >= +0.0 whose last three bits are replaced by its lane: the minimum of 8 tagged bounds
// tells both, and with_tag(v, 0) of it is a number not above the original.
#pragma once

#include <cstring>

#include "lanes.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

using Mask = unsigned;

constexpr double kLargest = 1.7976931348623157e308;  // the tag would make a NaN of inf

inline uint64_t bits_of(double v) {
    uint64_t bits;
    std::memcpy(&bits, &v, sizeof bits);
    return bits;
}
inline double with_tag(double v, uint64_t tag) {
    const uint64_t bits = (bits_of(v) & ~uint64_t{7}) | tag;
    std::memcpy(&v, &bits, sizeof v);
    return v;
}
inline int tag_of(double v) { return static_cast<int>(bits_of(v) & 7); }

#if defined(MSMA_LANES_AVX512)

inline Lanes broadcast(double v) { return _mm512_set1_pd(v); }
// v moved into [low, high].
inline Lanes clamp(Lanes v, Lanes low, Lanes high) { return _mm512_min_pd(_mm512_max_pd(v, low), high); }
inline Mask not_above(Lanes v, Lanes limit) { return _mm512_cmp_pd_mask(v, limit, _CMP_LE_OQ); }
inline Lanes tagged(Lanes v) {
    const __m512i bits = _mm512_castpd_si512(_mm512_min_pd(v, _mm512_set1_pd(kLargest)));
    const __m512i lane = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm512_castsi512_pd(_mm512_or_si512(_mm512_andnot_si512(_mm512_set1_epi64(7), bits), lane));
}
inline void add_one(int32_t* v, Mask mask) {
    const __m256i before = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(v));
    const __m256i one = _mm256_set1_epi32(1);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(v),
                        _mm256_mask_add_epi32(before, static_cast<__mmask8>(mask), before, one));
}
inline __m256d smaller(__m256d a, __m256d b) { return _mm256_min_pd(a, b); }
inline __m256d smaller_half(const double* v, Mask mask) {
    const Lanes chosen = _mm512_mask_loadu_pd(_mm512_set1_pd(HUGE_VAL), static_cast<__mmask8>(mask), v);
    return smaller(low(chosen), high(chosen));
}
inline Mask equal(const int32_t* v, int32_t wanted) {
    return _mm256_cmpeq_epi32_mask(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(v)), _mm256_set1_epi32(wanted));
}
inline Mask within(const int32_t* v, int32_t centre, int32_t reach) {
    const __m256i gap =
        _mm256_sub_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(v)), _mm256_set1_epi32(centre));
    return _mm256_cmple_epi32_mask(_mm256_abs_epi32(gap), _mm256_set1_epi32(reach));
}

#elif defined(MSMA_LANES_AVX2)

inline Lanes broadcast(double v) { return {_mm256_set1_pd(v), _mm256_set1_pd(v)}; }
inline __m256d clamp(__m256d v, __m256d low, __m256d high) { return _mm256_min_pd(_mm256_max_pd(v, low), high); }
inline Lanes clamp(Lanes v, Lanes low, Lanes high) {
    return {clamp(v.low, low.low, high.low), clamp(v.high, low.high, high.high)};
}
inline Mask not_above(__m256d v, __m256d limit) {
    return static_cast<Mask>(_mm256_movemask_pd(_mm256_cmp_pd(v, limit, _CMP_LE_OQ)));
}
inline Mask not_above(Lanes v, Lanes limit) { return not_above(v.low, limit.low) | not_above(v.high, limit.high) << 4; }
inline __m256d tagged(__m256d v, __m256i lane) {
    const __m256i bits = _mm256_castpd_si256(_mm256_min_pd(v, _mm256_set1_pd(kLargest)));
    return _mm256_castsi256_pd(_mm256_or_si256(_mm256_andnot_si256(_mm256_set1_epi64x(7), bits), lane));
}
inline Lanes tagged(Lanes v) {
    return {tagged(v.low, _mm256_setr_epi64x(0, 1, 2, 3)), tagged(v.high, _mm256_setr_epi64x(4, 5, 6, 7))};
}
inline __m256d smaller(__m256d a, __m256d b) { return _mm256_min_pd(a, b); }
inline __m256d chosen(const double* v, Mask mask, __m256i bit) {
    const __m256i wanted = _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(mask), bit), bit);
    return _mm256_blendv_pd(_mm256_set1_pd(HUGE_VAL), _mm256_loadu_pd(v), _mm256_castsi256_pd(wanted));
}
inline __m256d smaller_half(const double* v, Mask mask) {
    return smaller(chosen(v, mask, _mm256_setr_epi64x(1, 2, 4, 8)),
                   chosen(v + 4, mask, _mm256_setr_epi64x(16, 32, 64, 128)));
}
inline void add_one(int32_t* v, Mask mask) {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i wanted = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(mask)), bit), bit);
    auto* to = reinterpret_cast<__m256i*>(v);
    _mm256_storeu_si256(to, _mm256_sub_epi32(_mm256_loadu_si256(to), wanted));
}
inline Mask signs(__m256i v) { return static_cast<Mask>(_mm256_movemask_ps(_mm256_castsi256_ps(v))); }
inline Mask equal(const int32_t* v, int32_t wanted) {
    return signs(
        _mm256_cmpeq_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(v)), _mm256_set1_epi32(wanted)));
}
inline Mask within(const int32_t* v, int32_t centre, int32_t reach) {
    const __m256i gap =
        _mm256_sub_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(v)), _mm256_set1_epi32(centre));
    return 0xffu ^ signs(_mm256_cmpgt_epi32(_mm256_abs_epi32(gap), _mm256_set1_epi32(reach)));
}

#else

inline Lanes broadcast(double v) {
    return each([&](int) { return v; });
}
inline double clamp(double v, double low, double high) {
    const double raised = v > low ? v : low;
    return raised < high ? raised : high;
}
inline Lanes clamp(const Lanes& v, const Lanes& low, const Lanes& high) {
    return each([&](int l) { return clamp(v.v[l], low.v[l], high.v[l]); });
}
template <typename Function>
inline Mask mask_of(Function f) {
    Mask mask = 0;
    for (int l = 0; l < kLanes; ++l) mask |= static_cast<Mask>(f(l)) << l;
    return mask;
}
inline Mask not_above(const Lanes& v, const Lanes& limit) {
    return mask_of([&](int l) { return v.v[l] <= limit.v[l]; });
}
inline Lanes tagged(const Lanes& v) {
    return each([&](int l) { return with_tag(v.v[l] < kLargest ? v.v[l] : kLargest, static_cast<uint64_t>(l)); });
}
inline void add_one(int32_t* v, Mask mask) {
    for (int l = 0; l < kLanes; ++l) v[l] += static_cast<int32_t>(mask >> l & 1u);
}
inline double smallest(const double* v, Mask mask) {
    double best = HUGE_VAL;
    for (int l = 0; l < kLanes; ++l) best = mask >> l & 1u && v[l] < best ? v[l] : best;
    return best;
}
inline Mask equal(const int32_t* v, int32_t wanted) {
    return mask_of([&](int l) { return v[l] == wanted; });
}
inline Mask within(const int32_t* v, int32_t centre, int32_t reach) {
    return mask_of([&](int l) {
        const int32_t gap = v[l] - centre;
        return (gap < 0 ? -gap : gap) <= reach;
    });
}

#endif

// The smallest of the 8 tagged bounds that the mask chooses, inf where it chooses none.
#if !defined(MSMA_LANES_SCALAR)
inline double smallest(const double* v, Mask mask) {
    const __m256d four = smaller_half(v, mask);
    const __m256d two = smaller(four, swap_halves(four));
    return _mm256_cvtsd_f64(smaller(two, swap_neighbors(two)));
}
#endif

#if defined(__GNUC__)
inline int lowest(uint64_t mask) { return __builtin_ctzll(mask); }
inline int population(Mask mask) { return __builtin_popcount(mask); }
#else
inline int lowest(uint64_t mask) {
    int at = 0;
    while (!(mask >> at & 1u)) ++at;
    return at;
}
inline int population(Mask mask) {
    int bits = 0;
    for (; mask; mask &= mask - 1) ++bits;
    return bits;
}
#endif

}  // namespace
}  // namespace MSMA_ISA
}  // namespace msma
