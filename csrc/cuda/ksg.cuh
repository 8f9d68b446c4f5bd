// KSG counts (msma/ksg.hpp) of many pairs of samples: the joint neighbours by a queue, then what lies within the
// thresholds that they give. Both sweeps make canonical keys of both samples; a block of the grid's second dimension
// has one pair.
#pragma once

#include "queue.cuh"
#include "tile.cuh"

namespace msma::device {

MSMA_DEVICE Side sample_of(const cuda::KsgBatch& batch, int64_t pair, int which) {
    const int s = batch.pairs[2 * pair + which];
    return Side{batch.samples[s], nullptr, batch.n, batch.widths[s], false};
}

MSMA_DEVICE double largest_of_warp(double value) {
    MSMA_UNROLL
    for (int mask = kWarp / 2; mask > 0; mask /= 2) {
        const double other = shuffle_xor(value, mask);
        value = other > value ? other : value;
    }
    return value;
}

// The thresholds of one query: lane t has those of ks[t].
struct Reach {
    double x, y;
    bool tied;
};

// queue: settled, with batch.k_most + 1 places (warp).
template <Kind kind>
MSMA_DEVICE Reach reach_of(const cuda::KsgBatch& batch, const Side& x, const Side& y, int64_t i, const Queue& queue) {
    Reach reach{0.0, 0.0, false};
    const int k = lane() < batch.k_count ? batch.ks[lane()] : 0;
    if (k > 0) {
        reach.x = reach.y = queue.key(k - 1);
        reach.tied = queue.key(k) == queue.key(k - 1) && queue.id(k) != kNobody;
    }
    if (!batch.closed) return reach;
    double widest_x = -double_of(kEndless), widest_y = widest_x;
    for (int start = 0; start < batch.k_most; start += kWarp) {
        const int place = start + lane();
        const int64_t j = place < batch.k_most ? queue.id(place) : kNobody;
        const double key_x = j == kNobody ? 0.0 : pair_key<kind>(x, i, x, j, 0);
        const double key_y = j == kNobody ? 0.0 : pair_key<kind>(y, i, y, j, 0);
        for (int t = 0; t < batch.k_count; ++t) {
            const int own_k = shuffle(k, t);  // by all lanes, those without a neighbour too
            const bool among = j != kNobody && place < own_k;
            const double most_x = largest_of_warp(among ? key_x : -double_of(kEndless));
            const double most_y = largest_of_warp(among ? key_y : -double_of(kEndless));
            if (lane() == t) {
                widest_x = most_x > widest_x ? most_x : widest_x;
                widest_y = most_y > widest_y ? most_y : widest_y;
            }
        }
    }
    reach.x = widest_x;
    reach.y = widest_y;
    return reach;
}

// n_x, n_y, tied (P, n, K); room = Queue::room(k_most + 1).
template <Kind kind, int kWarps, int kRows>
MSMA_KERNEL ksg_kernel(cuda::KsgBatch batch, int room, int64_t* n_x, int64_t* n_y, uint8_t* tied) {
    constexpr int kQueries = kWarps * kRows;
    const int64_t pair = block_y(), first = static_cast<int64_t>(block_x()) * kQueries, mine = first + warp() * kRows;
    const Side x = sample_of(batch, pair, 0), y = sample_of(batch, pair, 1);
    cuda::Rule rule = batch.rule;
    if (rule.partners != nullptr) rule.partners += pair * batch.partner_stride;
    Shared shared;
    Tile<kind, kWarps, kRows> tile_x(shared), tile_y(shared);
    const Queues memory(shared, kQueries, room);
    Queue queues[kRows];
    const int places = static_cast<int>(batch.k_most) + 1;
    MSMA_UNROLL
    for (int r = 0; r < kRows; ++r) queues[r] = memory.queue(warp() * kRows + r, places);

    double keys_x[kRows], keys_y[kRows];
    for (int64_t point = 0; point < batch.n; point += kWarp) {
        tile_x.keys(x, x, 0, first, point, keys_x);
        tile_y.keys(y, y, 0, first, point, keys_y);
        const int64_t j = point + lane();
        MSMA_UNROLL
        for (int r = 0; r < kRows; ++r) {
            const bool some = mine + r < batch.n && j < batch.n && admissible(rule, mine + r, j);
            queues[r].offer(some, keys_x[r] > keys_y[r] ? keys_x[r] : keys_y[r], j);
        }
    }
    Reach reach[kRows];
    int64_t inside_x[kRows] = {}, inside_y[kRows] = {};
    MSMA_UNROLL
    for (int r = 0; r < kRows; ++r) {
        queues[r].settle();
        reach[r] = mine + r < batch.n ? reach_of<kind>(batch, x, y, mine + r, queues[r]) : Reach{0.0, 0.0, false};
    }
    for (int64_t point = 0; point < batch.n; point += kWarp) {
        tile_x.keys(x, x, 0, first, point, keys_x);
        tile_y.keys(y, y, 0, first, point, keys_y);
        const int64_t j = point + lane();
        MSMA_UNROLL
        for (int r = 0; r < kRows; ++r) {
            const bool some = mine + r < batch.n && j < batch.n && admissible(rule, mine + r, j);
            for (int t = 0; t < batch.k_count; ++t) {
                const double top_x = shuffle(reach[r].x, t), top_y = shuffle(reach[r].y, t);
                const bool in_x = batch.closed ? keys_x[r] <= top_x : keys_x[r] < top_x;
                const bool in_y = batch.closed ? keys_y[r] <= top_y : keys_y[r] < top_y;
                const unsigned who_x = ballot(some && in_x), who_y = ballot(some && in_y);
                if (lane() == t) {
                    inside_x[r] += count_bits(who_x);
                    inside_y[r] += count_bits(who_y);
                }
            }
        }
    }
    MSMA_UNROLL
    for (int r = 0; r < kRows; ++r) {
        if (mine + r >= batch.n || lane() >= batch.k_count) continue;
        const int64_t at = (pair * batch.n + mine + r) * batch.k_count + lane();
        n_x[at] = inside_x[r];
        n_y[at] = inside_y[r];
        tied[at] = reach[r].tied;
    }
}

}  // namespace msma::device
