// Questions put to 8 points at once, answered by a mask with one bit a point; see lanes.hpp for the rules of
// this file.
#pragma once

#include "lanes.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

using Mask = unsigned;

#if defined(MSMA_LANES_AVX512)

inline Lanes broadcast(double v) { return _mm512_set1_pd(v); }
// v moved into [low, high]; NaN bounds of v's own making never hide a point: a NaN v stays or becomes a bound.
inline Lanes clamp(Lanes v, Lanes low, Lanes high) { return _mm512_min_pd(_mm512_max_pd(v, low), high); }
inline Mask not_above(Lanes v, Lanes limit) { return _mm512_cmp_pd_mask(v, limit, _CMP_LE_OQ); }
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

#if defined(__GNUC__)
inline int lowest(Mask mask) { return __builtin_ctz(mask); }
inline int population(Mask mask) { return __builtin_popcount(mask); }
#else
inline int lowest(Mask mask) {
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
