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

struct CollectProblem {
    const uint16_t *b, *p;              // (N, width) and (M, width) bfloat16
    const float *near_i, *far_i, *top;  // (N,)
    const float *c, *near_j, *far_j;    // (M,)
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
// copies write, lie in different banks.
MSMA_DEVICE int place_in_tile(int row, int chunk) { return (row * kRowChunks + (chunk ^ ((row >> 1) & 3))) * kChunk; }

// Rows first.. of both sides, coordinates start.., into a buffer of 2 x kTile rows.
MSMA_DEVICE void copy_step(uint16_t* buffer, const CollectProblem& problem, int64_t query, int64_t point, int start) {
    const int row = thread() / kRowChunks, chunk = thread() % kRowChunks;
    constexpr int kRowsAtOnce = kCollectWarps * kWarp / kRowChunks;
    const uint16_t* from = problem.b + (query + row) * problem.width + start + chunk * kChunk;
    const uint16_t* from_points = problem.p + (point + row) * problem.width + start + chunk * kChunk;
    const int64_t step = static_cast<int64_t>(kRowsAtOnce) * problem.width;
    MSMA_UNROLL
    for (int r = 0; r < kTile; r += kRowsAtOnce) {
        const int to = place_in_tile(row + r, chunk);
        copy_16(buffer + to, from);
        copy_16(buffer + kTile * kDepth + to, from_points);
        from += step;
        from_points += step;
    }
}

// sums[m][n] += products of 16 x 8 tiles (m, n) of the warp's 64 x 64, over kDepth coordinates.
MSMA_DEVICE void multiply_step(const uint16_t* buffer, int warp_row, int warp_column, float (&sums)[4][8][4]) {
    const int matrix = lane() / 8, row = lane() % 8;
    const uint16_t* points = buffer + kTile * kDepth;
    MSMA_UNROLL
    for (int half = 0; half < kDepth / 16; ++half) {
        uint32_t a[4][4];
        MSMA_UNROLL
        for (int m = 0; m < 4; ++m) {
            load_tiles(a[m], buffer + place_in_tile(warp_row + 16 * m + 8 * (matrix & 1) + row, 2 * half + matrix / 2));
        }
        MSMA_UNROLL
        for (int n = 0; n < 8; n += 2) {
            uint32_t two[4];
            load_tiles(two,
                       points + place_in_tile(warp_column + 8 * n + 8 * (matrix / 2) + row, 2 * half + (matrix & 1)));
            const uint32_t left[2] = {two[0], two[1]}, right[2] = {two[2], two[3]};
            MSMA_UNROLL
            for (int m = 0; m < 4; ++m) {
                multiply_add(sums[m][n], a[m], left);
                multiply_add(sums[m][n + 1], a[m], right);
            }
        }
    }
}

// Lists a word for each of eight rows that keep a point: lane 4 g + t has row g and of the word the columns 8 n + 2 t
// and 8 n + 2 t + 1, lower bounds in lower[2 n] and lower[2 n + 1] (warp).
MSMA_DEVICE void list_words(const CollectProblem& problem, int64_t row, int64_t first, float top,
                                   const float (&lower)[8]) {
    unsigned word = 0;
    float low = static_cast<float>(double_of(kEndless));
    for (int e = 0; e < 8; ++e) {
        const int column = 8 * (e / 2) + 2 * (lane() % 4) + e % 2;
        if (lower[e] > top || !admissible(problem.rule, row, first + column)) continue;
        word |= 1u << column;
        const float bound = lower[e] == lower[e] ? lower[e] : -static_cast<float>(double_of(kEndless));
        low = bound < low ? bound : low;
    }
    MSMA_UNROLL
    for (int mask = 1; mask <= 2; mask *= 2) {
        word |= shuffle_xor(word, mask);
        const float other = shuffle_xor(low, mask);
        low = other < low ? other : low;
    }
    if (lane() % 4 != 0 || word == 0) return;
    const int64_t place = atomic_add(&problem.count[row], 1);
    if (place >= problem.limit) return;
    problem.listed[row * problem.limit + place] = static_cast<int64_t>(word) << 32 | (first / kWarp);
    problem.low[row * problem.limit + place] = low;
}

// Who of the warp's 64 queries keeps whom of its 64 points.
MSMA_DEVICE void keep(const CollectProblem& problem, const QueryBounds* bounds, int64_t query, int64_t point,
                      int warp_row, int warp_column, const float (&sums)[4][8][4]) {
    MSMA_UNROLL
    for (int half = 0; half < 2; ++half) {
        const int64_t first = point + warp_column + kWarp * half;  // of the word
        float c[8], near[8], far[8];
        MSMA_UNROLL
        for (int e = 0; e < 8; ++e) {
            const int64_t j = first + 8 * (e / 2) + 2 * (lane() % 4) + e % 2;
            c[e] = problem.c[j];
            near[e] = problem.near_j[j];
            far[e] = problem.far_j[j];
        }
        MSMA_UNROLL
        for (int m = 0; m < 4; ++m) {
            MSMA_UNROLL
            for (int s = 0; s < 2; ++s) {
                const int row = warp_row + 16 * m + 8 * s + lane() / 4;
                const QueryBounds own = bounds[row];
                float lower[8];
                bool kept = false;
                MSMA_UNROLL
                for (int e = 0; e < 8; ++e) {
                    const float product = sums[m][4 * half + e / 2][2 * s + e % 2];
                    lower[e] = fused(own.minus_near, near[e], fused(-2.0f, product, c[e]));
                    lower[e] = fused(own.minus_far, far[e], lower[e]);
                    kept = kept || !(lower[e] > own.top);  // a NaN is kept
                }
                if (ballot(kept) != 0) list_words(problem, query + row, first, own.top, lower);
            }
        }
    }
}

MSMA_KERNEL collect_kernel(CollectProblem problem) {
    Shared shared;
    uint16_t* buffers = shared.take<uint16_t>(kStages * 2 * kTile * kDepth);
    QueryBounds* bounds = shared.take<QueryBounds>(kTile);
    const int64_t query = static_cast<int64_t>(block_x()) * kTile;
    const int64_t first = block_y() * problem.share;
    const int64_t last = first + problem.share < problem.points ? first + problem.share : problem.points;
    const int warp_row = 64 * (warp() / 2), warp_column = 64 * (warp() % 2);
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
            multiply_step(buffers + from * 2 * kTile * kDepth, warp_row, warp_column, sums);
            from = from + 1 == kStages ? 0 : from + 1;
        }
        keep(problem, bounds, query, point, warp_row, warp_column, sums);
    }
    wait_copies<0>();
}

}  // namespace msma::device
