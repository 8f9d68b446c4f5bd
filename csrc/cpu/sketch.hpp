// Rows rounded for the certified screen of the direct metrics, and what a compiled body offers to compare them.
//
// With a step s > 0 and a shift low_j of each coordinate let u_j = (x_j - low_j) / s. A sketch has codes
//
//     bytes    v_c = clip(u_j - first_c, 0, 255), q_c = an integer near v_c       manhattan, chebyshev
//     floats   v_c = clip(u_j, -L, L),            q_c = v_c as float32            minkowski; chebyshev where one
//                                                                                 coordinate is far wider than radii
//
// where a wide coordinate has several bytes, segments that follow each other. Clipping brings nothing apart and the
// segments of a coordinate do not overlap, so sum_c |v_c(x) - v_c(y)| <= |u_j(x) - u_j(y)|. In the norm of the metric
// (sum, maximum, p-th root of the sum of p-th powers) that and the triangle inequality give, whatever s, low and L are,
//
//     |q(x) - q(y)| <= dist(x, y) / s + spread_x + spread_y      spread = |q - v|
//     |q(x) - q(y)| >= dist(x, y) / s - outer_x - outer_y        outer = |u - what the codes of x stand for|
//
// outer holds what was clipped as well; under chebyshev it is inf where a coordinate has several codes, of which the
// value sees the largest difference only. A row that is not finite has spread = outer = inf: it is never left out.
//
// value = |q(x) - q(y)|^p (p = 1 but for minkowski; values of bytes are integers below 2^24, exact). A pair is left out
// of row x only if value > (reach_x + spread_y)^p, reach_x = (radius of x in steps) + spread_x; NaN and equality keep
// it. A value is a sum of terms >= 0 (or their maximum), and float32 sums of these never decrease: where a part of the
// codes is above the limit the whole is too. Spread and reach are rounded up by the part `slack` that float32 may lose
// in a value and in this comparison, and radii by what canonical keys lose; see sketch.cpp.
#pragma once

#include <cstdint>

#include "msma/keys.hpp"

namespace msma {

constexpr int64_t kSheet = 32;       // rows of one packed sheet
constexpr int64_t kSheetGroup = 8;   // codes of a row that lie together, bytes only
constexpr int64_t kSketchStrip = 4;  // rows of x compared with a sheet at once; divides kSheet

// Codes lie as (sheets, groups, kSheet): words of eight bytes, or single floats.
struct Sketch {
    int64_t count, groups;
    unsigned char* packed;
    int64_t group_bytes;  // of a whole sheet
    float *spread, *outer;

    int64_t sheets() const { return (count + kSheet - 1) / kSheet; }
    unsigned char* sheet(int64_t s) const { return packed + s * groups * group_bytes; }
    // Of a row within its sheet.
    unsigned char* row(int64_t r) const { return sheet(r / kSheet) + r % kSheet * (group_bytes / kSheet); }
};

// What the rows of a strip and of a sheet are compared with. Without `both` the reach of the columns is not read.
struct Cuts {
    const float *row_reach, *row_spread, *column_reach, *column_spread;
    bool both;
};

struct SketchBody {
    // values[r * kSheet + c] of a strip and a sheet. Part of the codes may be left out of some, which are then above
    // every limit already.
    void (*values)(const unsigned char* strip, const unsigned char* sheet, int64_t groups, const Cuts&, float* values);
    // Bit c of to_row[r]: the pair may matter to row r; of to_column[r]: to column c (where `both`).
    void (*judge)(const Cuts&, const float* values, uint32_t* to_row, uint32_t* to_column);
};

// kind: manhattan and chebyshev of bytes; chebyshev and minkowski, with p <= kLargestPower, of floats.
namespace scalar {
SketchBody sketch_body(Kind kind, int p, bool floats);
}
#ifdef MSMA_X86_BODIES
namespace avx2 {
SketchBody sketch_body(Kind kind, int p, bool floats);
}
namespace avx512 {
SketchBody sketch_body(Kind kind, int p, bool floats);
}
#endif

}  // namespace msma
