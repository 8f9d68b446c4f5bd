// Rounding rows to codes, sixteen rows at a time with one row a lane: plain loops over lanes that every compiler
// turns into vectors of its instruction set. The formulas are in codes.hpp.
//
// The including file defines MSMA_ISA and MSMA_CODES_PER_WORD. No library templates here, see lanes.hpp.
#pragma once

#include "codes.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

// sqrt of a float32 value, rounded up by more than any rounding of the steps around it.
inline float root_up(float v) { return __builtin_sqrtf(v) * (1.0f + 0x1p-20f); }

// Half the coordinates are flipped in a fixed pattern, then (a, b) -> (a + b, a - b) over every stride of a window.
// The factor 1 / sqrt(window) is a power of two. Each level rounds once: |error| <= levels 2^-24 |z|.
inline void rotate(const Picture& picture, float* z) {
    const int64_t width = picture.window;
    int64_t root = 1;
    while (root * root < width) root *= 2;
    const float factor = 1.0f / static_cast<float>(root);
    for (int64_t w = 0; w < picture.window_count; ++w) {
        float* base = z + picture.windows[w] * kEncodeRows;
        for (int64_t half = 1; half < width; half *= 2) {
            for (int64_t start = 0; start < width; start += 2 * half) {
                float* __restrict a = base + start * kEncodeRows;
                float* __restrict b = a + half * kEncodeRows;
                for (int64_t k = 0; k < half * kEncodeRows; ++k) {
                    const float sum = a[k] + b[k], difference = a[k] - b[k];
                    a[k] = sum;
                    b[k] = difference;
                }
            }
        }
        for (int64_t k = 0; k < width * kEncodeRows; ++k) base[k] *= factor;
    }
}

// z (d, 16) of `count` rows, then room for one row; absent rows are zero.
template <typename T>
void shift_rows(const Picture& picture, const Rows<T>& rows, int64_t first, int64_t count, float* z) {
    const int64_t d = picture.dimension;
    const double scale = picture.scale;
    float* row = z + d * kEncodeRows;
    for (int64_t l = 0; l < kEncodeRows; ++l) {
        if (l < count) {
            const T* x = rows.row(first + l);
            if (rows.norms) {
                const double norm = rows.norms[first + l];
                for (int64_t j = 0; j < d; ++j) {
                    const double value = static_cast<double>(x[j]) / norm - picture.shift[j];
                    row[j] = static_cast<float>(value * scale) * picture.sign[j];
                }
            } else {
                for (int64_t j = 0; j < d; ++j) {
                    const double value = static_cast<double>(x[j]) - picture.shift[j];
                    row[j] = static_cast<float>(value * scale) * picture.sign[j];
                }
            }
        } else {
            for (int64_t j = 0; j < d; ++j) row[j] = 0.0f;
        }
        for (int64_t j = 0; j < d; ++j) z[j * kEncodeRows + l] = row[j];
    }
}

// Adding and taking away 1.5 2^23 rounds a small float32 to the nearest integer.
constexpr float kRounder = 12582912.0f;

// Codes of sixteen rows as the products read them.
struct Words {
    int32_t word[kEncodeRows] = {}, low[kEncodeRows] = {};

    // The code of row l, at place `part` of its word.
    void put(int64_t l, int64_t part, int32_t code) { word[l] |= at(part, code); }
    void put_low(int64_t l, int64_t part, int32_t code) { low[l] |= at(part, code); }

  private:
    static int32_t at(int64_t part, int32_t code) {
        constexpr int64_t bits = 32 / MSMA_CODES_PER_WORD;
        return static_cast<int32_t>(static_cast<uint32_t>(code & ((1 << bits) - 1)) << (part * bits));
    }
};

template <typename T, bool fine>
void encode_as(const Picture& picture, const Rows<T>& rows, const double* extra, Range panels, float* z,
               const Codes& codes) {
    constexpr int64_t L = kEncodeRows;
    constexpr int64_t G = MSMA_CODES_PER_WORD;
    constexpr int largest_code = fine ? kLargestFineCode : kLargestCode;
    const float widening = static_cast<float>(int64_t{1} << codes.shift / 2);
    const int64_t d = picture.dimension;
    // What float32 loses in z: the conversion, the levels of the rotation, q step and z - q step.
    int64_t levels = 8;
    for (int64_t w = 1; w < picture.window; w *= 2) levels += picture.window_count;
    const float rounding = static_cast<float>(levels) * 0x1p-24f + static_cast<float>(picture.fuzz);
    const float growth = 1.0f + static_cast<float>(d + 64) * 0x1p-23f;  // sums of squares in float32
    for (int64_t first = panels.begin * kPanel; first < panels.end * kPanel; first += L) {
        const int64_t left = codes.count - first;
        shift_rows(picture, rows, first, left < 0 ? 0 : left < L ? left : L, z);
        rotate(picture, z);
        float largest[L] = {}, inverse[L], step[L], lost[L] = {};
        int32_t sum[L] = {}, low_sum[L] = {}, squares[L] = {};
        double fine_squares[L] = {};  // exact below 2^53, and rounded by no more than `growth` beyond
        for (int64_t j = 0; j < d; ++j) {
            for (int64_t l = 0; l < L; ++l) {
                const float size = __builtin_fabsf(z[j * L + l]);
                largest[l] = size > largest[l] ? size : largest[l];
            }
        }
        for (int64_t l = 0; l < L; ++l) {
            const bool screened = largest[l] > 0x1p-60f;
            step[l] = screened ? largest[l] * (1.0f / largest_code) : 0.0f;
            inverse[l] = screened ? 1.0f / step[l] : 0.0f;
        }
        const int64_t place = (first / kPanel) * codes.groups * kPanel + first % kPanel;
        for (int64_t g = 0; g < codes.groups; ++g) {
            Words words;
            for (int64_t part = 0; part < G; ++part) {
                const int64_t j = g * G + part;
                if (j >= d) break;
                for (int64_t l = 0; l < L; ++l) {
                    const float value = z[j * L + l];
                    float q = (value * inverse[l] + kRounder) - kRounder;
                    q = q > largest_code ? largest_code : q < -largest_code ? -largest_code : q;
                    const float missed = value - q * step[l];
                    lost[l] += missed * missed;
                    const int32_t code = static_cast<int32_t>(q);
                    if constexpr (fine) {
                        const int32_t high = (code + 128) >> 8, low = code - 256 * high;
                        sum[l] += high;
                        low_sum[l] += low;
                        fine_squares[l] += static_cast<double>(q) * static_cast<double>(q);
                        words.put(l, part, high);
                        words.put_low(l, part, low);
                    } else {
                        sum[l] += code;
                        squares[l] += code * code;
                        words.put(l, part, code);
                    }
                }
            }
            for (int64_t l = 0; l < L; ++l) codes.packed[place + g * kPanel + l] = words.word[l];
            if constexpr (fine) {
                for (int64_t l = 0; l < L; ++l) codes.low[place + g * kPanel + l] = words.low[l];
            }
        }
        for (int64_t l = 0; l < L; ++l) {
            const int64_t i = first + l;
            const float square =
                static_cast<float>(static_cast<double>(step[l]) * step[l] * (fine ? fine_squares[l] : squares[l]));
            const float residual = root_up(lost[l]) * growth + (fine ? 0.5f * widening * step[l] : 0.0f);
            const float length = root_up(square) + residual;
            const double own = extra && i < codes.count ? extra[i] * picture.scale : 0.0;
            // The floor keeps squares of spreads away from the subnormal range.
            float spread =
                (residual + length * rounding + static_cast<float>(own * (1.0 + 0x1p-20))) * (1.0f + 0x1p-18f);
            spread = spread < 0x1p-40f ? 0x1p-40f : spread;
            codes.sum[i] = sum[l];
            if constexpr (fine) codes.low_sum[i] = low_sum[l];
            codes.step[i] = step[l] * widening;
            codes.square[i] = square;
            codes.spread[i] = spread;
            codes.inner[i] = spread * spread - square;
            codes.length[i] = length * (1.0f + 0x1p-18f) + 0x1p-40f;
        }
    }
}

template <typename T>
void encode(const Picture& picture, const Rows<T>& rows, const double* extra, Range panels, float* z,
            const Codes& codes) {
    (codes.low ? encode_as<T, true> : encode_as<T, false>)(picture, rows, extra, panels, z, codes);
}

}  // namespace
}  // namespace MSMA_ISA
}  // namespace msma
