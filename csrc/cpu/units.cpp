#include "msma/units.hpp"

#include <algorithm>
#include <cmath>

#include "body.hpp"
#include "buffer.hpp"
#include "neighbor.hpp"
#include "parallel.hpp"
#include "scan_body.hpp"
#include "work.hpp"

namespace msma {
namespace {

// Equal rows with equal labels have equal hashes.
template <typename T>
Buffer<uint64_t> hash_rows(const Rows<T>& rows, const int32_t* labels, int threads) {
    Buffer<uint64_t> hashes(rows.count);
    std::vector<uint64_t> weights(static_cast<size_t>(rows.dimension));  // odd, from a fixed sequence
    uint64_t state = 0x13198A2E03707344u;
    for (uint64_t& weight : weights) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        weight = (state ^ (state >> 33)) | 1;
    }
    const ScanBody<T> body = best_scan_body<T>();
    constexpr int64_t step = 256;
    parallel_for(ceil_div(rows.count, step), threads, [&](int64_t task, int) {
        const Range range = nth(task, step, rows.count);
        body.hash(part(rows, range), weights.data(), hashes.get() + range.begin);
        for (int64_t i = range.begin; labels && i < range.end; ++i) {
            hashes[i] += static_cast<uint64_t>(labels[i]) * 0xBF58476D1CE4E5B9u;
        }
    });
    return hashes;
}

// Open addressing: the first row of each hash value.
class FirstOf {
  public:
    explicit FirstOf(int64_t rows) {
        while (size_ < 2 * rows) {
            size_ *= 2;
            --shift_;
        }
        slots_.assign(static_cast<size_t>(size_), -1);
    }

    // The row that came with this hash before, or row i itself, which then stands for it.
    int64_t find(const uint64_t* hashes, int64_t i) {
        // Only the highest bits of the product depend on every bit of the hash.
        auto slot = static_cast<int64_t>((hashes[i] * 0x9E3779B97F4A7C15u) >> shift_);
        for (;; slot = (slot + 1) & (size_ - 1)) {
            int64_t& head = slots_[static_cast<size_t>(slot)];
            if (head < 0) return head = i;
            if (hashes[head] == hashes[i]) return head;
        }
    }

  private:
    int64_t size_ = 64;
    int shift_ = 64 - 6;
    std::vector<int64_t> slots_;
};

// The points of one row's units that can be among the k nearest.
void gather(const Expansion& given, int64_t row, int64_t k, std::vector<Neighbor>& points) {
    const double* keys = given.keys + row * given.width;
    const int64_t* near = given.near + row * given.width;
    const int64_t own = given.own ? given.own[row] : -1;
    points.clear();
    for (int64_t u = 0; u < given.width && near[u] >= 0; ++u) {
        // Behind k points of smaller keys nothing matters; a tie may still have a smaller index.
        if (static_cast<int64_t>(points.size()) >= k && points[static_cast<size_t>(k - 1)].key < keys[u]) break;
        const int64_t* members = given.members + given.start[near[u]];
        const int64_t size = std::min(given.size[near[u]], k + 1);  // one of them may be the row itself
        for (int64_t s = 0; s < size; ++s) {
            if (members[s] != own) points.push_back({keys[u], members[s]});
        }
    }
}

}  // namespace

template <typename T>
Units find_units(const Rows<T>& rows, const int32_t* labels, int threads) {
    const DefaultFpEnvironment environment;
    const int64_t m = rows.count;
    const Buffer<uint64_t> hashes = hash_rows(rows, labels, threads);
    const auto equal = [&](int64_t a, int64_t b) {
        if (labels && labels[a] != labels[b]) return false;
        return std::equal(rows.row(a), rows.row(a) + rows.dimension, rows.row(b));
    };
    // first_of[i]: the smallest index equal to i. A collision merely leaves duplicates apart, which is slower, never
    // wrong.
    std::vector<int64_t> first_of(static_cast<size_t>(m));
    bool repeated = false;
    FirstOf table(m);
    for (int64_t i = 0; i < m; ++i) {
        const int64_t head = table.find(hashes.get(), i);
        const bool again = head != i && equal(head, i);
        first_of[static_cast<size_t>(i)] = again ? head : i;
        repeated = repeated || again;
    }
    Units units;
    if (!repeated) return units;
    units.unit.resize(static_cast<size_t>(m));
    units.members.resize(static_cast<size_t>(m));
    for (int64_t i = 0; i < m; ++i) {
        const int64_t head = first_of[static_cast<size_t>(i)];
        if (head == i) {
            units.unit[static_cast<size_t>(i)] = static_cast<int64_t>(units.first.size());
            units.first.push_back(i);
            units.size.push_back(0);
        } else {
            units.unit[static_cast<size_t>(i)] = units.unit[static_cast<size_t>(head)];
        }
        ++units.size[static_cast<size_t>(units.unit[static_cast<size_t>(i)])];
    }
    int64_t place = 0;
    for (const int64_t size : units.size) {
        units.start.push_back(place);
        place += size;
    }
    std::vector<int64_t> next = units.start;
    for (int64_t i = 0; i < m; ++i) {
        units.members[static_cast<size_t>(next[static_cast<size_t>(units.unit[static_cast<size_t>(i)])]++)] = i;
    }
    return units;
}

void expand_units(const Expansion& given, int64_t k, int threads, double* keys, int64_t* indices) {
    constexpr int64_t step = 64;
    std::vector<std::vector<Neighbor>> room(static_cast<size_t>(threads));
    parallel_for(ceil_div(given.n, step), threads, [&](int64_t task, int worker) {
        std::vector<Neighbor>& points = room[static_cast<size_t>(worker)];
        const Range range = nth(task, step, given.n);
        for (int64_t row = range.begin; row < range.end; ++row) {
            gather(given, row, k, points);
            write_nearest(points.data(), static_cast<int64_t>(points.size()), k, keys + row * k, indices + row * k);
        }
    });
}

void roots(const double* values, int64_t count, int threads, double* roots) {
    constexpr int64_t step = 1 << 15, kRootCost = 4;
    parallel_for(ceil_div(count, step), worth_starting(count, kRootCost, threads), [&](int64_t task, int) {
        const Range range = nth(task, step, count);
        for (int64_t t = range.begin; t < range.end; ++t) roots[t] = std::sqrt(values[t]);
    });
}

template Units find_units(const Rows<float>&, const int32_t*, int);
template Units find_units(const Rows<double>&, const int32_t*, int);

}  // namespace msma
