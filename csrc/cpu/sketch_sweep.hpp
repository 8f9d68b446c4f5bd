// All pairs of a search compared as sketches, tile by tile.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "best_body.hpp"
#include "block_pairs.hpp"
#include "msma/direct.hpp"
#include "parallel.hpp"
#include "sketches.hpp"
#include "work.hpp"

namespace msma {

// The sketches of a search; y is the same object as x where the two sides are one.
struct SketchPair {
    const SketchPlan& plan;
    const Sketch &x, &y;
};

inline int64_t lowest_bit(uint32_t bits) {
#if defined(__GNUC__)
    return __builtin_ctz(bits);
#else
    int64_t place = 0;
    for (; !(bits >> place & 1u); ++place) {
    }
    return place;
#endif
}

// Places of the set bits, in order.
template <typename Use>
void for_bits(uint32_t bits, const Use& use) {
    for (; bits; bits &= bits - 1) use(lowest_bit(bits));
}

// Moves the values of a tile as the adversary says; see Adversary. Slow: every pair gets a key.
template <typename T>
void disturb(const Direct<T>& problem, const SketchPair& pair, Range rows, Range columns, float* values) {
    const KeyBody<T> body = best_body<T>(problem.kernel->kind);
    const Adversary& adversary = *problem.adversary;
    for (int64_t i = rows.begin; i < rows.end; ++i) {
        for (int64_t j = columns.begin; j < columns.end; ++j) {
            double key = 0.0;
            body.pairs(*problem.kernel, problem.x, problem.y, &i, &j, Range{0, 1}, nullptr, &key);
            const double* pivot = adversary.pivot;
            const bool near_one = pivot && (key <= pivot[i] || (problem.same && key <= pivot[j]));
            const bool away = pivot ? near_one : adversary.draw(i * problem.y.count + j);
            const double distance = pair.plan.root(key) / pair.plan.step;
            const double slack = pair.plan.slack * distance;
            const double spread = static_cast<double>(pair.x.spread[i]) + static_cast<double>(pair.y.spread[j]);
            const double outer = static_cast<double>(pair.x.outer[i]) + static_cast<double>(pair.y.outer[j]);
            const double moved = away ? distance + adversary.strength * (spread + slack)
                                      : std::max(0.0, distance - adversary.strength * (outer + slack));
            if (!std::isfinite(moved)) continue;
            const auto value = static_cast<float>(pair.plan.power(moved));
            // Towards the true distance, so that rounding does not leave the bound.
            values[(i - rows.begin) * kSheet + (j - columns.begin)] =
                std::nextafter(value, away ? 0.0f : std::numeric_limits<float>::infinity());
        }
    }
}

// Calls policy.hit(worker, i, j, a, b, value) for every pair (i, j) that may matter to row i by policy.reach (x.count,
// padded to whole sheets), compared as rows (a, b) of the two sides: (i, j), or (j, i) where the sides are one.
// Every ordered pair is judged exactly once. policy.task_end(worker, rows) follows each task, while the thread still
// owns its rows; without `same` these rows have then met all columns.
template <typename T, typename Policy>
void sweep_sketches(const Direct<T>& problem, const SketchPair& pair, int64_t block, Policy& policy) {
    const Sketch &x = pair.x, &y = pair.y;
    const SketchBody body = best_sketch_body(pair.plan);

    const auto tile = [&](int worker, int64_t row, int64_t sheet, bool both, float* values) {
        const int64_t column = sheet * kSheet;
        // Without `both` the reach of the columns is not read, and may not exist.
        const Cuts cuts{policy.reach + row, x.spread + row, both ? policy.reach + column : nullptr, y.spread + column,
                        both};
        const Range rows{row, std::min(row + kSketchStrip, x.count)};
        const Range columns{column, std::min(column + kSheet, y.count)};
        body.values(x.row(row), y.sheet(sheet), y.groups, cuts, values);
        if (problem.adversary) disturb(problem, pair, rows, columns, values);
        uint32_t to_row[kSketchStrip], to_column[kSketchStrip];
        body.judge(cuts, values, to_row, to_column);
        const uint32_t present = ~uint32_t{0} >> (kSheet - columns.size());
        for (int64_t r = 0; r < rows.size(); ++r) {
            const float* const value = values + r * kSheet;
            const int64_t i = row + r;
            for_bits(to_row[r] & present,
                     [&](int64_t c) { policy.hit(worker, i, column + c, i, column + c, value[c]); });
            for_bits(to_column[r] & present,
                     [&](int64_t c) { policy.hit(worker, column + c, i, i, column + c, value[c]); });
        }
    };
    const auto block_pair = [&](int64_t a, int64_t b, int worker) {
        alignas(64) float values[kSketchStrip * kSheet];
        const Range left = nth(a, block, x.sheets()), right = nth(b, block, y.sheets());
        for (int64_t sheet = right.begin; sheet < right.end; ++sheet) {
            const int64_t end = problem.same && a == b ? sheet + 1 : left.end;
            for (int64_t other = left.begin; other < end; ++other) {
                const bool both = problem.same && other != sheet;
                const int64_t last = std::min((other + 1) * kSheet, x.count);
                for (int64_t row = other * kSheet; row < last; row += kSketchStrip) {
                    tile(worker, row, sheet, both, values);
                }
            }
        }
    };
    const auto rows_of = [&](int64_t a) { return nth(a, block * kSheet, x.count); };
    if (problem.same) {
        for_block_pairs(ceil_div(x.sheets(), block), problem.threads, [&](int64_t a, int64_t b, int worker) {
            block_pair(a, b, worker);
            policy.task_end(worker, rows_of(a));
        });
        return;
    }
    const int64_t blocks = ceil_div(y.sheets(), block);
    parallel_for(ceil_div(x.sheets(), block), problem.threads, [&](int64_t a, int worker) {
        for (int64_t b = 0; b < blocks; ++b) block_pair(a, b, worker);
        policy.task_end(worker, rows_of(a));
    });
}

// Sheets of one block: its codes stay in the second-level cache, and every thread finds many blocks.
inline int64_t sheets_of_block(const Sketch& sketch, int threads) {
    constexpr int64_t bytes = 384 * 1024;
    const int64_t fitting = bytes / (sketch.groups * sketch.group_bytes);
    const int64_t most_blocks = sketch.sheets() / 2048;  // the list of their pairs stays within 50 MB
    return std::max(most_blocks, std::clamp<int64_t>(std::min(fitting, sketch.sheets() / (6 * threads)), 1, 16));
}

}  // namespace msma
