// What the searches on the screen share: owned codes, the body of this machine, and the sweep over all pairs.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "best_body.hpp"
#include "block_pairs.hpp"
#include "buffer.hpp"
#include "codes.hpp"
#include "msma/screen.hpp"
#include "parallel.hpp"
#include "strips.hpp"
#include "work.hpp"

namespace msma {

ScreenBody best_screen_body();

struct OwnedCodes {
    Codes view;
    double scale;
    Buffer<int32_t> words;
    Buffer<float> floats;
};

// Panels of one block: what the rows of two blocks keep stays in the second-level cache, and every thread finds many
// blocks.
inline int64_t panels_of_block(const Codes& codes, int threads) {
    constexpr int64_t words = 96 * 1024, kept = 48;  // words of a block; words of a row beside its codes
    const int64_t planes = codes.low ? 2 : 1;
    // However long rows are, some panels share what is read of the other block.
    const int64_t fitting = std::max<int64_t>(words / ((planes * codes.groups + kept) * kPanel), 8);
    const int64_t most_blocks = ceil_div(codes.panels(), 2048);  // the list of their pairs stays within 50 MB
    return std::max(most_blocks, std::clamp<int64_t>(std::min(fitting, codes.panels() / (6 * threads)), 1, 32));
}

// Moves the products of a tile as the adversary says; see Adversary. Slow: every pair gets a key.
template <typename T>
void disturb(const Screened<T>& problem, Range rows, Range columns, int32_t* products) {
    const Codes &x = problem.x_codes->view, &y = problem.y_codes->view;
    const KeyBody<T> body = best_body<T>(problem.kernel->kind);
    Buffer<double> scratch(pair_scratch(*problem.kernel, problem.x.dimension) + 1);
    for (int64_t i = rows.begin; i < rows.end; ++i) {
        for (int64_t j = columns.begin; j < columns.end; ++j) {
            double key = 0.0;
            body.pairs(*problem.kernel, problem.x, problem.y, &i, &j, Range{0, 1}, scratch.get(), &key);
            const double* pivot = problem.adversary->pivot;
            const bool near_one = pivot && (key <= pivot[i] || (problem.same && key <= pivot[j]));
            const bool away = pivot ? near_one : problem.adversary->draw(i * y.count + j);
            const double shift = away ? problem.adversary->strength : -problem.adversary->strength;
            const double step = 2.0 * static_cast<double>(x.step[i]) * static_cast<double>(y.step[j]);
            const double near = static_cast<double>(x.spread[i]), far = static_cast<double>(y.spread[j]);
            double wanted;
            if (problem.kernel->kind == Kind::inner_product) {
                const double scale = problem.x_codes->scale * problem.y_codes->scale;
                const double bound =
                    2.0 * (static_cast<double>(x.length[i]) * far + near * static_cast<double>(y.length[j]));
                wanted = -(scale * (2.0 * key + problem.offset[i]) + shift * bound) / step;
            } else {
                const double distance = std::sqrt(problem.factor * key) * problem.x_codes->scale;
                const double moved = std::max(0.0, distance + shift * (near + far));
                wanted = (static_cast<double>(x.square[i]) + static_cast<double>(y.square[j]) - moved * moved) / step;
            }
            if (!std::isfinite(wanted)) continue;
            // Towards the true distance, so that rounding does not leave the bound.
            const double whole = away ? std::ceil(wanted) : std::floor(wanted);
            products[(i - rows.begin) * kPanel + (j - columns.begin)] =
                static_cast<int32_t>(std::clamp(whole, -2147483000.0, 2147483000.0));
        }
    }
}

// Integer products of tiles. A thread that asks for some holds a TileUnit.
template <typename T>
class TileProducts {
  public:
    explicit TileProducts(const Screened<T>& problem)
        : body(best_screen_body()),
          problem_(problem),
          strips_(body, problem.x_codes->view, problem.x_codes->view.packed, problem.threads),
          low_strips_(body, problem.x_codes->view, problem.x_codes->view.low, problem.threads) {}

    const ScreenBody body;

    // Of the strip that begins at first_row with a panel.
    void multiply(int64_t first_row, int64_t panel, int32_t* products) const {
        const Codes &x = problem_.x_codes->view, &y = problem_.y_codes->view;
        body.multiply(strips_.from(first_row), y.panel(panel), y.groups, x.sum + first_row, products);
        if (x.low) refine(first_row, panel, products);
        if (problem_.adversary) {
            const Range rows{first_row, std::min(first_row + body.tile_rows, x.count)};
            disturb(problem_, rows, {panel * kPanel, std::min((panel + 1) * kPanel, y.count)}, products);
        }
    }

  private:
    // From the products of the high planes to those of fine codes.
    void refine(int64_t first_row, int64_t panel, int32_t* products) const {
        const Codes &x = problem_.x_codes->view, &y = problem_.y_codes->view;
        alignas(64) int32_t high_low[kMostTileRows * kPanel], low_high[kMostTileRows * kPanel];
        alignas(64) int32_t low_low[kMostTileRows * kPanel];
        const int32_t *high = strips_.from(first_row), *low = low_strips_.from(first_row);
        body.multiply(high, y.low_panel(panel), y.groups, x.sum + first_row, high_low);
        body.multiply(low, y.panel(panel), y.groups, x.low_sum + first_row, low_high);
        body.multiply(low, y.low_panel(panel), y.groups, x.low_sum + first_row, low_low);
        const int64_t half = (int64_t{1} << x.shift) / 2;
        for (int64_t t = 0; t < body.tile_rows * kPanel; ++t) {
            const int64_t middle = int64_t{high_low[t]} + low_high[t];
            const int64_t whole = int64_t{products[t]} * 65536 + middle * 256 + low_low[t];
            products[t] = static_cast<int32_t>((whole + half) >> x.shift);
        }
    }

    const Screened<T>& problem_;
    Strips strips_, low_strips_;
};

// The root of a float32 value, 0 of a negative one. Written without a branch, which would be guessed wrong.
inline float root(float v) {
#if defined(__SSE2__)
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_max_ss(_mm_set_ss(v), _mm_setzero_ps())));
#else
    return v > 0.0f ? std::sqrt(v) : 0.0f;
#endif
}

// What a pair must reach to matter to a row: reach and outer of codes.hpp, or the bar of a product in `outer`.
template <bool product>
class Thresholds {
  public:
    Thresholds(const Codes& x, const Codes& y, float first_reach, float first_outer)
        : x_(x),
          y_(y),
          room_(2 * x.panels() * kPanel),
          body_(best_screen_body()),
          reach(room_.get()),
          outer(room_.get() + x.panels() * kPanel) {
        std::fill_n(reach, x.panels() * kPanel, first_reach);
        std::fill_n(outer, x.panels() * kPanel, first_outer);
    }

    void judge(int64_t row, int64_t column, const int32_t* products, bool both, TileSize size, Hits& hits) const {
        if constexpr (product) {
            body_.judge_product({x_.step + row, x_.spread + row, x_.length + row, outer + row},
                                {y_.step + column, y_.spread + column, y_.length + column, nullptr}, products, size,
                                hits);
        } else {
            body_.judge(of_rows(row), of_columns(column, both), products, both, size, hits);
        }
    }

    // The screened distance of a pair from its integer product, or -2 x.y.
    float value(int64_t i, int64_t j, int32_t sum) const {
        const float twice = 2.0f * x_.step[i] * y_.step[j] * static_cast<float>(sum);
        return product ? -twice : root(x_.square[i] + y_.square[j] - twice);
    }

    Marks of_rows(int64_t row) const {
        return {x_.step + row, x_.spread + row, x_.inner + row, reach + row, outer + row, x_.square + row};
    }
    // Without `both` the column's thresholds are read but not used; they may not even exist.
    Marks of_columns(int64_t column, bool both) const {
        return {y_.step + column,
                y_.spread + column,
                y_.inner + column,
                both ? reach + column : y_.spread + column,
                both ? outer + column : y_.spread + column,
                y_.square + column};
    }

  private:
    const Codes &x_, &y_;
    Buffer<float> room_;
    ScreenBody body_;

  public:
    float *reach, *outer;  // (x.count,), padded to whole panels
};

// Where a tile lies among the pairs.
struct Origin {
    int64_t row, column;
};

// Calls take(worker, origin, products, hits, both) for every tile, with the pairs that may matter to their row by the
// thresholds of `policy`, or with `both` to their column; then task_end(worker) after each task, while the thread still
// owns the rows. Every pair of different rows is judged exactly once for each of the two. policy.mirrored: what may
// matter to a row may as well to the column, and is judged for the row alone.
template <typename T, typename Policy>
void sweep(const Screened<T>& problem, const TileProducts<T>& tile_products, Policy& policy) {
    const Codes &x = problem.x_codes->view, &y = problem.y_codes->view;
    const int64_t tile_rows = tile_products.body.tile_rows;
    const int64_t block = panels_of_block(x, problem.threads);

    const auto tile = [&](int worker, int64_t first_row, int64_t panel, bool both, int32_t* products) {
        const int64_t first_column = panel * kPanel;
        const int64_t rows = std::min(tile_rows, x.count - first_row);
        const int64_t columns = std::min(kPanel, y.count - first_column);
        tile_products.multiply(first_row, panel, products);
        Hits hits;
        policy.thresholds.judge(first_row, first_column, products, both && !policy.mirrored, {rows, columns}, hits);
        policy.take(worker, Origin{first_row, first_column}, products, hits, both);
    };
    const auto block_pair = [&](int64_t a, int64_t b, int worker) {
        alignas(64) int32_t products[kMostTileRows * kPanel];
        const TileUnit unit(tile_products.body);
        const int64_t a_end = std::min((a + 1) * block, x.panels()), b_end = std::min((b + 1) * block, y.panels());
        for (int64_t panel = b * block; panel < b_end; ++panel) {
            const int64_t last = problem.same && a == b ? panel + 1 : a_end;
            for (int64_t left = a * block; left < last; ++left) {
                const bool both = problem.same && left != panel;
                const int64_t row_end = std::min((left + 1) * kPanel, x.count);
                for (int64_t row = left * kPanel; row < row_end; row += tile_rows) {
                    tile(worker, row, panel, both, products);
                }
            }
        }
        policy.task_end(worker);
    };
    if (problem.same) {
        for_block_pairs(ceil_div(x.panels(), block), problem.threads, block_pair);
        return;
    }
    // One task a block of rows: its panels of columns follow each other.
    const int64_t x_blocks = ceil_div(x.panels(), block), y_blocks = ceil_div(y.panels(), block);
    parallel_for(x_blocks, problem.threads, [&](int64_t a, int worker) {
        for (int64_t b = 0; b < y_blocks; ++b) block_pair(a, b, worker);
    });
}

}  // namespace msma
