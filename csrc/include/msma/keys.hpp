// Canonical float64 keys of row pairs: raw pointers and sizes, no Python and no torch.
//
// Lane l = j mod 8 accumulates coordinate j in increasing j from +0.0, the lanes combine as
// ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7)), and every multiply, add and divide is rounded on its
// own. A key is therefore the same bits for every instruction set, block and thread count.
//
//   sqeuclidean    sum a a                        a = x - y in float64
//   manhattan      sum |a|
//   chebyshev      max |a|                        NaN wins
//   minkowski      sum ((|a| |a|) |a|) ...        p factors, 1 <= p <= 16
//   inner_product  0 - sum x y
//   cosine         max(0, 1 - (sum x y) / (norm_x norm_y)), exactly 0 for equal rows
//   mahalanobis    z_i = sum_j M_ij a_j, then max(0, sum a z)
#pragma once

#include <cstdint>

namespace msma {

constexpr int kLargestPower = 16;  // of minkowski

enum class Kind { sqeuclidean, manhattan, chebyshev, minkowski, inner_product, cosine, mahalanobis };

struct Kernel {
    Kind kind;
    int p;                 // minkowski only
    const double* tensor;  // mahalanobis only: (d, d), symmetric
};

// Row-major (count, dimension) values of T = float or double; norms (count,) for cosine only.
template <typename T>
struct Rows {
    const T* values;
    const double* norms;
    int64_t count;
    int64_t dimension;

    const T* row(int64_t index) const { return values + index * dimension; }
};

// keys[t] = key of (x[i[t]], y[j[t]]) for t < pairs. Indices are not checked here.
template <typename T>
void pair_keys(const Kernel& kernel, const Rows<T>& x, const Rows<T>& y, const int64_t* i, const int64_t* j,
               int64_t pairs, int threads, double* keys);

// keys (x.count, y.count), row-major.
template <typename T>
void block_keys(const Kernel& kernel, const Rows<T>& x, const Rows<T>& y, int threads, double* keys);

}  // namespace msma
