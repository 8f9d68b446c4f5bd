// Lanes: eight float64 accumulators as one zmm, two ymm or eight scalars, with the same results bit for bit.
//
// The including file defines MSMA_ISA (the namespace) and one of MSMA_LANES_AVX512, MSMA_LANES_AVX2,
// MSMA_LANES_SCALAR. Only intrinsics and plain loops here: a library template compiled with wider
// instructions could be picked by the linker for every other file of the module.
#pragma once

#include <cmath>
#include <cstdint>
#if !defined(MSMA_LANES_SCALAR)
#include <immintrin.h>
#endif

namespace msma {
namespace MSMA_ISA {
namespace {

constexpr int64_t kLanes = 8;

#if defined(MSMA_LANES_AVX512)

using Lanes = __m512d;

inline Lanes zero() { return _mm512_setzero_pd(); }
inline Lanes fill(double v) { return _mm512_set1_pd(v); }
inline Lanes load(const double* p) { return _mm512_loadu_pd(p); }
inline Lanes load(const float* p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
inline Lanes load_first(const double* p, int64_t count) {
    return _mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << count) - 1), p);
}
inline Lanes load_first(const float* p, int64_t count) {
    return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(static_cast<__mmask8>((1u << count) - 1), p));
}
inline void store(double* p, Lanes v) { _mm512_storeu_pd(p, v); }
inline Lanes add(Lanes a, Lanes b) { return _mm512_add_pd(a, b); }
// 1 a - b on the multipliers is rounded once, so it is a - b to the bit. Where adders and multipliers are
// separate (AMD Zen 4), sending every other difference there takes a step of subtract, multiply, add from 2
// to 1.5 cycles: 40 to 51 GF/s a core.
inline Lanes subtract(Lanes a, Lanes b, bool on_multipliers = false) {
    return on_multipliers ? _mm512_fmsub_pd(a, _mm512_set1_pd(1.0), b) : _mm512_sub_pd(a, b);
}
inline Lanes multiply(Lanes a, Lanes b) { return _mm512_mul_pd(a, b); }
inline Lanes absolute(Lanes a) { return _mm512_abs_pd(a); }
// For a, b >= +0.0 or NaN: the bit patterns have the order of the values and NaN lies above all, so NaN is
// kept.
inline __m256d maximum(__m256d a, __m256d b) {
    return _mm256_castsi256_pd(_mm256_max_epi64(_mm256_castpd_si256(a), _mm256_castpd_si256(b)));
}
inline Lanes maximum(Lanes a, Lanes b) {
    return _mm512_castsi512_pd(_mm512_max_epi64(_mm512_castpd_si512(a), _mm512_castpd_si512(b)));
}

#elif defined(MSMA_LANES_AVX2)

struct Lanes {
    __m256d low, high;
};

inline Lanes zero() { return {_mm256_setzero_pd(), _mm256_setzero_pd()}; }
inline Lanes fill(double v) { return {_mm256_set1_pd(v), _mm256_set1_pd(v)}; }
inline Lanes load(const double* p) { return {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }
inline Lanes load(const float* p) { return {_mm256_cvtps_pd(_mm_loadu_ps(p)), _mm256_cvtps_pd(_mm_loadu_ps(p + 4))}; }
inline __m256i first(int64_t count) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}
inline Lanes load_first(const double* p, int64_t count) {
    return {_mm256_maskload_pd(p, first(count)), _mm256_maskload_pd(p + 4, first(count - 4))};
}
inline Lanes load_first(const float* p, int64_t count) {
    const __m256i wanted =
        _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    const __m256 v = _mm256_maskload_ps(p, wanted);
    return {_mm256_cvtps_pd(_mm256_castps256_ps128(v)), _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1))};
}
inline void store(double* p, Lanes v) {
    _mm256_storeu_pd(p, v.low);
    _mm256_storeu_pd(p + 4, v.high);
}
inline Lanes add(Lanes a, Lanes b) { return {_mm256_add_pd(a.low, b.low), _mm256_add_pd(a.high, b.high)}; }
inline Lanes subtract(Lanes a, Lanes b, bool = false) {
    return {_mm256_sub_pd(a.low, b.low), _mm256_sub_pd(a.high, b.high)};
}
inline Lanes multiply(Lanes a, Lanes b) { return {_mm256_mul_pd(a.low, b.low), _mm256_mul_pd(a.high, b.high)}; }
inline Lanes absolute(Lanes a) {
    const __m256d sign = _mm256_set1_pd(-0.0);
    return {_mm256_andnot_pd(sign, a.low), _mm256_andnot_pd(sign, a.high)};
}
inline __m256d maximum(__m256d a, __m256d b) {
    const __m256i larger = _mm256_cmpgt_epi64(_mm256_castpd_si256(b), _mm256_castpd_si256(a));
    return _mm256_blendv_pd(a, b, _mm256_castsi256_pd(larger));
}
// For a, b >= +0.0 or NaN: the bit patterns have the order of the values and NaN lies above all, so NaN is
// kept.
inline Lanes maximum(Lanes a, Lanes b) { return {maximum(a.low, b.low), maximum(a.high, b.high)}; }

#else

struct Lanes {
    double v[kLanes];
};

template <typename Function>
inline Lanes each(Function f) {
    Lanes out;
    for (int l = 0; l < kLanes; ++l) out.v[l] = f(l);
    return out;
}
inline Lanes zero() { return Lanes{}; }
inline Lanes fill(double v) {
    return each([&](int) { return v; });
}
template <typename T>
inline Lanes load(const T* p) {
    return each([&](int l) { return static_cast<double>(p[l]); });
}
template <typename T>
inline Lanes load_first(const T* p, int64_t count) {
    return each([&](int l) { return l < count ? static_cast<double>(p[l]) : 0.0; });
}
inline void store(double* p, const Lanes& a) {
    for (int l = 0; l < kLanes; ++l) p[l] = a.v[l];
}
inline Lanes add(const Lanes& a, const Lanes& b) {
    return each([&](int l) { return a.v[l] + b.v[l]; });
}
inline Lanes subtract(const Lanes& a, const Lanes& b, bool = false) {
    return each([&](int l) { return a.v[l] - b.v[l]; });
}
inline Lanes multiply(const Lanes& a, const Lanes& b) {
    return each([&](int l) { return a.v[l] * b.v[l]; });
}
inline Lanes absolute(const Lanes& a) {
    return each([&](int l) { return std::fabs(a.v[l]); });
}
// NaN is kept. Two selects and no branch.
inline double larger(double a, double b) {
    const double m = a > b ? a : b;
    return a != a ? a : m;
}
inline Lanes maximum(const Lanes& a, const Lanes& b) {
    return each([&](int l) { return larger(a.v[l], b.v[l]); });
}

#endif

// The canonical end: ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7)), and the same tree of maxima.
#if defined(MSMA_LANES_SCALAR)
inline double combine_sum(const Lanes& a) {
    const double* l = a.v;
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}
inline double combine_maximum(const Lanes& a) {
    double best = a.v[0];
    for (int l = 1; l < kLanes; ++l) best = larger(best, a.v[l]);
    return best;
}
#else
#if defined(MSMA_LANES_AVX512)
inline __m256d low(Lanes a) { return _mm512_castpd512_pd256(a); }
inline __m256d high(Lanes a) { return _mm512_extractf64x4_pd(a, 1); }
#else
inline __m256d low(Lanes a) { return a.low; }
inline __m256d high(Lanes a) { return a.high; }
#endif
inline __m256d swap_halves(__m256d a) { return _mm256_permute2f128_pd(a, a, 1); }
inline __m256d swap_neighbors(__m256d a) { return _mm256_permute_pd(a, 5); }
inline double combine_sum(Lanes a) {
    const __m256d four = _mm256_add_pd(low(a), high(a));
    const __m256d two = _mm256_add_pd(four, swap_halves(four));
    return _mm256_cvtsd_f64(_mm256_add_pd(two, swap_neighbors(two)));
}
inline double combine_maximum(Lanes a) {
    const __m256d four = maximum(low(a), high(a));
    const __m256d two = maximum(four, swap_halves(four));
    return _mm256_cvtsd_f64(maximum(two, swap_neighbors(two)));
}
#endif

}  // namespace
}  // namespace MSMA_ISA
}  // namespace msma
