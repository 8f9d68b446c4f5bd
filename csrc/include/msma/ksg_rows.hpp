// KSG counts by rows of keys, for samples of any dimension: raw pointers and sizes, no Python and no torch.
//
// For row i of a pair of samples, over the admissible j: the joint key is the larger of key_x(i, j) and key_y(i, j),
//   KSG1: eps the k-th smallest joint key,          n_x = #{j: key_x < eps}
//   KSG2: eps_x the largest key_x of the k nearest by (joint key, j), n_x = #{j: key_x <= eps_x}
// on canonical keys; float32 values only decide what they certainly can (csrc/cpu/ksg_rows.cpp).
//
// Keys: sqeuclidean or chebyshev. Every sample has the same number of rows.
#pragma once

#include <cstdint>
#include <vector>

#include "msma/keys.hpp"

namespace msma {

// How numbers lie in memory. All are promoted without rounding to the T of a call.
enum class Stored { float16, bfloat16, float32, float64 };

// Consecutive rows, row-major: memory, or pages of a mapped file that are read when they are touched.
struct KsgPart {
    const void* values;
    int64_t count;
};

// Rows (count, dimension): those of the parts one after the other, or of these the rows index[0], index[1], ...
struct KsgSample {
    std::vector<KsgPart> parts;
    Stored stored;
    const int64_t* index;  // (count,) or null
    int64_t count, dimension;
};

// Not neighbours: a row and itself, rows of equal labels in `groups` or in `partners` (null: none), and rows at most
// `window` places apart.
struct KsgRule {
    const int32_t* groups;
    const int32_t* partners;
    int64_t window;
};

struct KsgOptions {
    const int* ks;
    int count;    // of ks
    bool second;  // KSG2
    int threads;
};

// T = float, or double where a sample is stored so.
// Two samples x, y: counts (n, options.count) of each, and whether more than k rows are within the k-th joint key.
template <typename T>
void ksg_counts(Kind kind, const KsgSample* samples, const KsgRule& rule, const KsgOptions& options, int64_t* n_x,
                int64_t* n_y, bool* tied);

// What becomes of counts: offset[k] + digamma[N_i] - digamma[n_x + s] - digamma[n_y + s], s = 1 for KSG1, 0 for KSG2.
struct KsgTerms {
    const double* offsets;  // (options.count,)
    const double* digamma;  // (n + 2,), [v] the digamma of v
};

struct KsgPair {
    int64_t x, y;  // numbers of samples
};

// sums (pairs, options.count): the terms of all rows, added in increasing i. neighbors (n,): N_i. Memory: a block of 96
// rows or more of values of every sample, at most 256 MiB of values of later blocks, and float32 copies of the samples
// where these are at most 256 MiB together; else of one sample at a time, made again for every block.
template <typename T>
void ksg_sums(Kind kind, const KsgSample* samples, int64_t count, const KsgPair* pairs, int64_t pair_count,
              const KsgRule& rule, const KsgOptions& options, const KsgTerms& terms, const int64_t* neighbors,
              double* sums);

// Two samples x, y, one k; permutations (permutation_count, n): row i of x is paired with row permutation[i] of y, and
// pairs of the same text of x or of y are no neighbours. sums (permutation_count,). Returns the fewest neighbours that
// a row has; with fewer than k the sums mean nothing. Memory: 8 n^2 bytes.
template <typename T>
int64_t ksg_permutation_sums(Kind kind, const KsgSample* samples, const int32_t* groups, const KsgOptions& options,
                             const KsgTerms& terms, const int32_t* permutations, int64_t permutation_count,
                             double* sums);

}  // namespace msma
