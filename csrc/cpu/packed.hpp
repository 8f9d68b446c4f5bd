// Rows in the layout of add_weighted_differences.
#pragma once

#include <cstdint>

#include "body.hpp"
#include "buffer.hpp"

namespace msma {

// (n, d) rows as blocks of `step` rows; in a block eight coordinates of all rows lie together, so that a pass
// over the rows reads memory in order. Padding is zero.
class Packed {
  public:
    // Zeros.
    Packed(int64_t count, int64_t dimension, int64_t step);
    explicit Packed(const Rows<double>& rows, int64_t step);

    double* block(int64_t number) const { return data_.get() + number * step_ * padded(dimension_); }
    int64_t step() const { return step_; }
    int64_t groups() const { return padded(dimension_) / 8; }
    void unpack(double* rows) const;

  private:
    double* group_of(int64_t row, int64_t group) const {
        return block(row / step_) + (group * step_ + row % step_) * 8;
    }

    int64_t count_, dimension_, step_;
    Buffer<double> data_;
};

}  // namespace msma
