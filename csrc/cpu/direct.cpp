// Every key, where the screen of sketch.hpp does not serve: keys of a tile are computed as in block_keys and looked at
// while they are in the cache.
#include "msma/direct.hpp"

#include <algorithm>

#include "best_body.hpp"
#include "block_pairs.hpp"
#include "buffer.hpp"
#include "nearest.hpp"
#include "sketch_search.hpp"
#include "work.hpp"

namespace msma {
namespace {

// Rows and columns of a tile: the promoted columns and the keys stay in the second-level cache.
constexpr int64_t kRowsOfTile = 64;
// Rows that a thread takes at once where every row is searched by itself.
int64_t rows_of_task(int64_t n, int threads) { return std::clamp<int64_t>(n / (4 * threads), 1, kRowsOfTile); }
int64_t columns_of_tile(int64_t d) { return std::min<int64_t>(panel_rows(d), 256); }

template <typename T>
class Tiles {
  public:
    explicit Tiles(const Direct<T>& problem)
        : problem_(problem),
          body_(best_body<T>(problem.kernel->kind)),
          columns_(columns_of_tile(problem.x.dimension)),
          room_(ceil_div(block_scratch(*problem.kernel, problem.x.dimension, columns_), 8) * 8),
          scratch_(problem.threads * (room_ + kRowsOfTile * columns_)) {}

    int64_t columns() const { return columns_; }

    // keys of `rows` x `columns`, row-major with columns.size() a row.
    const double* keys(Range rows, Range columns, int worker) const {
        double* scratch = scratch_.get() + worker * (room_ + kRowsOfTile * columns_);
        double* out = scratch + room_;
        body_.block(*problem_.kernel, part(problem_.x, rows), part(problem_.y, columns), {0, rows.size()},
                    {0, columns.size()}, scratch, out);
        return out;
    }

  private:
    const Direct<T>& problem_;
    KeyBody<T> body_;
    int64_t columns_, room_;
    Buffer<double> scratch_;
};

// Calls use(worker, rows, columns, keys, both) for tiles that hold every ordered pair once; `both`: the pairs of the
// tile stand for their mirror images too, and the thread owns the rows of both sides. For problems that are not `same`
// end(worker, rows) follows the last tile of a block of rows.
template <typename T, typename Use, typename End>
void for_tiles(const Direct<T>& problem, const Use& use, const End& end) {
    const Tiles<T> tiles(problem);
    const int64_t n = problem.x.count, m = problem.y.count, width = tiles.columns();
    const auto block_pair = [&](Range rows, Range columns, bool both, int worker) {
        for (int64_t c = columns.begin; c < columns.end; c += width) {
            const Range some{c, std::min(c + width, columns.end)};
            for (int64_t r = rows.begin; r < rows.end; r += kRowsOfTile) {
                const Range here{r, std::min(r + kRowsOfTile, rows.end)};
                use(worker, here, some, tiles.keys(here, some, worker), both);
            }
        }
    };
    if (problem.same) {
        const int64_t block = std::clamp<int64_t>(n / (6 * problem.threads), kRowsOfTile, 512);
        for_block_pairs(ceil_div(n, block), problem.threads, [&](int64_t a, int64_t b, int worker) {
            block_pair(nth(a, block, n), nth(b, block, n), a != b, worker);
        });
        return;
    }
    const int64_t block = rows_of_task(n, problem.threads);
    parallel_for(ceil_div(n, block), problem.threads, [&](int64_t a, int worker) {
        const Range rows = nth(a, block, n);
        block_pair(rows, {0, m}, false, worker);
        end(worker, rows);
    });
}

}  // namespace

template <typename T>
void direct_knn(const Direct<T>& given, int64_t k, double* keys, int64_t* indices, int64_t* candidates) {
    if (sketched_knn(given, k, keys, indices, candidates)) return;
    std::fill_n(candidates, given.x.count, -1);
    Direct<T> problem = given;
    // Reservoirs of all rows at once pay where k is small; else a block of rows is finished before the next.
    problem.same = problem.same && 8 * k <= problem.y.count;
    const int64_t n = problem.x.count;
    const int64_t block = rows_of_task(n, problem.threads);
    Nearest nearest(problem.same ? n : block * problem.threads, k);
    const Rules& rules = problem.rules;
    for_tiles(
        problem,
        [&](int worker, Range rows, Range columns, const double* tile, bool both) {
            const int64_t width = columns.size();
            for (int64_t i = rows.begin; i < rows.end; ++i) {
                const double* row = tile + (i - rows.begin) * width;
                const int64_t slot = problem.same ? i : worker * block + i % block;
                const double& radius = nearest.radius[static_cast<size_t>(slot)];
                for (int64_t c = 0; c < width; ++c) {
                    const int64_t j = columns.begin + c;
                    if (!(row[c] > radius) && rules.admit(i, j)) nearest.add(slot, row[c], j);
                    if (both && !(row[c] > nearest.radius[static_cast<size_t>(j)]) && rules.admit(j, i)) {
                        nearest.add(j, row[c], i);
                    }
                }
            }
        },
        [&](int worker, Range rows) {
            for (int64_t i = rows.begin; i < rows.end; ++i) {
                nearest.take(worker * block + i % block, keys + i * k, indices + i * k);
            }
        });
    if (!problem.same) return;
    parallel_for(ceil_div(n, kRowsOfTile), problem.threads, [&](int64_t task, int) {
        const Range rows = nth(task, kRowsOfTile, n);
        for (int64_t i = rows.begin; i < rows.end; ++i) nearest.take(i, keys + i * k, indices + i * k);
    });
}

template <typename T>
void direct_count(const Direct<T>& problem, const double* threshold, int64_t* counts) {
    if (sketched_count(problem, threshold, counts)) return;
    std::fill(counts, counts + problem.x.count, 0);
    const Rules& rules = problem.rules;
    for_tiles(
        problem,
        [&](int, Range rows, Range columns, const double* tile, bool both) {
            const int64_t width = columns.size();
            for (int64_t i = rows.begin; i < rows.end; ++i) {
                const double* row = tile + (i - rows.begin) * width;
                const double limit = threshold[i];
                for (int64_t c = 0; c < width; ++c) {
                    const int64_t j = columns.begin + c;
                    if (row[c] <= limit) counts[i] += rules.admit(i, j);
                    // Only here does the thread own the row j, or has it to exist.
                    if (both && row[c] <= threshold[j]) counts[j] += rules.admit(j, i);
                }
            }
        },
        [](int, Range) {});
}

template void direct_knn(const Direct<float>&, int64_t, double*, int64_t*, int64_t*);
template void direct_knn(const Direct<double>&, int64_t, double*, int64_t*, int64_t*);
template void direct_count(const Direct<float>&, const double*, int64_t*);
template void direct_count(const Direct<double>&, const double*, int64_t*);

}  // namespace msma
