// Sketches compared: the body of sketch.hpp, compiled once per instruction set (sketch_scalar, _avx2, _avx512).
//
// Bytes: a register holds eight codes of several rows of y, against the same eight codes of one row of x in every
// place, so that one instruction sums eight |differences| of each column and nothing runs across columns before the
// end. Floats: a register holds one code of kFloats rows of y.
//
// The including file defines MSMA_ISA and one of MSMA_LANES_*; only intrinsics and plain loops here, see lanes.hpp.
#pragma once

#include <cstring>

#include "floats.hpp"
#include "sketch.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

constexpr int R = kSketchStrip;
// After so many groups of codes a tile is looked at, and left where no pair can matter any more. radius_count of 8192 x
// 576 activations, AMD Zen 4: a quarter of the time less for chebyshev, a third for minkowski (p = 3). Sums of
// manhattan grow too evenly: there looking costs a tenth and saves nothing.
constexpr int64_t kLargestChunk = 16, kFloatChunk = 64;

// -- bytes

#if defined(MSMA_LANES_AVX512)

using Bytes = __m512i;
using Gathered = __m512i;  // a sum or a maximum of each column
constexpr int kByteColumns = 8, kByteRegisters = 4;

inline Gathered nothing() { return _mm512_setzero_si512(); }
inline Bytes load_bytes(const unsigned char* p) { return _mm512_load_si512(p); }
inline Bytes eight_everywhere(const unsigned char* p) {
    long long word;
    std::memcpy(&word, p, sizeof word);
    return _mm512_set1_epi64(word);
}
inline Gathered add_differences(Gathered sum, Bytes a, Bytes b) { return _mm512_add_epi64(sum, _mm512_sad_epu8(a, b)); }
inline Gathered keep_largest(Gathered most, Bytes a, Bytes b) {
    return _mm512_max_epu8(_mm512_max_epu8(most, _mm512_subs_epu8(a, b)), _mm512_subs_epu8(b, a));
}
inline void store_sums(float* to, Gathered sum) { _mm256_store_ps(to, _mm512_cvtepi64_ps(sum)); }
inline void store_largest(float* to, Gathered most) {
    most = _mm512_max_epu8(most, _mm512_srli_epi64(most, 32));
    most = _mm512_max_epu8(most, _mm512_srli_epi64(most, 16));
    most = _mm512_max_epu8(most, _mm512_srli_epi64(most, 8));
    store_sums(to, _mm512_and_si512(most, _mm512_set1_epi64(0xff)));
}

#elif defined(MSMA_LANES_AVX2)

using Bytes = __m256i;
using Gathered = __m256i;
constexpr int kByteColumns = 4, kByteRegisters = 2;

inline Gathered nothing() { return _mm256_setzero_si256(); }
inline Bytes load_bytes(const unsigned char* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
inline Bytes eight_everywhere(const unsigned char* p) {
    long long word;
    std::memcpy(&word, p, sizeof word);
    return _mm256_set1_epi64x(word);
}
inline Gathered add_differences(Gathered sum, Bytes a, Bytes b) { return _mm256_add_epi64(sum, _mm256_sad_epu8(a, b)); }
inline Gathered keep_largest(Gathered most, Bytes a, Bytes b) {
    return _mm256_max_epu8(_mm256_max_epu8(most, _mm256_subs_epu8(a, b)), _mm256_subs_epu8(b, a));
}
inline void store_sums(float* to, Gathered sum) {
    const __m256i low = _mm256_permutevar8x32_epi32(sum, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
    _mm_store_ps(to, _mm_cvtepi32_ps(_mm256_castsi256_si128(low)));
}
inline void store_largest(float* to, Gathered most) {
    most = _mm256_max_epu8(most, _mm256_srli_epi64(most, 32));
    most = _mm256_max_epu8(most, _mm256_srli_epi64(most, 16));
    most = _mm256_max_epu8(most, _mm256_srli_epi64(most, 8));
    store_sums(to, _mm256_and_si256(most, _mm256_set1_epi64x(0xff)));
}

#else

struct Bytes {
    unsigned char v[8];
};
using Gathered = uint32_t;
constexpr int kByteColumns = 1, kByteRegisters = 4;

inline Gathered nothing() { return 0; }
inline Bytes load_bytes(const unsigned char* p) {
    Bytes out;
    std::memcpy(out.v, p, sizeof out.v);
    return out;
}
inline Bytes eight_everywhere(const unsigned char* p) { return load_bytes(p); }
inline uint32_t apart(unsigned char a, unsigned char b) { return a > b ? a - b : b - a; }
inline Gathered add_differences(Gathered sum, const Bytes& a, const Bytes& b) {
    for (int l = 0; l < 8; ++l) sum += apart(a.v[l], b.v[l]);
    return sum;
}
inline Gathered keep_largest(Gathered most, const Bytes& a, const Bytes& b) {
    for (int l = 0; l < 8; ++l) {
        const uint32_t here = apart(a.v[l], b.v[l]);
        most = here > most ? here : most;
    }
    return most;
}
inline void store_sums(float* to, Gathered sum) { *to = static_cast<float>(sum); }
inline void store_largest(float* to, Gathered most) { *to = static_cast<float>(most); }

#endif

// -- comparison

template <int P>
inline Floats power(Floats a) {
    if constexpr (P == 1) {
        return a;
    } else if constexpr (P % 2 == 0) {
        return power<P / 2>(multiply(a, a));
    } else {
        return multiply(power<P - 1>(a), a);
    }
}

// Columns [first, first + width) of a tile; bits are set at their places among all columns of the sheet.
template <int P, bool both>
inline void judge_columns(const Cuts& cuts, const float* values, int first, int width, uint32_t* to_row,
                          uint32_t* to_column) {
    for (int c = first; c < first + width; c += kFloats) {
        const Floats spread = load_floats(cuts.column_spread + c);
        const Floats reach = both ? load_floats(cuts.column_reach + c) : spread;
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
            const Floats value = load_floats(values + r * kSheet + c);
            to_row[r] |= not_above(value, power<P>(add(spread, fill_floats(cuts.row_reach[r])))) << c;
            if (both) to_column[r] |= not_above(value, power<P>(add(reach, fill_floats(cuts.row_spread[r])))) << c;
        }
    }
}

template <int P>
void judge(const Cuts& cuts, const float* values, uint32_t* to_row, uint32_t* to_column) {
    for (int r = 0; r < R; ++r) to_row[r] = to_column[r] = 0;
    (cuts.both ? judge_columns<P, true> : judge_columns<P, false>)(cuts, values, 0, kSheet, to_row, to_column);
}

// Whether a pair of these columns may still matter.
template <int P>
inline bool any_near(const Cuts& cuts, const float* values, int first, int width) {
    uint32_t to_row[R] = {}, to_column[R] = {};
    (cuts.both ? judge_columns<P, true> : judge_columns<P, false>)(cuts, values, first, width, to_row, to_column);
    uint32_t all = 0;
    for (int r = 0; r < R; ++r) all |= to_row[r] | to_column[r];
    return all != 0;
}

// -- values

template <bool largest>
void byte_values(const unsigned char* strip, const unsigned char* sheet, int64_t groups, const Cuts& cuts,
                 float* values) {
    constexpr int C = kByteRegisters, width = C * kByteColumns;
    constexpr int64_t size = kSheet * kSheetGroup;
    for (int first = 0; first < kSheet; first += width) {
        Gathered gathered[R][C];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) gathered[r][c] = nothing();
        }
        const unsigned char *x = strip, *y = sheet + first * kSheetGroup;
        for (int64_t done = 0;;) {
            const int64_t end = largest && groups - done > kLargestChunk ? done + kLargestChunk : groups;
            for (; done < end; ++done, x += size, y += size) {
                Bytes right[C];
#pragma GCC unroll 4
                for (int c = 0; c < C; ++c) right[c] = load_bytes(y + c * kByteColumns * kSheetGroup);
#pragma GCC unroll 4
                for (int r = 0; r < R; ++r) {
                    const Bytes left = eight_everywhere(x + r * kSheetGroup);
#pragma GCC unroll 4
                    for (int c = 0; c < C; ++c) {
                        gathered[r][c] = largest ? keep_largest(gathered[r][c], left, right[c])
                                                 : add_differences(gathered[r][c], left, right[c]);
                    }
                }
            }
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
                for (int c = 0; c < C; ++c) {
                    (largest ? store_largest : store_sums)(values + r * kSheet + first + c * kByteColumns,
                                                           gathered[r][c]);
                }
            }
            if (end == groups || !any_near<1>(cuts, values, first, width)) break;
        }
    }
}

template <int P, bool largest>
void float_values(const unsigned char* strip, const unsigned char* sheet, int64_t groups, const Cuts& cuts,
                  float* values) {
    constexpr int C = 32 / kFloats < 2 ? 1 : 2, width = C * kFloats;
    for (int first = 0; first < kSheet; first += width) {
        Floats gathered[R][C];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
            for (int c = 0; c < C; ++c) gathered[r][c] = zero_floats();
        }
        const float *x = reinterpret_cast<const float*>(strip), *y = reinterpret_cast<const float*>(sheet) + first;
        for (int64_t done = 0;;) {
            const int64_t end = groups - done > kFloatChunk ? done + kFloatChunk : groups;
            for (; done < end; ++done, x += kSheet, y += kSheet) {
#pragma GCC unroll 4
                for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
                    for (int c = 0; c < C; ++c) {
                        const Floats apart = subtract_all(load_floats(y + c * kFloats), x + r);
                        const Floats term = power<P>(P % 2 == 0 ? apart : absolute(apart));
                        gathered[r][c] = largest ? larger_of(gathered[r][c], term) : add(gathered[r][c], term);
                    }
                }
            }
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
                for (int c = 0; c < C; ++c) store(values + r * kSheet + first + c * kFloats, gathered[r][c]);
            }
            if (end == groups || !any_near<P>(cuts, values, first, width)) break;
        }
    }
}

template <int P>
SketchBody float_body(int p) {
    if constexpr (P < kLargestPower) {
        if (p > P) return float_body<P + 1>(p);
    }
    return {float_values<P, false>, judge<P>};
}

}  // namespace

SketchBody sketch_body(Kind kind, int p, bool floats) {
    if (kind == Kind::manhattan) return {byte_values<false>, judge<1>};
    if (kind == Kind::chebyshev) return {floats ? float_values<1, true> : byte_values<true>, judge<1>};
    return float_body<1>(p);
}

}  // namespace MSMA_ISA
}  // namespace msma
