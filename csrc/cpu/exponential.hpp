// exp and expm1 of a register of float32.
//
// x = n ln 2 + f with |f| <= ln 2 / 2 (Cody and Waite: ln 2 in two parts), exp(x) = 2^n (1 + r), and r = exp(f) - 1 by
// its Taylor series to f^7, whose remainder is below 6e-9. Within 1 ulp of the exact value, exact at 0.
//
// The including file defines MSMA_ISA and one of MSMA_LANES_*.
#pragma once

#include <cstring>

#include "floats.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

#if defined(MSMA_LANES_AVX512)

inline Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats nearest_integer(Floats a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT); }
inline Floats select_above(Floats a, Floats b, Floats yes, Floats no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), no, yes);
}
inline Floats zero_below(Floats value, Floats a, Floats limit) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, limit, _CMP_NLT_UQ), value);
}
inline Floats power_of_two(Floats n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}

#elif defined(MSMA_LANES_AVX2)

inline Floats subtract(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
inline Floats divide(Floats a, Floats b) { return _mm256_div_ps(a, b); }
inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline Floats nearest_integer(Floats a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Floats select_above(Floats a, Floats b, Floats yes, Floats no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_GT_OQ));
}
inline Floats zero_below(Floats value, Floats a, Floats limit) {
    return _mm256_and_ps(_mm256_cmp_ps(a, limit, _CMP_NLT_UQ), value);
}
inline Floats power_of_two(Floats n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}

#else

inline Floats subtract(const Floats& a, const Floats& b) {
    return each_float([&](int l) { return a.v[l] - b.v[l]; });
}
inline Floats divide(const Floats& a, const Floats& b) {
    return each_float([&](int l) { return a.v[l] / b.v[l]; });
}
inline Floats multiply_add(const Floats& a, const Floats& b, const Floats& c) {
    return each_float([&](int l) { return a.v[l] * b.v[l] + c.v[l]; });
}
// Adding 1.5 2^23 rounds |a| < 2^22 to an integer.
inline Floats nearest_integer(const Floats& a) {
    return each_float([&](int l) { return (a.v[l] + 0x1.8p23f) - 0x1.8p23f; });
}
inline Floats select_above(const Floats& a, const Floats& b, const Floats& yes, const Floats& no) {
    return each_float([&](int l) { return a.v[l] > b.v[l] ? yes.v[l] : no.v[l]; });
}
inline Floats zero_below(const Floats& value, const Floats& a, const Floats& limit) {
    return each_float([&](int l) { return a.v[l] < limit.v[l] ? 0.0f : value.v[l]; });
}
// NaN, too, has to be converted to some integer.
inline Floats power_of_two(const Floats& n) {
    return each_float([&](int l) {
        const auto bits = static_cast<uint32_t>((n.v[l] > -127.0f ? static_cast<int32_t>(n.v[l]) : -127) + 127) << 23;
        float power;
        std::memcpy(&power, &bits, sizeof power);
        return power;
    });
}

#endif

struct Exponential {
    Floats power, rest;  // exp(x) = power (1 + rest)
};

// -87 <= x <= 88, or NaN.
inline Exponential exponential_parts(Floats x) {
    const Floats n = nearest_integer(multiply(x, fill_floats(0x1.715476p0f)));
    const Floats high = multiply_add(n, fill_floats(-0x1.62e4p-1f), x);
    const Floats f = multiply_add(n, fill_floats(-0x1.7f7d1cp-20f), high);
    Floats series = fill_floats(1.0f / 5040);
    constexpr float coefficients[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f};
    for (const float c : coefficients) series = multiply_add(series, f, fill_floats(c));
    return {power_of_two(n), multiply_add(multiply(f, f), series, f)};
}

constexpr float kLeastExponent = -87.0f;  // exp of less is taken for zero

// x <= 88; NaN stays NaN.
inline Floats exponential(Floats x) {
    const Exponential parts = exponential_parts(larger_of(fill_floats(kLeastExponent), x));
    return zero_below(multiply_add(parts.power, parts.rest, parts.power), x, fill_floats(kLeastExponent));
}

// exp(x) - 1, x <= 88.
inline Floats exponential_minus_one(Floats x) {
    const Exponential parts = exponential_parts(larger_of(fill_floats(kLeastExponent), x));
    return multiply_add(parts.power, parts.rest, add(parts.power, fill_floats(-1.0f)));
}

}  // namespace
}  // namespace MSMA_ISA
}  // namespace msma
