// count_keys: how many pairs of rows have a key between thresholds. Counts are integers, so every thread keeps
// its own and the order of their sum does not matter.
#include <cstddef>
#include <vector>

#include "best_body.hpp"
#include "buffer.hpp"
#include "msma/reductions.hpp"
#include "tiles.hpp"

namespace msma {
namespace {

// The first place whose threshold lies above the key; `size` where there is none, and for NaN. No branch
// depends on the data.
int64_t place_of(double key, const double* thresholds, int64_t size) {
    const double* base = thresholds;
    while (size > 1) {
        const int64_t half = size / 2;
        base += base[half - 1] > key ? 0 : half;
        size -= half;
    }
    return (base - thresholds) + (*base > key ? 0 : 1);
}

}  // namespace

void count_keys(const Kernel& kernel, const Rows<double>& x, const Rows<double>* y, const PairRule& rule,
                const double* thresholds, int64_t size, int threads, int64_t* counts) {
    const Rows<double>& columns = y ? *y : x;
    const int64_t d = x.dimension, step = tile_step(d);
    const KeyBody<double> key_body = best_body<double>(kernel.kind);
    const int workers = worth_starting(x.count * columns.count, d, threads);
    const int64_t keys_at = block_scratch(kernel, d, step), room = padded(keys_at + step * step);
    const Buffer<double> scratch(room * workers);
    std::vector<std::vector<int64_t>> found(static_cast<size_t>(workers),
                                            std::vector<int64_t>(static_cast<size_t>(size + 1), 0));
    const auto body = [&](const Tile& tile, int worker) noexcept {
        double* own = scratch.get() + worker * room;
        const double* keys = own + keys_at;
        int64_t* places = found[static_cast<size_t>(worker)].data();
        tile_keys(key_body, kernel, x, columns, tile, own, own + keys_at);
        for (int64_t i = tile.rows.begin; i < tile.rows.end; ++i, keys += tile.columns.size()) {
            const int64_t first = y ? tile.columns.begin : std::max(tile.columns.begin, i + 1 + rule.window);
            for (int64_t j = first; j < tile.columns.end; ++j) {
                if (rule.groups && rule.groups[i] == rule.groups[j]) continue;
                ++places[place_of(keys[j - tile.columns.begin], thresholds, size)];
            }
        }
    };
    if (y) {
        for_cross_tiles(x.count, y->count, step, workers, body);
    } else {
        for_self_tiles(x.count, step, workers, body);
    }
    std::fill_n(counts, size + 1, 0);
    for (const std::vector<int64_t>& places : found) {
        for (int64_t b = 0; b <= size; ++b) counts[b] += places[static_cast<size_t>(b)];
    }
}

}  // namespace msma
