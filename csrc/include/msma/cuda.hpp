// The CUDA kernels' launchers: raw device pointers, sizes, a stream. Nothing is allocated and nothing waited for:
// results are there when the stream has come so far. Every failure of CUDA, and a size beyond a limit, is a
// std::runtime_error.
//
// Canonical keys as in keys.hpp, mahalanobis left out. Neighbours are in the order of (key, index); where there are
// fewer than asked for, the rest have key inf and index -1. The emulator of the tests builds the same functions over
// host memory.
#pragma once

#include <cstdint>

#include "msma/keys.hpp"

namespace msma::cuda {

using StreamHandle = std::uintptr_t;  // of a cudaStream_t

constexpr int64_t kMostNeighbors = 1024;  // of a queue; what is more is selected by select_large
constexpr int64_t kMostRadii = 32;        // of one launch

// Who may be neighbours; device pointers, null where nothing is excluded.
struct Rule {
    const int32_t* own;     // (n,) the column that is the query, far below -window for none: |own - j| <= window is not
    int32_t window;         // admissible
    const int32_t* labels;  // (n,) and
    const int32_t* point_labels;  // (m,): equal ones are not admissible
    const int32_t* partners;      // (n,) second labels, of a self-search (n = m)
};

// keys (n, k) float64, indices (n, k) int64: the k <= kMostNeighbors nearest of every row of x among those of y, by
// canonical keys alone. Rows as in keys.hpp: values (count, dimension) row-major, norms for cosine.
template <typename T>
void knn(const Kernel& kernel, const Rows<T>& x, const Rows<T>& y, const Rule& rule, int64_t k, double* keys,
         int64_t* indices, StreamHandle stream);

// counts (n, radii) int64: admissible points with keys at most thresholds (n, radii); radii <= kMostRadii.
template <typename T>
void radius_count(const Kernel& kernel, const Rows<T>& x, const Rows<T>& y, const Rule& rule, const double* thresholds,
                  int64_t radii, int64_t* counts, StreamHandle stream);

// keys (rows, k), indices (rows, k): the k <= kMostNeighbors smallest of values (rows, m) float64, ordered by (value,
// id). ids (rows, m) int64, or null: the columns. NaN is above everything and never selected.
void select_k(const double* values, const int64_t* ids, int64_t rows, int64_t m, int64_t k, double* keys,
              int64_t* indices, StreamHandle stream);

// The same for any k <= m, in the order of the columns, by radix: of equal values at the k-th place the first columns.
// Without ids: indices are columns. The caller sorts.
void select_large(const double* values, int64_t rows, int64_t m, int64_t k, double* keys, int64_t* indices,
                  StreamHandle stream);

// keys (n, k), indices (n, k) of the nearest of listed candidates, by canonical keys: those of row r are columns
// [ends[r - 1], ends[r]) int64, distinct, in any order; ends (n,) int64. Query r is row first_row + r of x.
template <typename T>
void finish(const Kernel& kernel, const Rows<T>& x, const Rows<T>& y, const int64_t* columns, const int64_t* ends,
            int64_t n, int64_t first_row, int64_t k, double* keys, int64_t* indices, StreamHandle stream);

// One side of the certified screen (msma_fast/backends/torch/screen.py), padded: rows a multiple of 128, width of 64.
struct ScreenSide {
    const uint16_t* b;  // bfloat16, zero beyond what exists, aligned to 16 bytes, in panels of 128 rows and 64
                        // coordinates: (rows / 128, width / 64, 128, 64)
    const float* near;  // queries: r_i (rows,); points: the largest x_j of each 32 adjacent ones (rows / 32,)
    const float* far;   // m_i; the largest q_j
    int64_t rows;
};

// The collect pass over the points begin..end, multiples of 128: for query i, the words of 32 adjacent points of which
// an admissible one has its lower bound
//     c_j - 2 b_i.b_j - near_i near_w - far_i far_w        (c (M,) float32: c_j - col_j, inf beyond m)
// not above top (N,) float32. listed (N, limit) int64: the bits of the points above 32 bits of the word's number; low
// (N, limit) float32: a word's least lower bound, -inf where one of the points is excluded, NaN where one's bound is (a
// word of which nobody is left may be listed); count (N,) int32, zero before: words found, of which those beyond limit
// are not listed. In any order. No partners.
void collect(const ScreenSide& x, const ScreenSide& y, const float* c, int64_t width, const Rule& rule,
             const float* top, int64_t begin, int64_t end, int64_t limit, int64_t* listed, float* low, int32_t* count,
             StreamHandle stream);

// KSG counts of many pairs of samples of n rows (ksg.hpp), kernel sqeuclidean or chebyshev, by canonical keys alone.
struct KsgBatch {
    const double* const*
        samples;            // device pointers of (n, widths[s]) float64, row-major; the array lies on the device too
    const int32_t* widths;  // (S,) on the device
    const int32_t* pairs;   // (P, 2) which samples, on the device
    int64_t count;          // P
    int64_t n;
    const int32_t* ks;       // (K,) ascending or not, each from 1 to kMostNeighbors - 1, on the device
    int64_t k_count;         // K <= kMostRadii
    int64_t k_most;          // the largest of them
    bool closed;             // KSG2
    Rule rule;               // of every pair; labels serve as point labels
    int64_t partner_stride;  // n where partners are (P, n), 0 where they are the same for all
};
// n_x, n_y (P, n, K) int64 and tied (P, n, K) bytes.
void ksg(Kind kind, const KsgBatch& batch, int64_t* n_x, int64_t* n_y, uint8_t* tied, StreamHandle stream);

}  // namespace msma::cuda
