// Floats: float32 values of one vector register, and what the kernels do with them. not_above: bit l says that a is not
// greater than the limit there, NaN included.
//
// The including file defines MSMA_ISA and one of MSMA_LANES_AVX512, MSMA_LANES_AVX2, MSMA_LANES_SCALAR. Only intrinsics
// and plain loops here, as in lanes.hpp.
#pragma once

#include <cmath>
#include <cstdint>
#if !defined(MSMA_LANES_SCALAR)
#include <immintrin.h>
#endif

namespace msma {
namespace MSMA_ISA {
namespace {

#if defined(MSMA_LANES_AVX512)

using Floats = __m512;
constexpr int kFloats = 16;

inline Floats zero_floats() { return _mm512_setzero_ps(); }
inline Floats load_floats(const float* p) { return _mm512_load_ps(p); }
inline void store(float* p, Floats v) { _mm512_store_ps(p, v); }
inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats absolute(Floats a) { return _mm512_abs_ps(a); }
inline Floats larger_of(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats fill_floats(float v) { return _mm512_set1_ps(v); }
inline unsigned not_above(Floats a, Floats limit) { return _mm512_cmp_ps_mask(a, limit, _CMP_NGT_UQ); }
// a - *b in every place. As part of the subtraction the broadcast is a load and nothing else; on its own it takes a
// turn of the arithmetic units (AMD Zen 4: 0.39 ns a step of subtract, multiply-add against 0.27), and compilers prefer
// it on its own where b has several uses.
inline Floats subtract_all(Floats a, const float* b) {
    Floats difference;
    __asm__("vsubps %2%{1to16%}, %1, %0" : "=v"(difference) : "v"(a), "m"(*b));
    return difference;
}
inline Floats add_square(Floats sum, Floats a) { return _mm512_fmadd_ps(a, a, sum); }
inline Floats root(Floats a) { return _mm512_sqrt_ps(a); }
constexpr int64_t kRootLanes = 8;
inline void root_doubles(double* p) { _mm512_storeu_pd(p, _mm512_sqrt_pd(_mm512_loadu_pd(p))); }
inline void add_to(double* totals, Floats a) {
    const __m256 low = _mm512_castps512_ps256(a), high = _mm512_extractf32x8_ps(a, 1);
    _mm512_store_pd(totals, _mm512_add_pd(_mm512_load_pd(totals), _mm512_cvtps_pd(low)));
    _mm512_store_pd(totals + 8, _mm512_add_pd(_mm512_load_pd(totals + 8), _mm512_cvtps_pd(high)));
}
inline void narrow(const double* totals, float* to) {
    _mm256_store_ps(to, _mm512_cvtpd_ps(_mm512_load_pd(totals)));
    _mm256_store_ps(to + 8, _mm512_cvtpd_ps(_mm512_load_pd(totals + 8)));
}

#elif defined(MSMA_LANES_AVX2)

using Floats = __m256;
constexpr int kFloats = 8;

inline Floats zero_floats() { return _mm256_setzero_ps(); }
inline Floats load_floats(const float* p) { return _mm256_load_ps(p); }
inline void store(float* p, Floats v) { _mm256_store_ps(p, v); }
inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
inline Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
inline Floats absolute(Floats a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
inline Floats larger_of(Floats a, Floats b) { return _mm256_max_ps(a, b); }
inline Floats fill_floats(float v) { return _mm256_set1_ps(v); }
inline unsigned not_above(Floats a, Floats limit) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, limit, _CMP_NGT_UQ)));
}
inline Floats subtract_all(Floats a, const float* b) { return _mm256_sub_ps(a, _mm256_broadcast_ss(b)); }
inline Floats add_square(Floats sum, Floats a) { return _mm256_fmadd_ps(a, a, sum); }
inline Floats root(Floats a) { return _mm256_sqrt_ps(a); }
constexpr int64_t kRootLanes = 4;
inline void root_doubles(double* p) { _mm256_storeu_pd(p, _mm256_sqrt_pd(_mm256_loadu_pd(p))); }
inline void add_to(double* totals, Floats a) {
    const __m128 low = _mm256_castps256_ps128(a), high = _mm256_extractf128_ps(a, 1);
    _mm256_store_pd(totals, _mm256_add_pd(_mm256_load_pd(totals), _mm256_cvtps_pd(low)));
    _mm256_store_pd(totals + 4, _mm256_add_pd(_mm256_load_pd(totals + 4), _mm256_cvtps_pd(high)));
}
inline void narrow(const double* totals, float* to) {
    _mm_store_ps(to, _mm256_cvtpd_ps(_mm256_load_pd(totals)));
    _mm_store_ps(to + 4, _mm256_cvtpd_ps(_mm256_load_pd(totals + 4)));
}

#else

constexpr int kFloats = 4;

struct Floats {
    float v[kFloats];
};

inline Floats zero_floats() { return Floats{}; }
template <typename Function>
inline Floats each_float(Function f) {
    Floats out;
    for (int l = 0; l < kFloats; ++l) out.v[l] = f(l);
    return out;
}
inline Floats load_floats(const float* p) {
    return each_float([&](int l) { return p[l]; });
}
inline void store(float* p, const Floats& a) {
    for (int l = 0; l < kFloats; ++l) p[l] = a.v[l];
}
inline Floats add(const Floats& a, const Floats& b) {
    return each_float([&](int l) { return a.v[l] + b.v[l]; });
}
inline Floats multiply(const Floats& a, const Floats& b) {
    return each_float([&](int l) { return a.v[l] * b.v[l]; });
}
inline Floats absolute(const Floats& a) {
    return each_float([&](int l) { return std::fabs(a.v[l]); });
}
inline Floats larger_of(const Floats& a, const Floats& b) {
    return each_float([&](int l) { return a.v[l] > b.v[l] ? a.v[l] : b.v[l]; });
}
inline Floats fill_floats(float v) {
    return each_float([&](int) { return v; });
}
inline unsigned not_above(const Floats& a, const Floats& limit) {
    unsigned mask = 0;
    for (int l = 0; l < kFloats; ++l) mask |= static_cast<unsigned>(!(a.v[l] > limit.v[l])) << l;
    return mask;
}
inline Floats subtract_all(const Floats& a, const float* b) {
    return each_float([&](int l) { return a.v[l] - *b; });
}
inline Floats add_square(const Floats& sum, const Floats& a) {
    return each_float([&](int l) { return sum.v[l] + a.v[l] * a.v[l]; });
}
inline Floats root(const Floats& a) {
    return each_float([&](int l) { return std::sqrt(a.v[l]); });
}
constexpr int64_t kRootLanes = 1;
inline void root_doubles(double* p) { *p = std::sqrt(*p); }
inline void add_to(double* totals, const Floats& a) {
    for (int l = 0; l < kFloats; ++l) totals[l] += static_cast<double>(a.v[l]);
}
inline void narrow(const double* totals, float* to) {
    for (int l = 0; l < kFloats; ++l) to[l] = static_cast<float>(totals[l]);
}

#endif

}  // namespace
}  // namespace MSMA_ISA
}  // namespace msma
