// The collect pass of the certified k-nearest-neighbour search: which points may be below a query's bound
// (msma/cuda.hpp).
//
//     lower_ij = c_j - 2 b_i.b_j - near_i near_j - far_i far_j,   a point is kept unless lower_ij > top_i
//
// Products by tensor cores, bfloat16 with float32 sums: a block has 128 queries and walks over a share of the points by
// 128, a warp has 64 x 64 of these. Coordinates come 32 at a time through four buffers, copied ahead across tiles. Of a
// tile nothing is written: a vote tells whether any of eight rows keeps any of 32 points, which is seldom, and only
// then bits are gathered.
#pragma once

#include "keys.cuh"

namespace msma::device {

constexpr int kTile = 128;        // queries, and points
constexpr int kDepth = 32;        // coordinates of a step
constexpr int kStages = 4;        // buffers
constexpr int kCollectWarps = 4;  // two by two
constexpr int kChunk = 8;         // bfloat16 of a 16-byte copy
constexpr int kRowChunks = kDepth / kChunk;

// Two adjacent numbers, in one load.
struct alignas(8) Two {
    float first, second;
};

struct CollectProblem {
    const uint16_t *b, *p;              // (N, width) and (M, width) bfloat16
    const float *near_i, *far_i, *top;  // (N,)
    const Two *c, *near_j, *far_j;      // (M,) floats
    cuda::Rule rule;
    int width;
    int64_t points;  // M
    int64_t share;   // of a block, a multiple of kTile
    int64_t limit;
    int64_t* listed;  // (N, limit)
    float* low;
    int32_t* count;
};

// What an epilogue needs of a query, in one load.
struct alignas(16) QueryBounds {
    float minus_near, minus_far, top, unused;
};

constexpr int64_t collect_shared() {
    return int64_t{kStages} * 2 * kTile * kDepth * sizeof(uint16_t) + kTile * sizeof(QueryBounds);
}

// Where chunk `chunk` of row `row` lies in a buffer: eight rows that load_tiles reads at once, and the eight that
// copies write, lie in different banks. Rows that are a multiple of 8 apart are so many rows apart.
MSMA_DEVICE int place_in_tile(int row, int chunk) { return (row * kRowChunks + (chunk ^ ((row >> 1) & 3))) * kChunk; }

// Rows first.. of both sides, coordinates start.., into a buffer of 2 x kTile rows.
MSMA_DEVICE void copy_step(uint16_t* buffer, const CollectProblem& problem, int64_t query, int64_t point, int start) {
    const int row = thread() / kRowChunks, chunk = thread() % kRowChunks;
    constexpr int kRowsAtOnce = kCollectWarps * kWarp / kRowChunks;
    const uint16_t* from = problem.b + (query + row) * problem.width + start + chunk * kChunk;
    const uint16_t* from_points = problem.p + (point + row) * problem.width + start + chunk * kChunk;
    const int64_t step = static_cast<int64_t>(kRowsAtOnce) * problem.width;
    uint16_t* to = buffer + place_in_tile(row, chunk);
    MSMA_UNROLL
    for (int r = 0; r < kTile; r += kRowsAtOnce) {
        copy_16(to + r * kDepth, from);
        copy_16(to + (kTile + r) * kDepth, from_points);
        from += step;
        from_points += step;
    }
}

// Where a lane's rows of the warp's fragments begin in a buffer, for either half of a step's coordinates.
struct Fragments {
    int queries[2], points[2];

    MSMA_DEVICE Fragments(int warp_row, int warp_column) {
        const int matrix = lane() / 8, row = lane() % 8;
        MSMA_UNROLL
        for (int half = 0; half < 2; ++half) {
            queries[half] = place_in_tile(warp_row + 8 * (matrix & 1) + row, 2 * half + matrix / 2);
            points[half] = place_in_tile(kTile + warp_column + 8 * (matrix / 2) + row, 2 * half + (matrix & 1));
        }
    }
};

// sums[m][n] += products of 16 x 8 tiles (m, n) of the warp's 64 x 64, over kDepth coordinates.
MSMA_DEVICE void multiply_step(const uint16_t* buffer, const Fragments& at, float (&sums)[4][8][4]) {
    MSMA_UNROLL
    for (int half = 0; half < 2; ++half) {
        uint32_t a[4][4];
        MSMA_UNROLL
        for (int m = 0; m < 4; ++m) load_tiles(a[m], buffer + at.queries[half] + 16 * m * kDepth);
        MSMA_UNROLL
        for (int n = 0; n < 8; n += 2) {
            uint32_t two[4];
            load_tiles(two, buffer + at.points[half] + 8 * n * kDepth);
            const uint32_t left[2] = {two[0], two[1]}, right[2] = {two[2], two[3]};
            MSMA_UNROLL
            for (int m = 0; m < 4; ++m) {
                multiply_add(sums[m][n], a[m], left);
                multiply_add(sums[m][n + 1], a[m], right);
            }
        }
    }
}

// The bits of columns own - window .. own + window in the word of 32 columns from `first` on.
MSMA_DEVICE unsigned own_bits(int64_t own, int window, int64_t first) {
    const int64_t from = own - window - first, to = own + window - first;
    if (from >= kWarp || to < 0) return 0;
    const unsigned since = ~0u << (from > 0 ? static_cast<int>(from) : 0);
    return to >= kWarp - 1 ? since : since & ((2u << static_cast<int>(to)) - 1u);
}

// Lists a word for each of eight rows that keep a point: lane 4 g + t has row g and of the word the columns 8 n + 2 t
// and 8 n + 2 t + 1, lower bounds in lower[2 n] and lower[2 n + 1], the least of them in `low` (warp).
template <bool kLabels>
MSMA_DEVICE void list_words(const CollectProblem& problem, int64_t row, int64_t first, float top, float low,
                            const float (&lower)[8]) {
    const int shift = 2 * (lane() % 4);
    unsigned word = 0;
    MSMA_UNROLL
    for (int e = 0; e < 8; ++e) {
        if (!(lower[e] > top)) word |= 1u << (8 * (e / 2) + e % 2);
    }
    word <<= shift;
    unsigned excluded = problem.rule.own == nullptr ? 0 : own_bits(problem.rule.own[row], problem.rule.window, first);
    if constexpr (kLabels) {
        const int32_t label = problem.rule.labels[row];
        MSMA_UNROLL
        for (int e = 0; e < 8; ++e) {
            const int column = 8 * (e / 2) + e % 2 + shift;
            if (problem.rule.point_labels[first + column] == label) excluded |= 1u << column;
        }
    }
    if ((word & excluded) != 0) low = -static_cast<float>(double_of(kEndless));  // it may be one of theirs
    word &= ~excluded;
    MSMA_UNROLL
    for (int mask = 1; mask <= 2; mask *= 2) {
        word |= shuffle_xor(word, mask);
        low = smaller(low, shuffle_xor(low, mask));
    }
    if (shift != 0 || word == 0) return;
    const int64_t place = atomic_add(&problem.count[row], 1);
    if (place >= problem.limit) return;
    problem.listed[row * problem.limit + place] = static_cast<int64_t>(word) << 32 | (first / kWarp);
    problem.low[row * problem.limit + place] = low;
}

// Who of the warp's 64 queries keeps whom of its 64 points.
template <bool kLabels>
MSMA_DEVICE void keep(const CollectProblem& problem, const QueryBounds* bounds, int64_t query, int64_t point,
                      int warp_row, int warp_column, const float (&sums)[4][8][4]) {
    MSMA_UNROLL
    for (int half = 0; half < 2; ++half) {
        const int64_t first = point + warp_column + kWarp * half;  // of the word
        Two c[4], near[4], far[4];
        MSMA_UNROLL
        for (int n = 0; n < 4; ++n) {
            const int64_t two = first / 2 + 4 * n + lane() % 4;
            c[n] = problem.c[two];
            near[n] = problem.near_j[two];
            far[n] = problem.far_j[two];
        }
        MSMA_UNROLL
        for (int m = 0; m < 4; ++m) {
            MSMA_UNROLL
            for (int s = 0; s < 2; ++s) {
                const int row = warp_row + 16 * m + 8 * s + lane() / 4;
                const QueryBounds own = bounds[row];
                float lower[8], low;
                MSMA_UNROLL
                for (int e = 0; e < 8; ++e) {
                    const int n = e / 2;
                    const float product = sums[m][4 * half + n][2 * s + e % 2];
                    const float start = fused(-2.0f, product, e % 2 ? c[n].second : c[n].first);
                    const float less = fused(own.minus_near, e % 2 ? near[n].second : near[n].first, start);
                    lower[e] = fused(own.minus_far, e % 2 ? far[n].second : far[n].first, less);
                    low = e == 0 ? lower[e] : smaller(low, lower[e]);
                }
                if (ballot(!(low > own.top)) != 0) {  // a NaN is kept
                    list_words<kLabels>(problem, query + row, first, own.top, low, lower);
                }
            }
        }
    }
}

template <bool kLabels>
MSMA_KERNEL collect_kernel(CollectProblem problem) {
    Shared shared;
    uint16_t* buffers = shared.take<uint16_t>(kStages * 2 * kTile * kDepth);
    QueryBounds* bounds = shared.take<QueryBounds>(kTile);
    const int64_t query = static_cast<int64_t>(block_x()) * kTile;
    const int64_t first = block_y() * problem.share;
    const int64_t last = first + problem.share < problem.points ? first + problem.share : problem.points;
    const int warp_row = 64 * (warp() / 2), warp_column = 64 * (warp() % 2);
    const Fragments fragments(warp_row, warp_column);
    for (int t = thread(); t < kTile; t += threads()) {
        bounds[t] = QueryBounds{-problem.near_i[query + t], -problem.far_i[query + t], problem.top[query + t], 0.0f};
    }
    // Where the next copy is.
    int64_t ahead = first;
    int ahead_start = 0, into = 0, from = 0;
    auto copy_next = [&]() {
        if (ahead < last) copy_step(buffers + into * 2 * kTile * kDepth, problem, query, ahead, ahead_start);
        commit_copies();
        into = into + 1 == kStages ? 0 : into + 1;
        ahead_start += kDepth;
        if (ahead_start == problem.width) {
            ahead_start = 0;
            ahead += kTile;
        }
    };
    for (int stage = 0; stage < kStages - 1; ++stage) copy_next();
    for (int64_t point = first; point < last; point += kTile) {
        float sums[4][8][4] = {};
        for (int start = 0; start < problem.width; start += kDepth) {
            wait_copies<kStages - 2>();
            sync_block();  // what others copied is there, and nobody reads the buffer that is copied into next
            copy_next();
            multiply_step(buffers + from * 2 * kTile * kDepth, fragments, sums);
            from = from + 1 == kStages ? 0 : from + 1;
        }
        keep<kLabels>(problem, bounds, query, point, warp_row, warp_column, sums);
    }
    wait_copies<0>();
}

}  // namespace msma::device
