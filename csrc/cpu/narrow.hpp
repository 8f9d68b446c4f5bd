// Narrow: 16 float32 numbers, 8 each of two places, as one zmm, two ymm or 16 scalars; see lanes.hpp for the rules of
// this file. Sums may be fused: nothing but bounds is decided by them, and their last bits differ between instruction
// sets.
#pragma once

#include "masks.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

#if defined(MSMA_LANES_AVX512)

using Narrow = __m512;

inline Narrow narrow_zero() { return _mm512_setzero_ps(); }
inline Narrow narrow_all(float v) { return _mm512_set1_ps(v); }
inline Narrow load(const float* first, const float* second) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(first)), _mm256_loadu_ps(second), 1);
}
inline Narrow add(Narrow a, Narrow b) { return _mm512_add_ps(a, b); }
inline Narrow subtract(Narrow a, Narrow b) { return _mm512_sub_ps(a, b); }
inline Narrow multiply(Narrow a, Narrow b) { return _mm512_mul_ps(a, b); }
inline Narrow multiply_add(Narrow a, Narrow b, Narrow c) { return _mm512_fmadd_ps(a, b, c); }
inline Narrow absolute(Narrow a) { return _mm512_abs_ps(a); }
// For a, b >= +0.0 or NaN, which is kept; as in lanes.hpp.
inline Narrow maximum(Narrow a, Narrow b) {
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
// v moved into [low, high].
inline Narrow clamp(Narrow v, Narrow low, Narrow high) { return _mm512_min_ps(_mm512_max_ps(v, low), high); }
// A bit for each of the 16.
inline Mask not_above(Narrow v, Narrow limit) { return _mm512_cmp_ps_mask(v, limit, _CMP_LE_OQ); }

#elif defined(MSMA_LANES_AVX2)

struct Narrow {
    __m256 first, second;
};

inline Narrow narrow_zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Narrow narrow_all(float v) { return {_mm256_set1_ps(v), _mm256_set1_ps(v)}; }
inline Narrow load(const float* first, const float* second) {
    return {_mm256_loadu_ps(first), _mm256_loadu_ps(second)};
}
inline Narrow add(Narrow a, Narrow b) { return {_mm256_add_ps(a.first, b.first), _mm256_add_ps(a.second, b.second)}; }
inline Narrow subtract(Narrow a, Narrow b) {
    return {_mm256_sub_ps(a.first, b.first), _mm256_sub_ps(a.second, b.second)};
}
inline Narrow multiply(Narrow a, Narrow b) {
    return {_mm256_mul_ps(a.first, b.first), _mm256_mul_ps(a.second, b.second)};
}
inline Narrow multiply_add(Narrow a, Narrow b, Narrow c) {
    return {_mm256_fmadd_ps(a.first, b.first, c.first), _mm256_fmadd_ps(a.second, b.second, c.second)};
}
inline Narrow absolute(Narrow a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, a.first), _mm256_andnot_ps(sign, a.second)};
}
inline __m256 maximum(__m256 a, __m256 b) {
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
// For a, b >= +0.0 or NaN, which is kept; as in lanes.hpp.
inline Narrow maximum(Narrow a, Narrow b) { return {maximum(a.first, b.first), maximum(a.second, b.second)}; }
inline __m256 clamp(__m256 v, __m256 low, __m256 high) { return _mm256_min_ps(_mm256_max_ps(v, low), high); }
inline Narrow clamp(Narrow v, Narrow low, Narrow high) {
    return {clamp(v.first, low.first, high.first), clamp(v.second, low.second, high.second)};
}
inline Mask not_above(__m256 v, __m256 limit) {
    return static_cast<Mask>(_mm256_movemask_ps(_mm256_cmp_ps(v, limit, _CMP_LE_OQ)));
}
inline Mask not_above(Narrow v, Narrow limit) {
    return not_above(v.first, limit.first) | not_above(v.second, limit.second) << 8;
}

#else

constexpr int kNarrow = 16;

struct Narrow {
    float v[kNarrow];
};

template <typename Function>
inline Narrow each_narrow(Function f) {
    Narrow out;
    for (int l = 0; l < kNarrow; ++l) out.v[l] = f(l);
    return out;
}
inline Narrow narrow_zero() { return Narrow{}; }
inline Narrow narrow_all(float v) {
    return each_narrow([&](int) { return v; });
}
inline Narrow load(const float* first, const float* second) {
    return each_narrow([&](int l) { return l < 8 ? first[l] : second[l - 8]; });
}
inline Narrow add(const Narrow& a, const Narrow& b) {
    return each_narrow([&](int l) { return a.v[l] + b.v[l]; });
}
inline Narrow subtract(const Narrow& a, const Narrow& b) {
    return each_narrow([&](int l) { return a.v[l] - b.v[l]; });
}
inline Narrow multiply(const Narrow& a, const Narrow& b) {
    return each_narrow([&](int l) { return a.v[l] * b.v[l]; });
}
inline Narrow multiply_add(const Narrow& a, const Narrow& b, const Narrow& c) {
    return each_narrow([&](int l) { return a.v[l] * b.v[l] + c.v[l]; });
}
inline Narrow absolute(const Narrow& a) {
    return each_narrow([&](int l) { return std::fabs(a.v[l]); });
}
// NaN is kept.
inline Narrow maximum(const Narrow& a, const Narrow& b) {
    return each_narrow([&](int l) { return a.v[l] > b.v[l] || a.v[l] != a.v[l] ? a.v[l] : b.v[l]; });
}
inline Narrow clamp(const Narrow& v, const Narrow& low, const Narrow& high) {
    return each_narrow([&](int l) {
        const float raised = v.v[l] > low.v[l] ? v.v[l] : low.v[l];
        return raised < high.v[l] ? raised : high.v[l];
    });
}
inline Mask not_above(const Narrow& v, const Narrow& limit) {
    Mask mask = 0;
    for (int l = 0; l < kNarrow; ++l) mask |= static_cast<Mask>(v.v[l] <= limit.v[l]) << l;
    return mask;
}

#endif

}  // namespace
}  // namespace MSMA_ISA
}  // namespace msma
