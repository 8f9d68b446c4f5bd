// One pass over rows: ranges of the columns, and hashes by which equal rows are found.
#pragma once

#include <cstdint>

#include "msma/keys.hpp"

namespace msma {

// low[j], high[j] (d,): the smallest and largest value of column j; both NaN where the column holds a NaN or
// an infinity.
template <typename T>
void column_ranges(const Rows<T>& rows, int threads, double* low, double* high);

// hashes (n,): equal rows have equal hashes (-0.0 counts as 0.0); the values must not be NaN.
template <typename T>
void row_hashes(const Rows<T>& rows, int threads, uint64_t* hashes);

}  // namespace msma
