// What the rows of a search keep while it runs: the pairs that may still matter, and their smallest upper bounds.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "buffer.hpp"
#include "codes.hpp"

namespace msma {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A pair of a row: its lower bound, without the row's own spread, and its column.
struct Entry {
    float lower;
    int32_t column;
    bool operator<(const Entry& other) const { return lower < other.lower; }
};

// Reservoirs start small; rows with many candidates get more room, up to a share of the columns and of the memory.
class Reservoirs {
  public:
    // What a row keeps; no entries at all where the row is lost.
    struct Row {
        Entry* entries;
        int32_t count, capacity;
    };

    Reservoirs(int64_t rows, int64_t columns, int64_t k, int threads)
        : first_((2 * k + 34 + 7) / 8 * 8),
          limit_(std::max<int64_t>(16 * k + 512, columns / 4)),
          room_(kGrowth * threads),
          slab_(rows * first_),
          rows_(rows),
          grown_(static_cast<size_t>(rows)) {
        for (int64_t i = 0; i < rows; ++i) rows_[i] = {slab_.get() + i * first_, 0, static_cast<int32_t>(first_)};
    }

    Row& of(int64_t i) const { return rows_[i]; }

    // Twice the room for row i; false where the row has too many candidates or the memory is used up.
    bool grow(int64_t i) {
        Row& row = of(i);
        const int64_t wider = 2 * int64_t{row.capacity};
        if (wider > limit_) return false;
        if (used_.fetch_add(wider) + wider > room_) {
            used_.fetch_sub(wider);
            return false;
        }
        Buffer<Entry> entries(wider);
        std::copy_n(row.entries, row.count, entries.get());
        give_back(i);
        grown_[static_cast<size_t>(i)] = std::move(entries);
        row = {grown_[static_cast<size_t>(i)].get(), row.count, static_cast<int32_t>(wider)};
        return true;
    }
    void drop(int64_t i) {
        give_back(i);
        of(i) = {nullptr, 0, 0};
    }

  private:
    static constexpr int64_t kGrowth = (int64_t{32} << 20) / sizeof(Entry);  // entries in 32 MiB a thread

    void give_back(int64_t i) {
        Buffer<Entry>& own = grown_[static_cast<size_t>(i)];
        if (own) used_.fetch_sub(of(i).capacity);
        own = Buffer<Entry>();
    }

    int64_t first_, limit_, room_;
    std::atomic<int64_t> used_{0};
    Buffer<Entry> slab_;
    Buffer<Row> rows_;
    std::vector<Buffer<Entry>> grown_;
};

// The k smallest upper bounds of every row, ascending behind a first -inf; see ScreenBody::insert. Only for small k.
class Uppers {
  public:
    Uppers(int64_t rows, int64_t k)
        : k_(k), lines_(k <= kMostKept ? k / kLine + 1 : 0), values_(rows * lines_ * kLine + 1) {
        std::fill_n(values_.get(), rows * lines_ * kLine, kInfinity);
        for (int64_t i = 0; lines_ && i < rows; ++i) values_[i * lines_ * kLine] = -kInfinity;
    }

    bool kept() const { return lines_ > 0; }
    // The k-th smallest upper bound of row i.
    float largest(int64_t i) const { return values_[i * lines_ * kLine + k_]; }
    void fetch(int64_t i) const { __builtin_prefetch(values_.get() + i * lines_ * kLine, 1); }
    // The k-th smallest upper bound of row i, this one counted.
    float with(int64_t i, float upper, const ScreenBody& body) const {
        float* row = values_.get() + i * lines_ * kLine;
        body.insert(row, lines_, upper);
        return row[k_];
    }

  private:
    static constexpr int64_t kLine = 16;
    static constexpr int64_t kMostKept = 4 * kLine - 1;  // beyond it an occasional selection costs less

    int64_t k_, lines_;
    Buffer<float> values_;
};

}  // namespace msma
