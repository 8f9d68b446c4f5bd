// Sums over pairs of rows, in one pass over tiles of canonical keys: no matrix of pairs is ever stored, and a
// self problem computes each unordered pair once. Raw pointers and sizes, no Python and no torch.
//
// Rows are float64. Counts are exact; floating-point sums are float64 in an order that depends on the shapes
// alone, never on the number of threads.
#pragma once

#include <cstdint>

#include "msma/keys.hpp"

namespace msma {

// Pairs that count in a self problem: i < j, j - i > window, groups[i] != groups[j] (groups may be null). A
// cross problem has no groups and no window.
struct PairRule {
    const int32_t* groups;
    int64_t window;
};

// counts[b], b = 0..size: pairs with thresholds[b - 1] <= key < thresholds[b], the ends open; NaN keys fall
// into the last place. thresholds ascend. y null: a self problem.
void count_keys(const Kernel& kernel, const Rows<double>& x, const Rows<double>* y, const PairRule& rule,
                const double* thresholds, int64_t size, int threads, int64_t* counts);

// One side of centered_products: a value for each pair of rows.
//   distance   sqrt(|x_i - x_j|^2) - shift
//   gaussian   exp(-scale |x_i - x_j|^2) - shift; scale may be infinite
//   product    x_i . x_j - shift
enum class Form { distance, gaussian, product };
struct Similarity {
    Form form;
    double scale, shift;
};

// Over all n^2 pairs, the diagonal included, with values a of x and b of y: sums = {sum a b, sum a a,
// sum b b}, rows_a[i] = sum_j a, rows_b[i] = sum_j b.
void centered_products(const Rows<double>& x, const Similarity& a, const Rows<double>& y, const Similarity& b,
                       int threads, double* sums, double* rows_a, double* rows_b);

// sums[b] = sum exp(-scales[b] |x_i - y_j|^2), over all pairs, or (y null) over i != j.
void gaussian_kernel_sums(const Rows<double>& x, const Rows<double>* y, const double* scales, int64_t count,
                          int threads, double* sums);

// Gradients of sum_b weights[b] sums[b]: to_x (n, d), to_y (m, d), to_y not read in a self problem.
void gaussian_kernel_gradients(const Rows<double>& x, const Rows<double>* y, const double* scales,
                               const double* weights, int64_t count, int threads, double* to_x, double* to_y);

// The sum over i < j of (|x_i - x_j| - |y_i - y_j|)^2; to_x (n, dx) and to_y (n, dy), each may be null, are its
// gradients, with zero for a pair at distance zero.
double stress(const Rows<double>& x, const Rows<double>& y, int threads, double* to_x, double* to_y);

}  // namespace msma
