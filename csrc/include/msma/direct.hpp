// Searches without an n x m array for metrics that are not a product of rows (manhattan, chebyshev, minkowski: a
// certified screen of their own, see csrc/cpu/sketch.hpp), for rows that the screen of products could not certify, and
// for k near m: there every pair is given its canonical key.
#pragma once

#include <cstdint>

#include "msma/keys.hpp"
#include "msma/screen.hpp"

namespace msma {

template <typename T>
struct Direct {
    const Kernel* kernel;
    Rows<T> x, y;
    bool same;  // one row set under a symmetric kernel: each pair is computed once for both
    Rules rules;
    const Adversary* adversary;  // of the screen of direct metrics, or null
    int threads;
};

// keys and indices (n, k) ascending by (key, index), inf and -1 where a row has fewer than k; candidates (n,): pairs
// that were given a key, -1 for all.
template <typename T>
void direct_knn(const Direct<T>& problem, int64_t k, double* keys, int64_t* indices, int64_t* candidates);

// counts (n,): admissible columns whose key is at most threshold[row].
template <typename T>
void direct_count(const Direct<T>& problem, const double* threshold, int64_t* counts);

}  // namespace msma
