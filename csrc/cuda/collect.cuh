// The collect pass of the certified k-nearest-neighbour search: which points may be below a query's bound
// (msma/cuda.hpp).
//
//     g_ij = c_j - 2 b_i.b_j;   point j of word w is kept unless g_ij > edge_iw = top_i + near_i near_w + far_i far_w
//
// near_w and far_w are the largest of the word's 32 points, so that a margin costs nothing for an entry and a word's
// least lower bound is its least g less the margin. Products by tensor cores, bfloat16 with float32 sums: a block has
// 128 queries and walks over a share of the points by 128, a warp has 64 x 64 of these. Coordinates come 64 at a time
// through two buffers, copied ahead across tiles. Of a tile nothing is written: a vote tells whether any of eight rows
// keeps any of 32 points, and only then their bits are gathered.
#pragma once

#include "keys.cuh"

namespace msma::device {

constexpr int kTile = 128;        // queries, and points
constexpr int kDepth = 64;        // coordinates of a step
constexpr int kStages = 2;        // buffers
constexpr int kCollectWarps = 4;  // two by two
constexpr int kChunk = 8;         // bfloat16 of a 16-byte copy
constexpr int kRowChunks = kDepth / kChunk;
constexpr int kSides = 2 * kTile * kRowChunks;  // chunks of a buffer: queries, then points
constexpr float kUp = 1.0f / (1 << 22);         // of an edge and of its top: more than two roundings lose
constexpr float kMost = 3.40282347e38f;         // the largest float32

// What one copy moves, and what load_tiles reads of a row.
struct alignas(16) Chunk {
    uint16_t values[kChunk];
};

// Two adjacent numbers, in one load.
struct alignas(8) Two {
    float first, second;
};

struct CollectProblem {
    const Chunk *b, *p;                 // panels of N queries and M points
    const float *near_i, *far_i, *top;  // (N,)
    const Two* c;                       // (M,) floats
    const float *near_word, *far_word;  // (M / 32,)
    const int32_t *labels, *point_labels;
    int width;
    int begin, end;  // which points
    int share;       // of a block, a multiple of kTile
    int64_t limit;
    int64_t* listed;  // (N, limit)
    float* low;
    int32_t* count;
};

// What an epilogue needs of a query, in one load.
struct alignas(16) QueryBounds {
    float near, far, top, spare;  // kUp of the top's size
};

constexpr int64_t collect_shared() { return kStages * kSides * sizeof(Chunk) + kTile * sizeof(QueryBounds); }

// Where chunk `chunk` of row `row` lies in a buffer: eight rows that load_tiles reads at once, and the eight chunks of
// a row, lie in different banks. Rows that are a multiple of 8 apart are so many rows apart.
MSMA_DEVICE int place_in_tile(int row, int chunk) { return row * kRowChunks + (chunk ^ (row & 7)); }

// A thread's share of the copies: a chunk of every sixteenth row of both sides. Panels follow each other as the block
// needs them, so that a copy's addresses are constants beside two pointers.
class Copies {
  public:
    MSMA_DEVICE Copies(const CollectProblem& problem, int64_t query, int point)
        : steps_(problem.width / kDepth),
          step_(0),
          to_(place_in_tile(thread() / kRowChunks, thread() % kRowChunks)),
          queries_(problem.b + query / kTile * steps_ * kPanel + thread()),
          points_(problem.p + static_cast<int64_t>(point / kTile) * steps_ * kPanel + thread()) {}

    // The next kDepth coordinates of the block's queries, and of its points, into a buffer.
    MSMA_DEVICE void copy(Chunk* buffer) {
        constexpr int kThreads = kCollectWarps * kWarp, kRows = kThreads / kRowChunks;
        MSMA_UNROLL
        for (int r = 0; r < kTile / kRows; ++r) {
            copy_16(buffer + to_ + r * kRows * kRowChunks, queries_ + r * kThreads);
            copy_16(buffer + to_ + (kTile + r * kRows) * kRowChunks, points_ + r * kThreads);
        }
        points_ += kPanel;
        queries_ += kPanel;
        if (++step_ == steps_) {
            step_ = 0;
            queries_ -= static_cast<int64_t>(steps_) * kPanel;
        }
    }

  private:
    static constexpr int kPanel = kTile * kRowChunks;
    int steps_, step_, to_;
    const Chunk *queries_, *points_;
};

// Where a lane's rows of the warp's fragments begin in a buffer, for each 16 of a step's coordinates.
struct Fragments {
    int queries[kDepth / 16], points[kDepth / 16];

    MSMA_DEVICE Fragments(int warp_row, int warp_column) {
        const int matrix = lane() / 8, row = lane() % 8;
        MSMA_UNROLL
        for (int t = 0; t < kDepth / 16; ++t) {
            queries[t] = place_in_tile(warp_row + 8 * (matrix & 1) + row, 2 * t + matrix / 2);
            points[t] = place_in_tile(kTile + warp_column + 8 * (matrix / 2) + row, 2 * t + (matrix & 1));
        }
    }
};

// sums[m][n] += products of 16 x 8 tiles (m, n) of the warp's 64 x 64, over kDepth coordinates.
MSMA_DEVICE void multiply_step(const Chunk* buffer, const Fragments& at, float (&sums)[4][8][4]) {
    MSMA_UNROLL
    for (int t = 0; t < kDepth / 16; ++t) {
        uint32_t a[4][4];
        MSMA_UNROLL
        for (int m = 0; m < 4; ++m) load_tiles(a[m], buffer + at.queries[t] + 16 * m * kRowChunks);
        MSMA_UNROLL
        for (int n = 0; n < 8; n += 2) {
            uint32_t two[4];
            load_tiles(two, buffer + at.points[t] + 8 * n * kRowChunks);
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
// and 8 n + 2 t + 1, in g[2 n] and g[2 n + 1]; low: the word's least lower bound of the lane's (warp).
template <bool kLabels>
MSMA_DEVICE void list_words(const CollectProblem& problem, int64_t row, int first, float edge, float low,
                            const float (&g)[8]) {
    const int shift = 2 * (lane() % 4);
    unsigned word = 0;
    MSMA_UNROLL
    for (int e = 0; e < 8; ++e) {
        if (!(g[e] > edge)) word |= 1u << (8 * (e / 2) + e % 2);
    }
    word <<= shift;
    if constexpr (kLabels) {
        const int32_t label = problem.labels[row];
        unsigned excluded = 0;
        MSMA_UNROLL
        for (int e = 0; e < 8; ++e) {
            const int column = 8 * (e / 2) + e % 2 + shift;
            if (problem.point_labels[first + column] == label) excluded |= 1u << column;
        }
        if ((word & excluded) != 0) low = -static_cast<float>(double_of(kEndless));  // it may be one of theirs
        word &= ~excluded;
    }
    MSMA_UNROLL
    for (int mask = 1; mask <= 2; mask *= 2) {
        word |= shuffle_xor(word, mask);
        low = smaller(low, shuffle_xor(low, mask));
    }
    if (shift != 0 || word == 0) return;
    const int place = atomic_add(&problem.count[row], 1);
    if (place >= problem.limit) return;
    problem.listed[row * problem.limit + place] = static_cast<int64_t>(word) << 32 | (first / kWarp);
    problem.low[row * problem.limit + place] = low;
}

// Who of the warp's 64 queries, from `query` on, keeps whom of its 64 points, from `point` on; bounds: of these
// queries.
template <bool kLabels>
MSMA_DEVICE void keep(const CollectProblem& problem, const QueryBounds* bounds, int64_t query, int point,
                      const float (&sums)[4][8][4]) {
    MSMA_UNROLL
    for (int half = 0; half < 2; ++half) {
        const int first = point + kWarp * half;  // of the word
        const float near_word = problem.near_word[first / kWarp], far_word = problem.far_word[first / kWarp];
        Two c[4];
        MSMA_UNROLL
        for (int n = 0; n < 4; ++n) c[n] = problem.c[first / 2 + 4 * n + lane() % 4];
        MSMA_UNROLL
        for (int m = 0; m < 4; ++m) {
            MSMA_UNROLL
            for (int s = 0; s < 2; ++s) {
                const int row = 16 * m + 8 * s + lane() / 4;
                const QueryBounds own = bounds[row];
                float g[8], least = 0.0f;
                MSMA_UNROLL
                for (int e = 0; e < 8; ++e) {
                    g[e] = fused(-2.0f, sums[m][4 * half + e / 2][2 * s + e % 2],
                                 e % 2 ? c[e / 2].second : c[e / 2].first);
                    least = e == 0 ? g[e] : smaller(least, g[e]);
                }
                const float start = fused(own.near, near_word, fused(own.far, far_word, own.top));
                // Never above what is finite: points that pad the last word have an infinite c.
                const float edge = smaller(fused(start < 0.0f ? -start : start, kUp, start + own.spare), kMost);
                if (!any(!(least > edge))) continue;  // a NaN is kept
                const float low = fused(-own.near, near_word, fused(-own.far, far_word, least));
                list_words<kLabels>(problem, query + row, first, edge, low, g);
            }
        }
    }
}

template <bool kLabels>
MSMA_KERNEL collect_kernel(CollectProblem problem) {
    Shared shared;
    Chunk* buffers = shared.take<Chunk>(kStages * kSides);
    QueryBounds* bounds = shared.take<QueryBounds>(kTile);
    const int64_t query = static_cast<int64_t>(block_x()) * kTile;
    const int first = problem.begin + block_y() * problem.share;
    const int last = problem.end - first < problem.share ? problem.end : first + problem.share;
    const int warp_row = 64 * (warp() / 2), warp_column = 64 * (warp() % 2);
    const Fragments fragments(warp_row, warp_column);
    Copies copies(problem, query, first);
    for (int t = thread(); t < kTile; t += threads()) {
        const float top = problem.top[query + t];
        bounds[t] =
            QueryBounds{problem.near_i[query + t], problem.far_i[query + t], top, kUp * (top < 0.0f ? -top : top)};
    }
    copies.copy(buffers);
    commit_copies();
    int into = kSides;  // the buffer that is copied into next
    for (int point = first; point < last; point += kTile) {
        float sums[4][8][4] = {};
        for (int start = 0; start < problem.width; start += kDepth) {
            wait_copies<0>();
            sync_block();  // what others copied is there, and nobody reads the buffer that is copied into now
            if (start + kDepth < problem.width || point + kTile < last) {
                copies.copy(buffers + into);
                commit_copies();
            }
            into ^= kSides;
            multiply_step(buffers + into, fragments, sums);
        }
        keep<kLabels>(problem, bounds + warp_row, query + warp_row, point + warp_column, sums);
    }
}

// The bits of columns own - window .. own + window in the word of 32 columns from `first` on.
MSMA_DEVICE unsigned own_bits(int own, int window, int first) {
    const int from = own - window - first, to = own + window - first;
    if (from >= kWarp || to < 0) return 0;
    const unsigned since = ~0u << (from > 0 ? from : 0);
    return to >= kWarp - 1 ? since : since & ((2u << to) - 1u);
}

// Takes what a query may not have out of its list: the points own - window .. own + window; of their words nobody knows
// the least bound then. A warp has a query, a lane a word.
MSMA_KERNEL exclude_own_kernel(const int32_t* own, int window, int64_t queries, int64_t limit, int64_t* listed,
                               float* low, const int32_t* count) {
    const int64_t row = static_cast<int64_t>(block_x()) * (threads() / kWarp) + warp();
    if (row >= queries) return;
    const int64_t words = count[row] < limit ? count[row] : limit;
    for (int64_t t = lane(); t < words; t += kWarp) {
        const int64_t entry = listed[row * limit + t];
        const unsigned word = static_cast<unsigned>(entry >> 32);
        const unsigned taken = word & own_bits(own[row], window, static_cast<int>(entry) * kWarp);
        if (taken == 0) continue;
        listed[row * limit + t] = static_cast<int64_t>(word & ~taken) << 32 | (entry & 0xFFFFFFFF);
        low[row * limit + t] = -static_cast<float>(double_of(kEndless));
    }
}

}  // namespace msma::device
