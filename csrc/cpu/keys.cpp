// Cuts the work into tasks that fit the second-level cache.
#include "msma/keys.hpp"

#include <algorithm>

#include "best_body.hpp"
#include "body.hpp"
#include "buffer.hpp"
#include "parallel.hpp"
#include "work.hpp"

namespace msma {
namespace {

// Rows of x in one task of block_keys: some 500 microseconds of work, so that threads end together.
constexpr int64_t kTaskCost = int64_t{1} << 22;
int64_t rows_of_task(int64_t columns, int64_t cost) {
    return std::clamp<int64_t>(kTaskCost / (columns * cost), 4, 128);
}

}  // namespace

template <typename T>
void pair_keys(const Kernel& kernel, const Rows<T>& x, const Rows<T>& y, const int64_t* i, const int64_t* j,
               int64_t pairs, int threads, double* keys) {
    const KeyBody<T> body = best_body<T>(kernel.kind);
    const PaddedKernel whole(kernel, x.dimension);
    const int64_t cost = cost_of_pair(kernel, x.dimension);
    const int64_t step = std::max(kGroup, kThreadCost / cost);
    const int workers = worth_starting(pairs, cost, threads);
    const int64_t room = pair_scratch(kernel, x.dimension);
    const Buffer<double> scratch(room * workers);
    parallel_for(ceil_div(pairs, step), workers, [&](int64_t task, int worker) {
        body.pairs(whole.get(), x, y, i, j, nth(task, step, pairs), scratch.get() + worker * room, keys);
    });
}

template <typename T>
void block_keys(const Kernel& kernel, const Rows<T>& x, const Rows<T>& y, int threads, double* keys) {
    if (x.count == 0 || y.count == 0) return;
    const KeyBody<T> body = best_body<T>(kernel.kind);
    const PaddedKernel whole(kernel, x.dimension);
    const int64_t columns = std::min(y.count, std::clamp<int64_t>(kPanelDoubles / padded(x.dimension), 16, 512));
    const int64_t cost = cost_of_pair(kernel, x.dimension);
    const int64_t band = rows_of_task(columns, cost);
    const int workers = worth_starting(x.count * y.count, cost, threads);
    const int64_t panels = ceil_div(y.count, columns), bands = ceil_div(x.count, band);
    const int64_t room = block_scratch(kernel, x.dimension, columns);
    const Buffer<double> scratch(room * workers);
    parallel_for(panels * bands, workers, [&](int64_t task, int worker) {
        body.block(whole.get(), x, y, nth(task / panels, band, x.count), nth(task % panels, columns, y.count),
                   scratch.get() + worker * room, keys);
    });
}

template void pair_keys(const Kernel&, const Rows<float>&, const Rows<float>&, const int64_t*, const int64_t*, int64_t,
                        int, double*);
template void pair_keys(const Kernel&, const Rows<double>&, const Rows<double>&, const int64_t*, const int64_t*,
                        int64_t, int, double*);
template void block_keys(const Kernel&, const Rows<float>&, const Rows<float>&, int, double*);
template void block_keys(const Kernel&, const Rows<double>&, const Rows<double>&, int, double*);

}  // namespace msma
