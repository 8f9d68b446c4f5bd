// How work is cut into pieces, and when a thread is worth its start.
#pragma once

#include <algorithm>
#include <cstdint>

#include "body.hpp"

namespace msma {

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

constexpr Range nth(int64_t piece, int64_t step, int64_t total) {
    return {piece * step, std::min(total, (piece + 1) * step)};
}

// Some rows of a set as a set of their own.
template <typename T>
Rows<T> part(const Rows<T>& rows, Range range) {
    return {rows.row(range.begin), rows.norms ? rows.norms + range.begin : nullptr, range.size(), rows.dimension};
}

constexpr int64_t kPanelDoubles = 48 * 1024;  // 384 KiB of promoted y rows, within any second-level cache
constexpr int64_t panel_rows(int64_t d) { return std::clamp<int64_t>(kPanelDoubles / padded(d), 16, 512); }

// Coordinates read for one pair.
constexpr int64_t cost_of_pair(const Kernel& kernel, int64_t d) { return kernel.kind == Kind::mahalanobis ? d * d : d; }

// Coordinates read that make a thread worth its start (some 50 microseconds of work).
constexpr int64_t kThreadCost = int64_t{1} << 19;

// Threads for `pairs` pairs that read `cost` coordinates each.
inline int worth_starting(int64_t pairs, int64_t cost, int threads) {
    const double work = static_cast<double>(pairs) * static_cast<double>(cost);
    return static_cast<int>(std::clamp(work / static_cast<double>(kThreadCost), 1.0, static_cast<double>(threads)));
}

}  // namespace msma
