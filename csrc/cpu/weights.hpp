// Elements of a weight matrix and their float32 values.
#pragma once

#include <cstdint>
#include <cstring>

namespace msma {
namespace {

inline float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

struct Bfloat16 {
    uint16_t bits;
};

struct Float16 {
    uint16_t bits;
};

inline float widen(float value) { return value; }
inline float widen(Bfloat16 value) { return float_of(uint32_t{value.bits} << 16); }
// Exponent and mantissa moved up are 2^-112 of the value, subnormals too; infinity and NaN get the largest exponent.
inline float widen(Float16 value) {
    const uint32_t sign = (value.bits & 0x8000u) << 16, rest = (value.bits & 0x7fffu) << 13;
    const float scaled = float_of(rest) * 0x1p112f;
    uint32_t bits;
    std::memcpy(&bits, &scaled, sizeof bits);
    const uint32_t special = rest >= 0x0f800000u ? 0x7f800000u : 0u;
    return float_of(bits | sign | special);
}

}  // namespace
}  // namespace msma
