// Rows rounded to eight or sixteen bits for the certified screen, and what a compiled screen body offers.
//
// A row z of the picture (the metric is |z_i - z_j| in some picture of the rows) is shifted, rotated and rounded:
//
//     z ~ b = step q,   q integers of at most 127 (fine: 32639)      one step a row
//     | |z_i - z_j| - |b_i - b_j| | <= spread_i + spread_j
//     |b_i - b_j|^2 = square_i + square_j - 2 step_i step_j (q_i . q_j)
//
// The integer product is exact: the same on every instruction set. The rotation (a fixed
// pattern of signs, then Hadamard transforms on windows) keeps distances and spreads the few large coordinates of a
// language model's residual stream over many: without it one of them sets the step of a whole row. `spread` holds
// every loss: rounding to codes, the rotation in float32, the float32 arithmetic of the comparison itself, and
// the rounding of the canonical key.
//
// Fine codes are two planes of eight bits, q = 256 high + low, and their product four of bytes. It is kept in 32 bits
// as (q_i . q_j) / 2^shift, rounded; `step` is then that of one code times 2^(shift / 2). The rounding moves a squared
// distance by at most step_i step_j, hence a distance by (step_i + step_j) / 2.
#pragma once

#include <cstdint>

#include "body.hpp"

namespace msma {

constexpr int64_t kPanel = 48;       // rows of one packed panel: three zmm of int32
constexpr int64_t kEncodeRows = 16;  // rows rounded together, one a lane; divides kPanel
constexpr int kLargestCode = 127, kLargestFineCode = 127 * 256 + 127;
constexpr int kMostTileRows = 16;

// One side of the screen. Codes lie as (panels, groups, kPanel) words of four bytes: four int8 or two int16
// consecutive codes of a row, as the body multiplies them. Codes behind the last coordinate are zero.
struct Codes {
    int64_t count, groups;
    int32_t* packed;
    int32_t* sum;            // sum of the codes of a row
    int32_t *low, *low_sum;  // the same for the low plane of fine codes, else null
    int shift;               // even; 0 without a low plane
    float* step;             // 0 for a row of zeros
    float* square;           // |b|^2
    float* spread;           // upper bound, > 0; inf where the row cannot be screened
    float* inner;            // spread^2 - square
    float* length;           // upper bound of |z| and |b|

    int64_t panels() const { return (count + kPanel - 1) / kPanel; }
    const int32_t* panel(int64_t p) const { return packed + p * groups * kPanel; }
    const int32_t* low_panel(int64_t p) const { return low + p * groups * kPanel; }
};

// How rows become z: z_j = (x_j / norm - shift_j) scale sign_j, rotated; the same for both sides of a search.
struct Picture {
    int64_t dimension;
    const double* shift;     // (d,)
    const float* sign;       // (d,) +1 or -1
    const int64_t* windows;  // first coordinate of each Hadamard window
    int64_t window_count;    //
    int64_t window;          // coordinates of a window, a power of four
    double scale;            // a power of two
    double fuzz;             // part of |z| that the float32 comparison and the canonical key may lose
};

constexpr int64_t encode_scratch(int64_t dimension) { return dimension * (kEncodeRows + 1); }

template <typename T>
struct Encoder {
    // Rounds the rows of some whole panels. extra (count,): what the caller's picture loses of each row, in units of
    // the unscaled z, or null. scratch: encode_scratch(dimension) floats.
    void (*encode)(const Picture&, const Rows<T>&, const double* extra, Range panels, float* scratch, const Codes&);
};

// Pairs of a tile that may matter to their row, or to their column where that was asked, as r << 8 | c, in no order.
// Whole vectors are written: there is room for one behind the last.
struct Hits {
    int32_t count;
    int32_t place[kMostTileRows * kPanel + 16];
};
struct TileSize {
    int64_t rows, columns;
};

// The numbers of some consecutive rows that a comparison reads. reach is the certified radius plus the row's own
// spread, outer = reach^2 - square, so that a pair is of interest to row i only if
//     2 step_i step_j (q_i . q_j) + 2 reach_i spread_j + inner_j >= -outer_i
struct Marks {
    const float *step, *spread, *inner, *reach, *outer, *square;
};

// The same for a product: 2 step_i step_j (q_i . q_j) + 2 length_i spread_j + 2 spread_i length_j >= -bar_i.
struct ProductMarks {
    const float *step, *spread, *length, *bar;
};

struct ScreenBody {
    int codes_per_word;      // 4 (int8) or 2 (int16)
    int64_t group_multiple;  // of which Codes::groups is one
    int tile_rows;           // divides kPanel
    // Prepares the calling thread for `multiply`, and undoes it; null where there is nothing to do. See TileUnit.
    void (*configure)();
    void (*release)();
    // The rows of a panel as `multiply` reads strips: strip r / tile_rows, from row r on, begins at strips + r *
    // groups. Null: `multiply` reads them where they lie, at panel + r.
    void (*arrange)(const int32_t* panel, int64_t groups, int32_t* strips);
    // products[r * kPanel + c] for a strip of tile_rows rows (inside a panel) and a whole panel.
    void (*multiply)(const int32_t* strip, const int32_t* panel, int64_t groups, const int32_t* strip_sums,
                     int32_t* products);
    // The hits among the first rows and columns of a tile; those that matter to the column alone only where `both`.
    void (*judge)(const Marks& strip, const Marks& panel, const int32_t* products, bool both, TileSize, Hits&);
    // bins[r * kPanel + c] = min(itself, distance of pair (r, c) + spread_c) where bit c of excluded[r] is not set.
    void (*lowest)(const Marks& strip, const Marks& panel, const int32_t* products, const uint64_t* excluded,
                   float* bins);
    // A value that at least k of the `count` values do not exceed, close to the k-th smallest; count is a whole number
    // of 16, inf values are never counted: inf where fewer than k are finite.
    float (*select)(const float* values, int64_t count, int64_t k);
    // best: the smallest values so far, ascending in `lines` lines of 16 on cache lines of their own, the very first
    // -inf. Puts the value in its place; the largest falls out.
    void (*insert)(float* best, int64_t lines, float value);
    void (*judge_product)(const ProductMarks& strip, const ProductMarks& panel, const int32_t* products, TileSize,
                          Hits&);
    Encoder<float> narrow;
    Encoder<double> wide;

    // Words of a row with `dimension` codes.
    int64_t groups(int64_t dimension) const {
        const int64_t codes = codes_per_word * group_multiple;
        return (dimension + codes - 1) / codes * group_multiple;
    }
};

namespace scalar {
ScreenBody screen_body();
}
#ifdef MSMA_X86_BODIES
namespace avx2 {
ScreenBody screen_body();
}
namespace avx512 {
ScreenBody screen_body();
}
namespace avx512_vnni {
ScreenBody screen_body();
}
#endif
#ifdef MSMA_AMX_BODY
namespace amx {
ScreenBody screen_body();
}
#endif

}  // namespace msma
