// k nearest neighbours by canonical keys alone: for metrics that are no products of rows, and few coordinates.
// Every warp has kRows queries and a queue for each; points come by 32, one a lane.
#pragma once

#include "queue.cuh"
#include "tile.cuh"

namespace msma::device {

// keys (n, k), indices (n, k); room = Queue::room(k).
template <Kind kind, int kWarps, int kRows>
MSMA_KERNEL knn_kernel(Side x, Side y, int p, cuda::Rule rule, int k, int room, double* keys, int64_t* indices) {
    constexpr int kQueries = kWarps * kRows;
    Shared shared;
    Tile<kind, kWarps, kRows> tile(shared);
    const Queues memory(shared, kQueries, room);
    Queue queues[kRows];
    MSMA_UNROLL
    for (int r = 0; r < kRows; ++r) queues[r] = memory.queue(warp() * kRows + r, k);
    const int64_t first = static_cast<int64_t>(block_x()) * kQueries, mine = first + warp() * kRows;
    for (int64_t point = 0; point < y.count; point += kWarp) {
        double found[kRows];
        tile.keys(x, y, p, first, point, found);
        const int64_t j = point + lane();
        MSMA_UNROLL
        for (int r = 0; r < kRows; ++r) {
            const bool some = mine + r < x.count && j < y.count && admissible(rule, mine + r, j);
            queues[r].offer(some, found[r], j);
        }
    }
    MSMA_UNROLL
    for (int r = 0; r < kRows; ++r) {
        if (mine + r >= x.count) continue;
        queues[r].settle();
        queues[r].write(keys + (mine + r) * k, indices + (mine + r) * k);
    }
}

}  // namespace msma::device
