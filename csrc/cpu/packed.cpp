#include "packed.hpp"

#include <algorithm>

#include "work.hpp"

namespace msma {

Packed::Packed(int64_t count, int64_t dimension, int64_t step)
    : count_(count), dimension_(dimension), step_(step), data_(ceil_div(count, step) * step * padded(dimension)) {
    std::fill_n(data_.get(), ceil_div(count, step) * step * padded(dimension), 0.0);
}

Packed::Packed(const Rows<double>& rows, int64_t step) : Packed(rows.count, rows.dimension, step) {
    for (int64_t r = 0; r < count_; ++r) {
        for (int64_t k = 0; k < dimension_; k += 8) {
            std::copy_n(rows.row(r) + k, std::min<int64_t>(8, dimension_ - k), group_of(r, k / 8));
        }
    }
}

void Packed::unpack(double* rows) const {
    for (int64_t r = 0; r < count_; ++r, rows += dimension_) {
        for (int64_t k = 0; k < dimension_; k += 8) {
            std::copy_n(group_of(r, k / 8), std::min<int64_t>(8, dimension_ - k), rows + k);
        }
    }
}

}  // namespace msma
