// One pass over rows: the ranges of the columns, whether all values are finite, medians of a sample.
#pragma once

#include <cstdint>

#include "msma/keys.hpp"

namespace msma {

// low[j], high[j] (d,): the smallest and largest value of column j; both NaN where the column holds a NaN or
// an infinity.
template <typename T>
void column_ranges(const Rows<T>& rows, int threads, double* low, double* high);

template <typename T>
bool all_finite(const T* values, int64_t count, int threads);

// medians[j] (d,): the median of x_j / norm (norm 1 without norms) over every step-th row, the upper one of an even
// number. Values that are not finite count as 0.
template <typename T>
void column_medians(const Rows<T>& rows, int64_t step, int threads, double* medians);

}  // namespace msma
