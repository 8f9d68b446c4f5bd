// Canonical keys on a GPU (the formulas: msma/keys.hpp), of rows in global memory.
#pragma once

#include "device.cuh"
#include "msma/cuda.hpp"

namespace msma::device {

constexpr int kLanes = 8;  // accumulators of a key
constexpr double kCosineEqual =
    1e-9;  // equal rows have a key below it, and only such keys are worth comparing rows for
constexpr uint64_t kSize = ~(uint64_t{1} << 63);
constexpr uint64_t kEndless = 0x7FF0000000000000;  // the bits of infinity

// Rows as keys.hpp has them, of either dtype: a branch that a whole warp takes costs less than a kernel more.
struct Side {
    const void* values;
    const double* norms;
    int64_t count;
    int dimension;
    bool single;  // float32

    MSMA_DEVICE double at(int64_t row, int coordinate) const {
        const int64_t place = row * dimension + coordinate;
        return single ? static_cast<double>(static_cast<const float*>(values)[place])
                      : static_cast<const double*>(values)[place];
    }
};

// An accumulator and the term of one coordinate.
template <Kind kind>
MSMA_DEVICE double gathered(double sum, double x, double y, int p) {
    if constexpr (kind == Kind::inner_product || kind == Kind::cosine) {
        return add(sum, multiply(x, y));
    } else if constexpr (kind == Kind::sqeuclidean) {
        const double a = subtract(x, y);
        return add(sum, multiply(a, a));
    } else {
        const uint64_t size = bits_of(subtract(x, y)) & kSize;
        if constexpr (kind == Kind::chebyshev) {  // sizes are in the order of their bits, NaN above all
            return size > bits_of(sum) ? double_of(size) : sum;
        } else if constexpr (kind == Kind::manhattan) {
            return add(sum, double_of(size));
        } else {
            double power = double_of(size);
            for (int factor = 1; factor < p; ++factor) power = multiply(power, double_of(size));
            return add(sum, power);
        }
    }
}

// Two accumulators that hold different coordinates.
template <Kind kind>
MSMA_DEVICE double joined(double a, double b) {
    if constexpr (kind == Kind::chebyshev) {
        return bits_of(a) > bits_of(b) ? a : b;
    } else {
        return add(a, b);
    }
}

template <Kind kind>
MSMA_DEVICE double combined(const double (&sums)[kLanes]) {
    const double even = joined<kind>(joined<kind>(sums[0], sums[4]), joined<kind>(sums[2], sums[6]));
    const double odd = joined<kind>(joined<kind>(sums[1], sums[5]), joined<kind>(sums[3], sums[7]));
    return joined<kind>(even, odd);
}

MSMA_DEVICE bool equal_rows(const Side& x, int64_t i, const Side& y, int64_t j) {
    for (int c = 0; c < x.dimension; ++c) {
        if (x.at(i, c) != y.at(j, c)) return false;
    }
    return true;
}

// The key of a pair from its combined sums.
template <Kind kind>
MSMA_DEVICE double finished(double total, const Side& x, int64_t i, const Side& y, int64_t j) {
    if constexpr (kind == Kind::inner_product) {
        return subtract(0.0, total);
    } else if constexpr (kind == Kind::cosine) {
        const double key = subtract(1.0, divide(total, multiply(x.norms[i], y.norms[j])));
        if (key < kCosineEqual && equal_rows(x, i, y, j)) return 0.0;
        return key < 0.0 ? 0.0 : key;
    } else {
        return total;
    }
}

// The key of one pair, by one thread.
template <Kind kind>
MSMA_DEVICE double pair_key(const Side& x, int64_t i, const Side& y, int64_t j, int p) {
    double sums[kLanes] = {};
    for (int c = 0; c < x.dimension; c += kLanes) {
        MSMA_UNROLL
        for (int l = 0; l < kLanes; ++l) {
            if (c + l < x.dimension) sums[l] = gathered<kind>(sums[l], x.at(i, c + l), y.at(j, c + l), p);
        }
    }
    return finished<kind>(combined<kind>(sums), x, i, y, j);
}

MSMA_DEVICE bool admissible(const cuda::Rule& rule, int64_t i, int64_t j) {
    if (rule.own != nullptr) {
        const int64_t apart = j - rule.own[i];
        if ((apart < 0 ? -apart : apart) <= rule.window) return false;
    }
    if (rule.labels != nullptr && rule.labels[i] == rule.point_labels[j]) return false;
    return rule.partners == nullptr || rule.partners[i] != rule.partners[j];
}

}  // namespace msma::device
