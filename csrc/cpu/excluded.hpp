// The rows that labels and a window take from the neighbours of each row of a self-search.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "body.hpp"
#include "buffer.hpp"
#include "ksg_axes.hpp"

namespace msma {

// Which rows are no neighbours of a row: those of its label, and those within the window.
class Excluded {
  public:
    Excluded(int64_t n, const int32_t* groups, int64_t window)
        : n_(n), window_(std::min(window, n)), label_(groups ? static_cast<size_t>(n) : 0) {
        if (!groups) return;
        std::vector<int32_t> known(groups, groups + n);
        std::sort(known.begin(), known.end());
        known.erase(std::unique(known.begin(), known.end()), known.end());
        start_.assign(known.size() + 1, 0);
        for (int64_t i = 0; i < n; ++i) {
            const auto at = std::lower_bound(known.begin(), known.end(), groups[i]) - known.begin();
            label_[static_cast<size_t>(i)] = static_cast<int32_t>(at);
            ++start_[static_cast<size_t>(at) + 1];
        }
        for (size_t g = 1; g < start_.size(); ++g) start_[g] += start_[g - 1];
    }

    bool grouped() const { return !label_.empty(); }

    // The values of an axis, label by label, each label's ascending; empty without labels.
    Buffer<double> grouped(const Axis& axis) const {
        if (!grouped()) return {};
        Buffer<double> values(n_);
        std::vector<int64_t> next(start_.begin(), start_.end() - 1);
        for (int64_t place = 0; place < n_; ++place) {
            values[next[static_cast<size_t>(label_[static_cast<size_t>(axis.rows[place])])]++] = axis.values[place];
        }
        return values;
    }

    Range group_of(int64_t row) const {
        const auto label = static_cast<size_t>(label_[static_cast<size_t>(row)]);
        return {start_[label], start_[label + 1]};
    }

    // Calls visit(j) for the rows within the window that have another label.
    template <typename Visit>
    void near_rows(int64_t row, const Visit& visit) const {
        const int64_t end = std::min(n_, row + window_ + 1);
        for (int64_t j = std::max<int64_t>(0, row - window_); j < end; ++j) {
            const bool other =
                grouped() ? label_[static_cast<size_t>(j)] != label_[static_cast<size_t>(row)] : j != row;
            if (other) visit(j);
        }
    }

    // N_i (n,)
    void numbers(int64_t* out) const {
        std::vector<int64_t> inside(start_.size());  // rows of each label within the window
        for (int64_t i = 0; i < n_; ++i) {
            const int64_t begin = std::max<int64_t>(0, i - window_), end = std::min(n_, i + window_ + 1);
            out[i] = n_ + 1 - (end - begin);
            if (!grouped()) continue;
            const int64_t entered = i == 0 ? 0 : std::min(n_, i + window_);
            for (int64_t j = entered; j < end; ++j) ++inside[static_cast<size_t>(label_[static_cast<size_t>(j)])];
            if (i > window_) --inside[static_cast<size_t>(label_[static_cast<size_t>(i - window_ - 1)])];
            out[i] -= group_of(i).size() - inside[static_cast<size_t>(label_[static_cast<size_t>(i)])];
        }
    }

  private:
    int64_t n_, window_;
    std::vector<int32_t> label_;
    std::vector<int64_t> start_;
};

}  // namespace msma
