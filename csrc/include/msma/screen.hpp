// The certified screen on CPUs: rows rounded to eight bits, or sixteen where `fine`, and searches that use them to
// leave out what cannot matter. Raw pointers and sizes, no Python and no torch. The inequalities are in
// csrc/cpu/codes.hpp.
#pragma once

#include <cstdint>
#include <memory>

#include "msma/keys.hpp"

namespace msma {

// How rows x become a picture z in which the metric is a distance: z = (x / norm - shift) scale, norm 1 without norms.
struct PictureOf {
    const double* shift;  // (d,)
    double scale;         // a power of two that brings |z_j| to at most 2^29
    double loss;      // canonical keys: |sqrt(factor key) - |z_i - z_j| / scale| <= loss_i + loss_j, relative to |z|
    double absolute;  // and the part of loss_i that is the same for every row, in units of the unscaled z
    const double* extra;  // (n,) the part of loss_i that each row adds, or null
};

struct OwnedCodes;  // rounded rows
using CodesPointer = std::shared_ptr<const OwnedCodes>;

// The largest dimension whose integer products fit.
constexpr int64_t kLargestScreened = 100000;

template <typename T>
CodesPointer encode(const Rows<T>& rows, const PictureOf& picture, bool fine, int threads);

// Which pairs count: not the row's own column, not equal labels, not within the window. Null pointers: no such rule.
struct Rules {
    const int64_t* own;            // (n,) column that is the row itself, -1 for none
    const int64_t* row_ids;        // (n,) where the row stands for the window, null for 0, 1, ...
    const int32_t* row_labels;     // (n,)
    const int32_t* column_labels;  // (m,)
    int64_t window;                // |row - column| <= window is left out

    bool admit(int64_t row, int64_t column) const {
        if (own && own[row] == column) return false;
        if (row_labels && row_labels[row] == column_labels[column]) return false;
        if (window == 0) return true;
        const int64_t place = row_ids ? row_ids[row] : row;
        return (place < column ? column - place : place - column) > window;
    }

    // Bit c: column first + c does not count for the row, or is not one of `columns` <= 64.
    uint64_t excluded(int64_t row, int64_t first, int64_t columns) const {
        uint64_t bits = 0;
        for (int64_t c = 0; c < columns; ++c) bits |= static_cast<uint64_t>(!admit(row, first + c)) << c;
        return columns < 64 ? bits | ~((uint64_t{1} << columns) - 1) : bits;
    }
};

// A test of the certificate: every screened distance is moved by up to `strength` times its declared bound. Pairs with
// a key up to pivot[row] are pushed away and the others pulled near (the worst for a search); without pivots the sign
// is drawn from the seed.
struct Adversary {
    double strength;
    uint64_t seed;
    const double* pivot;  // (n,) canonical keys, or null

    // A sign for a pair.
    bool draw(int64_t pair) const {
        const uint64_t mixed = (seed + static_cast<uint64_t>(pair)) * 0x9E3779B97F4A7C15u;
        return (mixed ^ mixed >> 31) >> 7 & 1;
    }
};

// Keys come from x and y; their codes from pictures of the same rows. With `same` the two sides are one row set under a
// symmetric kernel, and each pair is screened once for both.
template <typename T>
struct Screened {
    const Kernel* kernel;
    Rows<T> x, y;
    const OwnedCodes *x_codes, *y_codes;
    bool same;
    double factor;         // distance^2 in the unscaled picture is factor * key
    const double* offset;  // (n,) inner_product only: -2 z_x.z_y in the unscaled pictures is 2 key + offset
    Rules rules;
    const Adversary* adversary;
    int threads;
};

// keys and indices (n, k) ascending by (key, index), inf and -1 where a row has fewer than k; candidates (n,): pairs
// that were given a key, -1 for a row that the screen could not certify (the rest of its row is not written).
template <typename T>
void screened_knn(const Screened<T>& problem, int64_t k, double* keys, int64_t* indices, int64_t* candidates);

// counts (n,): admissible columns whose key is at most threshold[row].
template <typename T>
void screened_count(const Screened<T>& problem, const double* threshold, int64_t* counts);

}  // namespace msma
