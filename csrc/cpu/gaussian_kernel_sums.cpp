// gaussian_kernel_sums and their gradients: with k_ij = exp(-c |x_i - y_j|^2),
//   d/dx_i sum k = sum_j w_ij (x_i - y_j),   d/dy_j sum k = -sum_i w_ij (x_i - y_j),   w_ij = -2 c k_ij.
// A self problem visits i < j and counts each pair twice.
#include <cmath>
#include <cstddef>
#include <vector>

#include "best_body.hpp"
#include "buffer.hpp"
#include "differences.hpp"
#include "msma/reductions.hpp"
#include "packed.hpp"
#include "tiles.hpp"

namespace msma {
namespace {

constexpr Kernel kSquared{Kind::sqeuclidean, 0, nullptr};

// The first column of row r of a tile that counts: all in a cross problem, those right of the diagonal else.
int64_t first_column(const Tile& tile, int64_t r, bool self) { return self && tile.i == tile.j ? r + 1 : 0; }

// keys (rows, columns) of a tile for each tile, then use(tile, worker, keys).
template <typename Use>
void for_key_tiles(const Rows<double>& x, const Rows<double>* y, int64_t step, int threads, const Use& use) {
    const Rows<double>& columns = y ? *y : x;
    const KeyBody<double> key_body = best_body<double>(Kind::sqeuclidean);
    const int workers = worth_starting(x.count * columns.count, x.dimension, threads);
    const int64_t keys_at = block_scratch(kSquared, x.dimension, step), room = padded(keys_at + step * step);
    const Buffer<double> scratch(room * workers);
    const auto body = [&](const Tile& tile, int worker) noexcept {
        double* own = scratch.get() + worker * room;
        tile_keys(key_body, kSquared, x, columns, tile, own, own + keys_at);
        use(tile, own + keys_at);
    };
    if (y) {
        for_cross_tiles(x.count, y->count, step, workers, body);
    } else {
        for_self_tiles(x.count, step, workers, body);
    }
}

}  // namespace

void gaussian_kernel_sums(const Rows<double>& x, const Rows<double>* y, const double* scales, int64_t count,
                          int threads, double* sums) {
    const int64_t step = tile_step(x.dimension), blocks = ceil_div(x.count, step);
    std::vector<double> parts(static_cast<size_t>(blocks * count), 0.0);  // of a tile, kept with its first block
    for_key_tiles(x, y, step, threads, [&](const Tile& tile, const double* keys) noexcept {
        double* part = parts.data() + tile.i * count;
        const int64_t columns = tile.columns.size();
        for (int64_t r = 0; r < tile.rows.size(); ++r, keys += columns) {
            for (int64_t b = 0; b < count; ++b) {
                double sum = 0.0;
                for (int64_t c = first_column(tile, r, !y); c < columns; ++c) sum += std::exp(-scales[b] * keys[c]);
                part[b] += sum;
            }
        }
    });
    for (int64_t b = 0; b < count; ++b) {
        double sum = 0.0;
        for (int64_t block = 0; block < blocks; ++block) sum += parts[static_cast<size_t>(block * count + b)];
        sums[b] = y ? sum : 2.0 * sum;
    }
}

void gaussian_kernel_gradients(const Rows<double>& x, const Rows<double>* y, const double* scales,
                               const double* weights, int64_t count, int threads, double* to_x, double* to_y) {
    const int64_t step = tile_step(x.dimension);
    const AddWeightedDifferences add_differences = best_weighted_differences();
    const Packed left(x, step), left_sum(x.count, x.dimension, step);
    const Packed right(y ? *y : Rows<double>{nullptr, nullptr, 0, x.dimension}, step);
    const Packed right_sum(y ? y->count : 0, x.dimension, step);
    const Packed &columns = y ? right : left, &columns_sum = y ? right_sum : left_sum;
    std::vector<double> factors(static_cast<size_t>(count));
    for (int64_t b = 0; b < count; ++b) factors[static_cast<size_t>(b)] = (y ? -2.0 : -4.0) * scales[b] * weights[b];
    for_key_tiles(x, y, step, threads, [&](const Tile& tile, double* keys) noexcept {
        double* row = keys;  // keys to weights, in place
        for (int64_t r = 0; r < tile.rows.size(); ++r, row += tile.columns.size()) {
            const int64_t first = first_column(tile, r, !y);
            std::fill_n(row, first, 0.0);
            for (int64_t c = first; c < tile.columns.size(); ++c) {
                double weight = 0.0;
                for (int64_t b = 0; b < count; ++b)
                    weight += factors[static_cast<size_t>(b)] * std::exp(-scales[b] * row[c]);
                row[c] = weight;
            }
        }
        add_differences({keys, tile.rows.size(), tile.columns.size(), left.block(tile.i), columns.block(tile.j),
                         left_sum.block(tile.i), columns_sum.block(tile.j), step, left.groups()});
    });
    left_sum.unpack(to_x);
    if (y) right_sum.unpack(to_y);
}

}  // namespace msma
