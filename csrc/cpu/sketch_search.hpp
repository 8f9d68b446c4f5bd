// Searches under the direct metrics by the certified screen of sketch.hpp.
#pragma once

#include "msma/direct.hpp"

namespace msma {

// As direct_knn and direct_count; false, with nothing written, where the screen does not serve or would not pay.
template <typename T>
bool sketched_knn(const Direct<T>& problem, int64_t k, double* keys, int64_t* indices, int64_t* candidates);
template <typename T>
bool sketched_count(const Direct<T>& problem, const double* threshold, int64_t* counts);

}  // namespace msma
