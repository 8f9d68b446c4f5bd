// One pass over rows: the ranges of the columns.
#pragma once

#include <cstdint>

#include "msma/keys.hpp"

namespace msma {

// low[j], high[j] (d,): the smallest and largest value of column j; both NaN where the column holds a NaN or
// an infinity.
template <typename T>
void column_ranges(const Rows<T>& rows, int threads, double* low, double* high);

}  // namespace msma
