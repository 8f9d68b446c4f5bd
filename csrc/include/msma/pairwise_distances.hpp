// All pairwise distances of two row sets, written straight into the result: raw pointers and sizes, no Python and no
// torch.
//
// A result of one row set with itself (`self`) is computed for columns at or right of the row's band only and mirrored,
// so it is exactly symmetric.
#pragma once

#include <cstdint>

#include "msma/keys.hpp"

namespace msma {

// `batch` row sets (count, dimension): row r of set b starts at values + b * batch_stride + r * stride.
template <typename T>
struct Points {
    const T* values;
    const double* norms;  // (batch, count), for cosine only
    int64_t batch, count, dimension;
    int64_t batch_stride, stride;

    Points set(int64_t b) const {
        return {
            values + b * batch_stride, norms ? norms + b * count : nullptr, 1, count, dimension, batch_stride, stride};
    }
};

// What turns a canonical key into a distance: the key itself, or its correctly rounded square root over a divisor.
struct Scale {
    bool root;
    double divisor;  // with root only
};

// out (batch, n, m): float32 direct differences, or their square roots, each within 1e-6 relative of the canonical
// value. The error does not depend on d (see csrc/cpu/pairwise_distances-inl.hpp). Pairs and sets whose float32 squares
// would leave the normal range, and sets with NaN or inf, get canonical keys.
void euclidean_distances(const Points<float>& x, const Points<float>& y, bool self, bool root, int threads, float* out);

// out (batch, n, m): scaled canonical keys, rounded once to Out.
template <typename T, typename Out>
void key_distances(const Kernel& kernel, const Points<T>& x, const Points<T>& y, bool self, Scale scale, int threads,
                   Out* out);

}  // namespace msma
