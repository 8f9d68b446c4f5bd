// The k-th joint value of a row of x and a row of y under a permutation, without a look at every column.
//
// The near columns of each row are kept in increasing order. A column among the k nearest jointly is near on both
// sides, so both rows are followed from their nearest columns on, the value of the other side being looked up; when one
// side has come to the k-th joint value known, no column left can be nearer. That is after min(n_x, n_y) + 1 steps,
// some sqrt(k n) where the samples are independent, fewer where their scales differ.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "buffer.hpp"
#include "ksg_rows_body.hpp"
#include "work.hpp"

namespace msma {

class KsgScan {
  public:
    // Room for the near columns of n rows of each of two samples.
    KsgScan(int64_t n, int k, int64_t stride)
        : k_(k),
          stride_(stride),
          room_(std::min<int64_t>(n, 4 * static_cast<int64_t>(std::sqrt(static_cast<double>(k * n))))),
          body_(best_ksg_rows_body()),
          values_(2 * n * room_),
          columns_(2 * n * room_),
          rows_(static_cast<size_t>(2 * n)),
          n_(n) {}

    // Keeps the near columns of a row; `places` has room for a row.
    void keep(int64_t s, int64_t row, const float* values, int32_t* places) {
        // A threshold from every 16th value: some 2 sqrt(k n) columns, at most the room.
        std::vector<float> sample;
        for (int64_t j = 0; j < n_; j += 16) sample.push_back(values[j]);
        const auto rank = static_cast<int64_t>(sample.size()) * room_ / (2 * n_);
        const auto at = sample.begin() + std::min<int64_t>(rank, static_cast<int64_t>(sample.size()) - 1);
        std::nth_element(sample.begin(), at, sample.end());
        const float limit = *at;
        int64_t found = limit == HUGE_VALF ? 0 : body_.list(values, values, stride_, -1.0f, limit, places);
        std::vector<std::pair<float, int32_t>> near;
        near.reserve(static_cast<size_t>(found));
        for (int64_t t = 0; t < found; ++t) near.emplace_back(values[places[t]], places[t]);
        std::sort(near.begin(), near.end());
        const int64_t kept = std::min(found, room_);
        for (int64_t t = 0; t < kept; ++t) {
            values_[(s * n_ + row) * room_ + t] = near[static_cast<size_t>(t)].first;
            columns_[(s * n_ + row) * room_ + t] = near[static_cast<size_t>(t)].second;
        }
        const float last = found == 0 ? -1.0f : kept < found ? near[static_cast<size_t>(kept - 1)].first : limit;
        rows_[static_cast<size_t>(s * n_ + row)] = {kept, last};
    }

    // The k-th smallest max(of_x[j], of_y[order[j]]), or inf where the kept columns do not tell. places: the inverse of
    // order. of_x and of_y are row i of x and row order[i] of y.
    float reach(int64_t i, const float* of_x, const float* of_y, const int32_t* order, const int32_t* places) const {
        const int64_t row_x = i, row_y = n_ + order[i];
        const Row x = rows_[static_cast<size_t>(row_x)], y = rows_[static_cast<size_t>(row_y)];
        const float *near_x = values_.get() + row_x * room_, *near_y = values_.get() + row_y * room_;
        const int32_t *columns_x = columns_.get() + row_x * room_, *columns_y = columns_.get() + row_y * room_;
        float best[kKsgBins];
        int32_t who[kKsgBins];
        std::fill_n(best, k_, HUGE_VALF);
        std::fill_n(who, k_, -1);
        float& last = best[k_ - 1];
        const int64_t steps = std::max(x.count, y.count);
        for (int64_t t = 0; t < steps; ++t) {
            if (t < x.count) {
                if (near_x[t] >= last) return last;
                const int32_t j = columns_x[t];
                const float value = std::max(near_x[t], of_y[order[j]]);
                if (value < last) insert(best, who, value, j);
            }
            if (t < y.count) {
                if (near_y[t] >= last) return last;
                const int32_t j = places[columns_y[t]];
                const float value = std::max(near_y[t], of_x[j]);
                if (value < last) insert(best, who, value, j);
            }
        }
        return last <= std::max(x.last, y.last) ? last : HUGE_VALF;
    }

  private:
    // Columns kept, and a value that none of the others is below.
    struct Row {
        int64_t count;
        float last;
    };

    // A column comes from both sides; it counts once.
    void insert(float* best, int32_t* who, float value, int32_t j) const {
        for (int t = 0; t < k_; ++t) {
            if (who[t] == j) return;
        }
        int t = k_ - 1;
        for (; t > 0 && best[t - 1] > value; --t) {
            best[t] = best[t - 1];
            who[t] = who[t - 1];
        }
        best[t] = value;
        who[t] = j;
    }

    const int k_;
    const int64_t stride_, room_;
    const KsgRowsBody body_;
    const Buffer<float> values_;
    const Buffer<int32_t> columns_;
    std::vector<Row> rows_;
    const int64_t n_;
};

}  // namespace msma
