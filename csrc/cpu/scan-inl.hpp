// Single passes over rows as plain loops that every compiler turns into vectors of its instruction set.
//
// The including file defines MSMA_ISA. No library templates here, see lanes.hpp.
#pragma once

#include "scan_body.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

// The bits of a value as an integer without its sign: inf and NaN lie at and above the bits of inf.
inline uint32_t size_bits(float v) {
    uint32_t bits;
    __builtin_memcpy(&bits, &v, sizeof bits);
    return bits & 0x7fffffffu;
}
inline uint64_t size_bits(double v) {
    uint64_t bits;
    __builtin_memcpy(&bits, &v, sizeof bits);
    return bits & 0x7fffffffffffffffu;
}

// Short numbers have their bits at the top of a float64, where a product modulo 2^64 would lose them.
inline uint64_t folded(uint32_t bits) { return bits; }
inline uint64_t folded(uint64_t bits) { return bits ^ (bits >> 32); }

template <typename T>
inline T smaller(T a, T b) {
    return a < b ? a : b;
}
template <typename T>
inline T larger(T a, T b) {
    return a > b ? a : b;
}

// `count` rows at once, so that the three arrays are written once for them all.
template <int count, typename T>
void range_rows(const T* x, int64_t d, T* __restrict low, T* __restrict high, T* __restrict poison) {
    for (int64_t j = 0; j < d; ++j) {
        T least = low[j], most = high[j], spoilt = poison[j];
#pragma GCC unroll 4
        for (int r = 0; r < count; ++r) {
            const T v = x[r * d + j];
            least = smaller(v, least);
            most = larger(v, most);
            spoilt += v * T{0};
        }
        low[j] = least;
        high[j] = most;
        poison[j] = spoilt;
    }
}

template <typename T>
void ranges(const Rows<T>& rows, T* low, T* high, T* poison) {
    int64_t i = 0;
    for (; i + 4 <= rows.count; i += 4) range_rows<4>(rows.row(i), rows.dimension, low, high, poison);
    for (; i < rows.count; ++i) range_rows<1>(rows.row(i), rows.dimension, low, high, poison);
}

template <typename T>
bool finite(const T* values, int64_t count) {
    auto worst = size_bits(T{0});
    for (int64_t t = 0; t < count; ++t) worst = larger(size_bits(values[t]), worst);
    return worst < size_bits(static_cast<T>(__builtin_inf()));
}

template <typename T>
void hash(const Rows<T>& rows, const uint64_t* weights, uint64_t* hashes) {
    using Bits = decltype(size_bits(T{0}));
    for (int64_t i = 0; i < rows.count; ++i) {
        const T* x = rows.row(i);
        uint64_t total = 0;
        for (int64_t j = 0; j < rows.dimension; ++j) {
            const T value = x[j] + T{0};
            Bits bits;
            __builtin_memcpy(&bits, &value, sizeof bits);
            total += weights[j] * folded(bits);
        }
        hashes[i] = total;
    }
}

}  // namespace

template <typename T>
ScanBody<T> scan_body() {
    return {ranges<T>, finite<T>, hash<T>};
}

template ScanBody<float> scan_body<float>();
template ScanBody<double> scan_body<double>();

}  // namespace MSMA_ISA
}  // namespace msma
