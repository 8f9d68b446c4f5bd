// The kernel body of the canonical keys, compiled once per instruction set (keys_scalar, keys_avx2,
// keys_avx512).
//
// block: a panel of y rows is promoted to float64 in scratch and padded with zeros to whole lanes (+0.0 terms
// change no accumulator); strips of R rows of x pass over it in tiles. pairs: rows are read where they lie,
// promoted in registers, R pairs at a time.
//
// The including file defines MSMA_ISA, one of MSMA_LANES_*, and the tile MSMA_TILE_ROWS x MSMA_TILE_COLUMNS.
#pragma once

#include "tile-inl.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

template <typename T>
bool equal_rows(const T* x, const T* y, int64_t d) {
    for (int64_t k = 0; k < d; ++k) {
        if (x[k] != y[k]) return false;
    }
    return true;
}

// Equal rows have a key of a few units in the last place; only such keys are worth comparing rows for.
constexpr double kCosineEqual = 1e-9;

inline double cosine_key(double product, double x_norm, double y_norm) {
    const double key = 1.0 - product / (x_norm * y_norm);
    return key < 0.0 ? 0.0 : key;
}

// Sums to keys for row r of x and the given rows of y.
template <typename T>
void finish_row(Kind kind, const Rows<T>& x, int64_t r, const Rows<T>& y, Range columns, double* keys) {
    if (kind == Kind::inner_product) {
        for (int64_t c = columns.begin; c < columns.end; ++c) keys[c] = 0.0 - keys[c];
    } else if (kind == Kind::cosine) {
        const double norm = x.norms[r];
        for (int64_t c = columns.begin; c < columns.end; ++c) keys[c] = cosine_key(keys[c], norm, y.norms[c]);
        for (int64_t c = columns.begin; c < columns.end; ++c) {
            if (keys[c] < kCosineEqual && equal_rows(x.row(r), y.row(c), x.dimension)) keys[c] = 0.0;
        }
    }
}

template <Kind kind, typename T>
void block_of(const Kernel& kernel, const Rows<T>& x, const Rows<T>& y, Range rows, Range columns, double* scratch,
              double* keys) {
    constexpr int R = MSMA_TILE_ROWS;
    static_assert(R <= kTileRows, "the scratch holds kTileRows rows of x");
    const int64_t width = padded(x.dimension), m = y.count;
    double* left = scratch;
    double* panel = scratch + kTileRows * width;
    promote(y, columns, width, panel);
    for (int64_t r = rows.begin; r < rows.end;) {
        const int64_t count = rows.end - r >= R ? R : 1;
        promote(x, Range{r, r + count}, width, left);
        double* sums = keys + r * m + columns.begin;
        (count == R ? strip<kind, R> : strip<kind, 1>)(left, panel, columns.size(), width, kernel.p, sums, m);
        for (const int64_t end = r + count; r < end; ++r) finish_row(kernel.kind, x, r, y, columns, keys + r * m);
    }
}

// keys[t] = max(0, a_t . M a_t) for `count` <= kGroup rows a_t = x - y in `scratch`, followed by room for z.
void mahalanobis_group(const double* tensor, int64_t d, int64_t count, double* scratch, double* keys) {
    constexpr int R = MSMA_TILE_ROWS, C = MSMA_TILE_COLUMNS;
    const int64_t width = padded(d);
    double* z = scratch + kGroup * width;
    for (int64_t k = 0; k < count * width; ++k) z[k] = 0.0;
    for (int64_t i = 0; i < d; i += C) {  // C rows of M at a time, used by the whole group
        const int64_t m_rows = d - i < C ? d - i : C;
        int64_t t = 0;
        for (; t + R <= count; t += R) {
            strip<Kind::inner_product, R>(scratch + t * width, tensor + i * width, m_rows, width, 0, z + t * width + i,
                                          width);
        }
        for (; t < count; ++t) {
            strip<Kind::inner_product, 1>(scratch + t * width, tensor + i * width, m_rows, width, 0, z + t * width + i,
                                          width);
        }
    }
    for (int64_t t = 0; t < count; ++t) {
        double key;
        tile<Kind::inner_product, 1, 1>(scratch + t * width, z + t * width, width, 0, &key, 1);
        keys[t] = key < 0.0 ? 0.0 : key;
    }
}

template <typename T>
void difference(const T* x, const T* y, int64_t d, double* a) {
    int64_t k = 0;
    for (; k + kLanes <= d; k += kLanes) store(a + k, subtract(load(x + k), load(y + k)));
    if (k < d) store(a + k, subtract(load_first(x + k, d - k), load_first(y + k, d - k)));
}

template <typename T>
void mahalanobis_pairs(const Kernel& kernel, const Rows<T>& x, const Rows<T>& y, const int64_t* i, const int64_t* j,
                       Range pairs, double* scratch, double* keys) {
    const int64_t d = x.dimension;
    for (int64_t t = pairs.begin; t < pairs.end; t += kGroup) {
        const int64_t count = pairs.end - t < kGroup ? pairs.end - t : kGroup;
        for (int64_t u = 0; u < count; ++u) {
            difference(x.row(i[t + u]), y.row(j[t + u]), d, scratch + u * padded(d));
        }
        mahalanobis_group(kernel.tensor, d, count, scratch, keys + t);
    }
}

template <typename T>
void mahalanobis_block(const Kernel& kernel, const Rows<T>& x, const Rows<T>& y, Range rows, Range columns,
                       double* scratch, double* keys) {
    const int64_t d = x.dimension;
    for (int64_t r = rows.begin; r < rows.end; ++r) {
        for (int64_t c = columns.begin; c < columns.end; c += kGroup) {
            const int64_t count = columns.end - c < kGroup ? columns.end - c : kGroup;
            for (int64_t u = 0; u < count; ++u) difference(x.row(r), y.row(c + u), d, scratch + u * padded(d));
            mahalanobis_group(kernel.tensor, d, count, scratch, keys + r * y.count + c);
        }
    }
}

template <Kind kind, typename T>
void pairs_of(const Kernel& kernel, const Rows<T>& x, const Rows<T>& y, const int64_t* i, const int64_t* j, Range pairs,
              double*, double* keys) {
    constexpr int G = MSMA_TILE_ROWS;
    const T* left[G];
    const T* right[G];
    const T* ahead[G];
    int64_t t = pairs.begin;
    for (; t + G <= pairs.end; t += G) {
        for (int g = 0; g < G; ++g) {
            left[g] = x.row(i[t + g]);
            right[g] = y.row(j[t + g]);
            ahead[g] = t + G + g < pairs.end ? y.row(j[t + G + g]) : right[g];
        }
        pair_sums<kind, G>(left, right, ahead, x.dimension, kernel.p, keys + t);
    }
    for (; t < pairs.end; ++t) {
        left[0] = x.row(i[t]);
        right[0] = y.row(j[t]);
        pair_sums<kind, 1>(left, right, right, x.dimension, kernel.p, keys + t);
    }
    if (kernel.kind == Kind::inner_product) {
        for (t = pairs.begin; t < pairs.end; ++t) keys[t] = 0.0 - keys[t];
    } else if (kernel.kind == Kind::cosine) {
        for (t = pairs.begin; t < pairs.end; ++t) {
            keys[t] = cosine_key(keys[t], x.norms[i[t]], y.norms[j[t]]);
            if (keys[t] < kCosineEqual && equal_rows(x.row(i[t]), y.row(j[t]), x.dimension)) keys[t] = 0.0;
        }
    }
}

}  // namespace

template <typename T>
KeyBody<T> key_body(Kind kind) {
    switch (kind) {
        case Kind::sqeuclidean:
            return {pairs_of<Kind::sqeuclidean, T>, block_of<Kind::sqeuclidean, T>};
        case Kind::manhattan:
            return {pairs_of<Kind::manhattan, T>, block_of<Kind::manhattan, T>};
        case Kind::chebyshev:
            return {pairs_of<Kind::chebyshev, T>, block_of<Kind::chebyshev, T>};
        case Kind::minkowski:
            return {pairs_of<Kind::minkowski, T>, block_of<Kind::minkowski, T>};
        case Kind::mahalanobis:
            return {mahalanobis_pairs<T>, mahalanobis_block<T>};
        case Kind::inner_product:
        case Kind::cosine:
            break;
    }
    return {pairs_of<Kind::inner_product, T>, block_of<Kind::inner_product, T>};
}

template KeyBody<float> key_body<float>(Kind);
template KeyBody<double> key_body<double>(Kind);

}  // namespace MSMA_ISA
}  // namespace msma
