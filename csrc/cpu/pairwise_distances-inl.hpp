// The float32 distance kernel, compiled once per instruction set (pairwise_distances_scalar, _avx2, _avx512).
//
//   s_rc = sum_k (x_rk - y_ck)^2, direct differences. A register holds one row of x, broadcast, against kFloats rows of
//   y, so that no sum runs across a register; a tile of R rows and C registers of columns keeps R C sums in registers.
//
// Order and error, u = 2^-24. Coordinates are summed in blocks of 16, one after the other; the 12 blocks of a chunk
// pairwise, as a binary counter carries; chunks in float64. A difference is rounded once (2 u of its square), a term
// takes part in at most 16 roundings within its block, 4 in the pairwise sum and 1 at the end, and terms are >= 0: the
// sum is within 23 u = 1.4e-6 relative of the exact one and its root within 12.5 u = 0.75e-6, for every d and all data.
// Both bounds need every rounding to be the worst one and in the same direction; measured are 6e-7 and 4e-7
// (docs/exactness.md). Squares must be in the normal range, which the driver looks after.
//
// The including file defines MSMA_ISA, one of MSMA_LANES_*, and the tile MSMA_DISTANCE_ROWS x MSMA_DISTANCE_COLUMNS.
#pragma once

#include "distance_body.hpp"
#include "floats.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

constexpr int R = MSMA_DISTANCE_ROWS, C = MSMA_DISTANCE_COLUMNS;
constexpr int kWidth = C * kFloats, kTile = R * kWidth;
// Blocks of 8 would bring the sum within 1e-6 as well and take a seventh longer; larger chunks no longer fit the
// first-level cache (square, d = 576, AMD Zen 4).
constexpr int64_t kBlock = 16, kChunk = 192;
constexpr int kLevels = 4;  // of pairwise sums: kChunk / kBlock <= 2^kLevels
static_assert(kChunk <= kBlock << kLevels && kChunk % kBlock == 0,
              "a chunk is whole blocks, and its pairwise sum fits");
static_assert(kSquare % R == 0 && kSquare % kWidth == 0, "tiles fill a square");

// The sums of one tile, through memory: to + (r * C + c) * kFloats.
inline void store_tile(const Floats (&sum)[R][C], float* to) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) store(to + (r * C + c) * kFloats, sum[r][c]);
    }
}

inline void add_tile(Floats (&sum)[R][C], const float* from) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) sum[r][c] = add(load_floats(from + (r * C + c) * kFloats), sum[r][c]);
    }
}

inline void clear_tile(Floats (&sum)[R][C]) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) sum[r][c] = zero_floats();
    }
}

// Up to kChunk coordinates of one tile. Afterwards `sum` holds the whole; levels[l] are 2^l blocks that wait for their
// equals.
inline void chunk(const float* x, const float* y, int64_t d, float (*levels)[kTile], Floats (&sum)[R][C]) {
    unsigned blocks = 0;
    for (int64_t k = 0; k < d; k += kBlock, ++blocks) {
        clear_tile(sum);
        const float* const end = y + (d - k < kBlock ? d - k : kBlock) * kWidth;
        for (; y != end; y += kWidth, x += R) {
            Floats right[C];
#pragma GCC unroll 8
            for (int c = 0; c < C; ++c) right[c] = load_floats(y + c * kFloats);
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
                for (int c = 0; c < C; ++c) sum[r][c] = add_square(sum[r][c], subtract_all(right[c], x + r));
            }
        }
        int level = 0;
        for (; blocks >> level & 1u; ++level) add_tile(sum, levels[level]);
        store_tile(sum, levels[level]);
    }
    clear_tile(sum);
    for (int level = 0; level <= kLevels; ++level) {
        if (blocks >> level & 1u) add_tile(sum, levels[level]);
    }
}

inline void store_sums(const Floats (&sum)[R][C], float* sums) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) store(sums + r * kSquare + c * kFloats, sum[r][c]);
    }
}

inline void add_totals(const Floats (&sum)[R][C], double* totals) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) add_to(totals + (r * C + c) * kFloats, sum[r][c]);
    }
}

// All rows against kWidth columns, a chunk of coordinates at a time: a chunk of the columns stays in the first-level
// cache.
void panel(const float* left, const float* right, int64_t d, int64_t rows, float* sums) {
    alignas(64) float levels[kLevels + 1][kTile];
    alignas(64) double totals[kSquare * kWidth];
    Floats sum[R][C];
    for (int64_t t = 0; t < kSquare * kWidth; ++t) totals[t] = 0.0;
    for (int64_t k = 0; k < d; k += kChunk) {
        const int64_t coordinates = d - k < kChunk ? d - k : kChunk;
        for (int64_t r = 0; r < rows; r += R) {
            chunk(left + r * d + k * R, right + k * kWidth, coordinates, levels, sum);
            d <= kChunk ? store_sums(sum, sums + r * kSquare) : add_totals(sum, totals + r * kWidth);
        }
    }
    if (d <= kChunk) return;
    for (int64_t r = 0; r < rows; ++r) {
        for (int c = 0; c < C; ++c) narrow(totals + r * kWidth + c * kFloats, sums + r * kSquare + c * kFloats);
    }
}

void square(const float* left, const float* right, int64_t d, int64_t rows, int64_t columns, float* sums) {
    for (int64_t c = 0; c < columns; c += kWidth) panel(left, right + c * d, d, rows, sums + c);
}

void roots(float* values, int64_t count) {
    for (int64_t k = 0; k < count; k += kFloats) store(values + k, root(load_floats(values + k)));
}

void double_roots(double* values, int64_t count) {
    int64_t k = 0;
    for (; k + kRootLanes <= count; k += kRootLanes) root_doubles(values + k);
    for (; k < count; ++k) values[k] = std::sqrt(values[k]);
}

void copy_plain(const float* from, int64_t rows, int64_t columns, float* to, int64_t stride) {
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < columns; ++c) to[r * stride + c] = from[r * kSquare + c];
    }
}

// Whole lines of `to` are written from lines of `from`, which stay in the first-level cache.
void mirror_plain(const float* from, int64_t rows, int64_t columns, float* to, int64_t stride) {
    for (int64_t c = 0; c < columns; ++c) {
        for (int64_t r = 0; r < rows; ++r) to[c * stride + r] = from[r * kSquare + c];
    }
}

#if defined(MSMA_LANES_AVX512)

// Both strides in whole lines and `to` on a line: no store is split and none reads what it overwrites.
inline bool whole_lines(const float* to, int64_t stride) {
    return reinterpret_cast<uintptr_t>(to) % 64 == 0 && stride % kFloats == 0;
}

template <bool Stream>
inline void put(float* to, Floats v) {
    Stream ? _mm512_stream_ps(to, v) : _mm512_storeu_ps(to, v);
}

// Streamed stores are not ordered with others; whoever joins this thread must find them done.
template <bool Stream>
inline void settle() {
    if (Stream) _mm_sfence();
}

template <bool Stream>
void copy_lines(const float* from, int64_t rows, int64_t lines, float* to, int64_t stride) {
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t l = 0; l < lines; ++l)
            put<Stream>(to + r * stride + l * 16, load_floats(from + r * kSquare + l * 16));
    }
    settle<Stream>();
}

// a[i][j] <-> a[j][i] of sixteen registers: 2 x 2 within pairs, then of pairs, then of quarters.
inline void transpose(Floats (&a)[16]) {
    Floats b[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
        b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
            const __m512d p = _mm512_castps_pd(b[4 * i + h]), q = _mm512_castps_pd(b[4 * i + 2 + h]);
            a[4 * i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(p, q));
            a[4 * i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(p, q));
        }
    }
    // a[4 i + j], quarter q: rows 4 i .. 4 i + 3 of column 4 q + j
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
        const Floats low_even = _mm512_shuffle_f32x4(a[j], a[4 + j], 0x88);
        const Floats low_odd = _mm512_shuffle_f32x4(a[j], a[4 + j], 0xdd);
        const Floats high_even = _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0x88);
        const Floats high_odd = _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0xdd);
        b[j] = _mm512_shuffle_f32x4(low_even, high_even, 0x88);
        b[8 + j] = _mm512_shuffle_f32x4(low_even, high_even, 0xdd);
        b[4 + j] = _mm512_shuffle_f32x4(low_odd, high_odd, 0x88);
        b[12 + j] = _mm512_shuffle_f32x4(low_odd, high_odd, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) a[i] = b[i];
}

template <bool Stream>
void mirror_lines(const float* from, int64_t lines, int64_t columns, float* to, int64_t stride) {
    for (int64_t c = 0; c < columns; c += 16) {
        const int64_t wide = columns - c < 16 ? columns - c : 16;
        for (int64_t l = 0; l < lines; ++l) {
            Floats a[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; ++i) a[i] = load_floats(from + (l * 16 + i) * kSquare + c);
            transpose(a);
            if (wide == 16) {
#pragma GCC unroll 16
                for (int i = 0; i < 16; ++i) put<Stream>(to + (c + i) * stride + l * 16, a[i]);
            } else {
                alignas(64) float rest[16][16];
                for (int i = 0; i < 16; ++i) store(rest[i], a[i]);
                for (int64_t i = 0; i < wide; ++i) put<Stream>(to + (c + i) * stride + l * 16, load_floats(rest[i]));
            }
        }
    }
    settle<Stream>();
}

void copy(const float* from, int64_t rows, int64_t columns, float* to, int64_t stride, bool stream) {
    const int64_t lines = columns / 16, done = lines * 16;
    (stream && whole_lines(to, stride) ? copy_lines<true> : copy_lines<false>)(from, rows, lines, to, stride);
    copy_plain(from + done, rows, columns - done, to + done, stride);
}

void mirror(const float* from, int64_t rows, int64_t columns, float* to, int64_t stride, bool stream) {
    const int64_t lines = rows / 16, done = lines * 16;
    (stream && whole_lines(to, stride) ? mirror_lines<true> : mirror_lines<false>)(from, lines, columns, to, stride);
    mirror_plain(from + done * kSquare, rows - done, columns, to + done, stride);
}

#else

void copy(const float* from, int64_t rows, int64_t columns, float* to, int64_t stride, bool) {
    copy_plain(from, rows, columns, to, stride);
}

void mirror(const float* from, int64_t rows, int64_t columns, float* to, int64_t stride, bool) {
    mirror_plain(from, rows, columns, to, stride);
}

#endif

}  // namespace

DistanceBody distance_body() { return {R, kWidth, square, roots, double_roots, copy, mirror}; }

}  // namespace MSMA_ISA
}  // namespace msma
