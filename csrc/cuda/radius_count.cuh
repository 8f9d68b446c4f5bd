// Admissible points whose canonical key is at most a threshold, for up to 32 thresholds a query: votes of a warp,
// counted.
#pragma once

#include "tile.cuh"

namespace msma::device {

// thresholds (n, radii), counts (n, radii).
template <Kind kind, int kWarps, int kRows>
MSMA_KERNEL radius_count_kernel(Side x, Side y, int p, cuda::Rule rule, const double* thresholds, int radii,
                                int64_t* counts) {
    Shared shared;
    Tile<kind, kWarps, kRows> tile(shared);
    const int64_t first = static_cast<int64_t>(block_x()) * kWarps * kRows, mine = first + warp() * kRows;
    double reach[kRows];  // lane t has the threshold t and its count
    int64_t inside[kRows] = {};
    MSMA_UNROLL
    for (int r = 0; r < kRows; ++r) {
        reach[r] = lane() < radii && mine + r < x.count ? thresholds[(mine + r) * radii + lane()] : 0.0;
    }
    for (int64_t point = 0; point < y.count; point += kWarp) {
        double found[kRows];
        tile.keys(x, y, p, first, point, found);
        const int64_t j = point + lane();
        MSMA_UNROLL
        for (int r = 0; r < kRows; ++r) {
            const bool some = mine + r < x.count && j < y.count && admissible(rule, mine + r, j);
            for (int t = 0; t < radii; ++t) {
                const double top = shuffle(reach[r], t);  // by all lanes, those without a pair too
                const unsigned within = ballot(some && found[r] <= top);
                if (lane() == t) inside[r] += count_bits(within);
            }
        }
    }
    MSMA_UNROLL
    for (int r = 0; r < kRows; ++r) {
        if (lane() < radii && mine + r < x.count) counts[(mine + r) * radii + lane()] = inside[r];
    }
}

}  // namespace msma::device
