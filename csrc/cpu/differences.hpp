// Weighted sums of row differences: how the gradient of a sum over pairs reaches the rows.
#pragma once

#include <cstdint>

namespace msma {

// A block of rows x against a block of columns y, weights (rows, columns) row-major:
//   to_x[r] += sum_c weights[r, c] (x[r] - y[c]),    to_y[c] -= sum_r weights[r, c] (x[r] - y[c])
// x, y, to_x and to_y are blocks of Packed; to_x and to_y may be the same one.
struct WeightedDifferences {
    const double* weights;
    int64_t rows, columns;
    const double *x, *y;
    double *to_x, *to_y;
    int64_t step, groups;
};

namespace scalar {
void add_weighted_differences(const WeightedDifferences& tile);
}
#ifdef MSMA_X86_BODIES
namespace avx2 {
void add_weighted_differences(const WeightedDifferences& tile);
}
namespace avx512 {
void add_weighted_differences(const WeightedDifferences& tile);
}
#endif

using AddWeightedDifferences = void (*)(const WeightedDifferences&);
AddWeightedDifferences best_weighted_differences();

}  // namespace msma
