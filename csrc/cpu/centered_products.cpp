// centered_products: what distance correlation and centred kernel alignment need of two (n, n) matrices of
// pair values, in one pass over half of each.
#include <cmath>
#include <cstddef>
#include <vector>

#include "best_body.hpp"
#include "buffer.hpp"
#include "msma/reductions.hpp"
#include "tiles.hpp"

namespace msma {
namespace {

Kernel kernel_of(const Similarity& side) {
    return {side.form == Form::product ? Kind::inner_product : Kind::sqeuclidean, 0, nullptr};
}

// Keys to values, in place.
void to_values(const Similarity& side, int64_t count, double* v) {
    if (side.form == Form::distance) {
        for (int64_t t = 0; t < count; ++t) v[t] = std::sqrt(v[t]) - side.shift;
    } else if (side.form == Form::product) {
        for (int64_t t = 0; t < count; ++t) v[t] = -v[t] - side.shift;
    } else {  // 0 times an infinite scale would be NaN
        for (int64_t t = 0; t < count; ++t) v[t] = (v[t] > 0.0 ? std::exp(-side.scale * v[t]) : 1.0) - side.shift;
    }
}

// rows[r] += the sum of row r of v (rows, columns).
void add_rows(const double* v, int64_t row_count, int64_t column_count, double* rows) {
    for (int64_t r = 0; r < row_count; ++r, v += column_count) {
        double sum = 0.0;
        for (int64_t c = 0; c < column_count; ++c) sum += v[c];
        rows[r] += sum;
    }
}

// columns[c] += the sum of column c of v (rows, columns).
void add_columns(const double* v, int64_t row_count, int64_t column_count, double* columns) {
    for (int64_t r = 0; r < row_count; ++r, v += column_count) {
        for (int64_t c = 0; c < column_count; ++c) columns[c] += v[c];
    }
}

}  // namespace

void centered_products(const Rows<double>& x, const Similarity& a, const Rows<double>& y, const Similarity& b,
                       int threads, double* sums, double* rows_a, double* rows_b) {
    const int64_t n = x.count, d = std::max(x.dimension, y.dimension), step = tile_step(d);
    const Kernel kernel_a = kernel_of(a), kernel_b = kernel_of(b);
    const KeyBody<double> body_a = best_body<double>(kernel_a.kind), body_b = best_body<double>(kernel_b.kind);
    const int workers = worth_starting(n * n, x.dimension + y.dimension, threads);
    const int64_t a_at = block_scratch(kernel_a, d, step), b_at = a_at + step * step;
    const int64_t room = padded(b_at + step * step), blocks = ceil_div(n, step);
    const Buffer<double> scratch(room * workers);
    std::vector<double> parts(static_cast<size_t>(3 * blocks), 0.0);  // of a tile, kept with its first block
    std::fill_n(rows_a, n, 0.0);
    std::fill_n(rows_b, n, 0.0);
    for_self_tiles(n, step, workers, [&](const Tile& tile, int worker) noexcept {
        double* own = scratch.get() + worker * room;
        double *u = own + a_at, *v = own + b_at;
        const int64_t rows = tile.rows.size(), columns = tile.columns.size();
        tile_keys(body_a, kernel_a, x, x, tile, own, u);
        tile_keys(body_b, kernel_b, y, y, tile, own, v);
        to_values(a, rows * columns, u);
        to_values(b, rows * columns, v);
        add_rows(u, rows, columns, rows_a + tile.rows.begin);
        add_rows(v, rows, columns, rows_b + tile.rows.begin);
        const bool diagonal = tile.i == tile.j;
        if (!diagonal) {
            add_columns(u, rows, columns, rows_a + tile.columns.begin);
            add_columns(v, rows, columns, rows_b + tile.columns.begin);
        }
        double ab = 0.0, aa = 0.0, bb = 0.0;
        for (int64_t t = 0; t < rows * columns; ++t) {
            ab += u[t] * v[t];
            aa += u[t] * u[t];
            bb += v[t] * v[t];
        }
        const double times = diagonal ? 1.0 : 2.0;
        double* part = parts.data() + 3 * tile.i;
        part[0] += times * ab;
        part[1] += times * aa;
        part[2] += times * bb;
    });
    for (int64_t k = 0; k < 3; ++k) {
        sums[k] = 0.0;
        for (int64_t block = 0; block < blocks; ++block) sums[k] += parts[static_cast<size_t>(3 * block + k)];
    }
}

}  // namespace msma
