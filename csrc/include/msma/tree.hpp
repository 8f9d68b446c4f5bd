// Exact neighbours and counts of points in few dimensions by a space partition: raw pointers and sizes, no
// Python and no torch.
//
// The canonical keys of keys.hpp, kinds sqeuclidean, manhattan, chebyshev and minkowski, and the order
// (key, index): the answers are those of comparing every pair, the same bits for every instruction set and
// thread count. A point is no neighbour of itself, of a point with its label, nor (self-search) of a point at
// most `window` places away.
#pragma once

#include <cstdint>
#include <memory>

#include "msma/keys.hpp"

namespace msma {

constexpr int64_t kTreeDimensions = 16;           // the largest d
constexpr int64_t kTreePoints = (1LL << 31) - 1;  // positions are 32-bit

// Who is searched for among whom. A self-search where y is null.
template <typename T>
struct TreeProblem {
    Kernel kernel;
    Rows<T> x;
    const Rows<T>* y;
    const int32_t* groups;        // (x.count,) labels, null for none
    const int32_t* point_groups;  // (y.count,) labels; those of x in a self-search
    int64_t window;               // self-search only
    int threads;
};

// keys and indices (x.count, k), rows ascending by (key, index), inf and -1 where fewer than k points are
// admissible; candidates (x.count,): points of the leaves visited.
template <typename T>
void tree_knn(const TreeProblem<T>& problem, int64_t k, double* keys, int64_t* indices, int64_t* candidates);

// counts (x.count,) of admissible points with key <= threshold; thresholds (x.count,).
template <typename T>
void tree_count(const TreeProblem<T>& problem, const double* thresholds, int64_t* counts);

// The partition of a self-search, made once for several counts.
class TreeCounter {
  public:
    explicit TreeCounter(const TreeProblem<double>& problem);  // x.count >= 1
    ~TreeCounter();

    // As tree_count; several threads may call it at a time.
    void count(const double* thresholds, int threads, int64_t* counts) const;

  private:
    struct Parts;
    std::unique_ptr<const Parts> parts_;
};

}  // namespace msma
