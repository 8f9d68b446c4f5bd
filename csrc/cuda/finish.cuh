// Canonical keys of listed candidates, and the k least: a warp has a query, and eight lanes a candidate, each with the
// coordinates of one accumulator (j mod 8), so that neighbouring lanes read neighbouring numbers and the accumulators
// combine in the canonical order by shuffles.
#pragma once

#include "keys.cuh"
#include "queue.cuh"

namespace msma::device {

constexpr int kAtOnce = kWarp / kLanes;  // candidates

// The key of the pair (i, j), in every lane of the eight; j differs between the groups of eight lanes (warp).
template <Kind kind>
MSMA_DEVICE double key_by_eight(const Side& x, int64_t i, const Side& y, int64_t j, int p) {
    const int own = lane() % kLanes;
    double sum = 0.0;
    for (int c = own; c < x.dimension; c += kLanes) sum = gathered<kind>(sum, x.at(i, c), y.at(j, c), p);
    MSMA_UNROLL
    for (int mask = kLanes / 2; mask > 0; mask /= 2) sum = joined<kind>(sum, shuffle_xor(sum, mask));
    return finished<kind>(sum, x, i, y, j);
}

// columns (ends[n - 1],), ends (n,), keys and indices (n, k). x begins at first_row.
template <Kind kind>
MSMA_KERNEL finish_kernel(Side x, Side y, int p, const int64_t* columns, const int64_t* ends, int64_t n,
                          int64_t first_row, int k, int room, double* keys, int64_t* indices) {
    Shared shared;
    const int warps = threads() / kWarp;
    double* queue_keys = shared.take<double>(warps * room) + warp() * room;
    int64_t* queue_ids = shared.take<int64_t>(warps * room) + warp() * room;
    const int64_t row = static_cast<int64_t>(block_x()) * warps + warp();
    if (row >= n) return;  // a whole warp, and no barrier of the block follows
    Queue queue(queue_keys, queue_ids, room, k);
    const int64_t end = ends[row];
    for (int64_t start = row == 0 ? 0 : ends[row - 1]; start < end; start += kAtOnce) {
        const int64_t at = start + lane() / kLanes;
        const int64_t j = columns[at < end ? at : end - 1];  // the last one again: its lanes take part in the shuffles
        const double key = key_by_eight<kind>(x, first_row + row, y, j, p);
        queue.offer(at < end && lane() % kLanes == 0, key, j);
    }
    queue.settle();
    queue.write(keys + row * k, indices + row * k);
}

}  // namespace msma::device
