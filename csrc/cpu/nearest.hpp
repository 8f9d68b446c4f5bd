// The k nearest seen so far of each of some rows, and a radius that no later neighbour can exceed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "buffer.hpp"
#include "neighbor.hpp"

namespace msma {

class Nearest {
  public:
    std::vector<double> radius;

    Nearest(int64_t rows, int64_t k)
        : radius(static_cast<size_t>(rows), std::numeric_limits<double>::infinity()),
          k_(k),
          capacity_(2 * k + 32),
          entries_(rows * capacity_),
          count_(static_cast<size_t>(rows), 0) {}

    void add(int64_t row, double key, int64_t column) {
        int64_t& count = count_[static_cast<size_t>(row)];
        entries_[row * capacity_ + count++] = {key, column};
        if (count == capacity_) tighten(row);
    }

    const Neighbor* entries(int64_t row) const { return entries_.get() + row * capacity_; }
    int64_t count(int64_t row) const { return count_[static_cast<size_t>(row)]; }
    int64_t capacity() const { return capacity_; }

    // The radius as small as what was seen allows.
    void tighten(int64_t row) {
        int64_t& count = count_[static_cast<size_t>(row)];
        if (count < k_) return;
        Neighbor* begin = entries_.get() + row * capacity_;
        std::nth_element(begin, begin + k_ - 1, begin + count);
        count = k_;
        radius[static_cast<size_t>(row)] = begin[k_ - 1].key;
    }

    // The row's neighbours in order, after which it is empty.
    void take(int64_t row, double* keys, int64_t* indices) {
        tighten(row);
        int64_t& count = count_[static_cast<size_t>(row)];
        write_nearest(entries_.get() + row * capacity_, count, k_, keys, indices);
        count = 0;
        radius[static_cast<size_t>(row)] = std::numeric_limits<double>::infinity();
    }

  private:
    int64_t k_, capacity_;
    Buffer<Neighbor> entries_;
    std::vector<int64_t> count_;
};

}  // namespace msma
