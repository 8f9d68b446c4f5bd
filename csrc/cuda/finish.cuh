// Canonical keys of listed candidates, and the k least: a warp has a query, and eight lanes two candidates, each lane
// with the coordinates of one accumulator (j mod 8), so that neighbouring lanes read neighbouring numbers and the
// accumulators combine in the canonical order by shuffles. Two candidates share what is read of the query.
#pragma once

#include "keys.cuh"
#include "queue.cuh"

namespace msma::device {

constexpr int kPairs = 2;                           // candidates of eight lanes
constexpr int kAtOnce = kPairs * (kWarp / kLanes);  // of a warp
constexpr int kSteps = 8;                           // coordinates of a lane between two looks at the end

// sums[s] += terms of the query `left` and the candidates right[s], coordinates own, own + 8, ... below d.
template <Kind kind, typename T>
MSMA_DEVICE void gather_rows(const T* left, const T* const (&right)[kPairs], int d, int p, double (&sums)[kPairs]) {
    const auto step = [&](int at) {
        const double x = static_cast<double>(left[at]);
        MSMA_UNROLL
        for (int s = 0; s < kPairs; ++s) sums[s] = gathered<kind>(sums[s], x, static_cast<double>(right[s][at]), p);
    };
    int c = lane() % kLanes;
    for (; c + kLanes * (kSteps - 1) < d; c += kLanes * kSteps) {
        MSMA_UNROLL
        for (int t = 0; t < kSteps; ++t) step(c + kLanes * t);
    }
    for (; c < d; c += kLanes) step(c);
}

// columns (ends[n - 1],), ends (n,), keys and indices (n, k). x begins at first_row.
template <Kind kind, typename T>
MSMA_KERNEL finish_kernel(Side x, Side y, int p, const int64_t* columns, const int64_t* ends, int64_t n,
                          int64_t first_row, int k, int room, double* keys, int64_t* indices) {
    Shared shared;
    const int warps = threads() / kWarp;
    const Queues queues(shared, warps, room);
    const int64_t row = static_cast<int64_t>(block_x()) * warps + warp();
    if (row >= n) return;  // a whole warp, and no barrier of the block follows
    Queue queue = queues.queue(warp(), k);
    const int64_t end = ends[row];
    const T* left = static_cast<const T*>(x.values) + (first_row + row) * x.dimension;
    for (int64_t start = row == 0 ? 0 : ends[row - 1]; start < end; start += kAtOnce) {
        int64_t candidate[kPairs];
        const T* right[kPairs];
        double sums[kPairs] = {};
        MSMA_UNROLL
        for (int s = 0; s < kPairs; ++s) {
            const int64_t at = start + s * (kWarp / kLanes) + lane() / kLanes;
            candidate[s] = columns[at < end ? at : end - 1];  // the last one again: its lanes take part in the shuffles
            right[s] = static_cast<const T*>(y.values) + candidate[s] * y.dimension;
        }
        gather_rows<kind>(left, right, x.dimension, p, sums);
        MSMA_UNROLL
        for (int s = 0; s < kPairs; ++s) {
            MSMA_UNROLL
            for (int mask = kLanes / 2; mask > 0; mask /= 2)
                sums[s] = joined<kind>(sums[s], shuffle_xor(sums[s], mask));
            const double key = finished<kind>(sums[s], x, first_row + row, y, candidate[s]);
            const bool real = start + s * (kWarp / kLanes) + lane() / kLanes < end;
            queue.offer(real && lane() % kLanes == 0, key, candidate[s]);
        }
    }
    queue.settle();
    queue.write(keys + row * k, indices + row * k);
}

}  // namespace msma::device
