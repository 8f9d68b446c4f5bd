// Canonical keys of a tile of pairs: every lane has a point, every warp kRows queries, and coordinates come kDepth at a
// time through shared memory, as float64.
#pragma once

#include "keys.cuh"

namespace msma::device {

template <Kind kind, int kWarps, int kRows>
class Tile {
  public:
    static constexpr int kQueries = kWarps * kRows;  // of a block
    static constexpr int kDepth = 32;

    static constexpr int64_t bytes() { return sizeof(double) * kDepth * (kQueries + kStride); }

    MSMA_DEVICE explicit Tile(Shared& shared)
        : queries_(shared.take<double>(kQueries * kDepth)), points_(shared.take<double>(kDepth * kStride)) {}

    // found[r] = key of query first + kRows warp + r and point `point` + lane; of anything that does not exist any
    // number. All threads of the block call it, with the same arguments.
    MSMA_DEVICE void keys(const Side& x, const Side& y, int p, int64_t first, int64_t point, double (&found)[kRows]) {
        double sums[kRows][kLanes] = {};
        for (int start = 0; start < x.dimension; start += kDepth) {
            sync_block();  // nobody reads what is written now
            if (start > 0 || point == 0 || x.dimension > kDepth) load_queries(x, first, start);
            load_points(y, point, start);
            sync_block();
            const int depth = x.dimension - start < kDepth ? x.dimension - start : kDepth;
            for (int c = 0; c < depth; c += kLanes) gather(c, p, sums);
        }
        MSMA_UNROLL
        for (int r = 0; r < kRows; ++r) {
            const int64_t i = first + kRows * warp() + r, j = point + lane();
            found[r] = i < x.count && j < y.count ? finished<kind>(combined<kind>(sums[r]), x, i, y, j) : 0.0;
        }
    }

  private:
    static constexpr int kStride = kWarp + 1;  // lanes that write a column of points_ do not meet in one bank

    // What does not exist is zero in both, and adds nothing.
    MSMA_DEVICE void load_queries(const Side& x, int64_t first, int start) {
        for (int t = thread(); t < kQueries * kDepth; t += threads()) {
            const int64_t i = first + t / kDepth;
            const int c = start + t % kDepth;
            queries_[t] = i < x.count && c < x.dimension ? x.at(i, c) : 0.0;
        }
    }
    MSMA_DEVICE void load_points(const Side& y, int64_t point, int start) {
        for (int t = thread(); t < kWarp * kDepth; t += threads()) {
            const int64_t j = point + t / kDepth;
            const int c = start + t % kDepth;
            points_[t % kDepth * kStride + t / kDepth] = j < y.count && c < y.dimension ? y.at(j, c) : 0.0;
        }
    }
    MSMA_DEVICE void gather(int c, int p, double (&sums)[kRows][kLanes]) const {
        const double* query = queries_ + warp() * kRows * kDepth + c;
        const double* point = points_ + c * kStride + lane();
        MSMA_UNROLL
        for (int l = 0; l < kLanes; ++l) {
            const double y = point[l * kStride];
            MSMA_UNROLL
            for (int r = 0; r < kRows; ++r) sums[r][l] = gathered<kind>(sums[r][l], query[r * kDepth + l], y, p);
        }
    }

    double* queries_;  // (kQueries, kDepth)
    double* points_;   // (kDepth, kStride)
};

}  // namespace msma::device
