// stress: with a = |x_i - x_j| and b = |y_i - y_j|, the sum over i < j of (a - b)^2. Its gradient is
//   d/dx_i = sum_j 2 (a - b) / a (x_i - x_j),   d/dy_i = sum_j 2 (b - a) / b (y_i - y_j),
// taken in the same pass, while both distances are at hand; a pair at distance zero pulls nothing.
#include <cmath>
#include <cstddef>
#include <optional>
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

// The gradient of one side, where it is wanted.
struct Side {
    Side(const Rows<double>& rows, int64_t step) : values(rows, step), sum(rows.count, rows.dimension, step) {}
    Packed values, sum;

    void add(AddWeightedDifferences add_differences, const double* weights, const Tile& tile) const noexcept {
        add_differences({weights, tile.rows.size(), tile.columns.size(), values.block(tile.i), values.block(tile.j),
                         sum.block(tile.i), sum.block(tile.j), values.step(), values.groups()});
    }
};

}  // namespace

double stress(const Rows<double>& x, const Rows<double>& y, int threads, double* to_x, double* to_y) {
    const int64_t n = x.count, d = std::max(x.dimension, y.dimension), step = tile_step(d);
    const KeyBody<double> key_body = best_body<double>(Kind::sqeuclidean);
    const AddWeightedDifferences add_differences = best_weighted_differences();
    const int workers = worth_starting(n * n, x.dimension + y.dimension, threads);
    const int64_t a_at = block_scratch(kSquared, d, step), b_at = a_at + step * step;
    const int64_t room = padded(b_at + step * step), blocks = ceil_div(n, step);
    const Buffer<double> scratch(room * workers);
    std::vector<double> parts(static_cast<size_t>(blocks), 0.0);  // of a tile, kept with its first block
    std::optional<Side> left, right;
    if (to_x) left.emplace(x, step);
    if (to_y) right.emplace(y, step);
    for_self_tiles(n, step, workers, [&](const Tile& tile, int worker) noexcept {
        double* own = scratch.get() + worker * room;
        double *u = own + a_at, *v = own + b_at;  // keys, then the weights of both gradients
        tile_keys(key_body, kSquared, x, x, tile, own, u);
        tile_keys(key_body, kSquared, y, y, tile, own, v);
        const int64_t columns = tile.columns.size();
        for (int64_t r = 0; r < tile.rows.size(); ++r, u += columns, v += columns) {
            const int64_t first = tile.i == tile.j ? r + 1 : 0;
            std::fill_n(u, first, 0.0);
            std::fill_n(v, first, 0.0);
            double sum = 0.0;
            for (int64_t c = first; c < columns; ++c) {
                const double a = std::sqrt(u[c]), b = std::sqrt(v[c]), off = a - b;
                sum += off * off;
                u[c] = a > 0.0 ? 2.0 * off / a : 0.0;
                v[c] = b > 0.0 ? -2.0 * off / b : 0.0;
            }
            parts[static_cast<size_t>(tile.i)] += sum;
        }
        if (left) left->add(add_differences, own + a_at, tile);
        if (right) right->add(add_differences, own + b_at, tile);
    });
    if (left) left->sum.unpack(to_x);
    if (right) right->sum.unpack(to_y);
    double total = 0.0;
    for (const double part : parts) total += part;
    return total;
}

}  // namespace msma
