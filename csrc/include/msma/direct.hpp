// Searches that give every pair its canonical key, tile by tile, without an n x m array: for metrics that are not a
// product of rows, for rows that the screen could not certify, and for k near m.
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
    int threads;
};

// keys and indices (n, k) ascending by (key, index), inf and -1 where a row has fewer than k.
template <typename T>
void direct_knn(const Direct<T>& problem, int64_t k, double* keys, int64_t* indices);

// counts (n,): admissible columns whose key is at most threshold[row].
template <typename T>
void direct_count(const Direct<T>& problem, const double* threshold, int64_t* counts);

}  // namespace msma
