// Tiles of row pairs in an order that makes sums over them independent of the number of threads.
//
// n rows are cut into blocks of `step`. A self problem visits every unordered pair of blocks once, the
// diagonal ones included; a cross problem every pair. The tiles come in rounds, and in a round each block
// occurs in one tile: self, round r pairs block i with (r - i) mod T; cross, block i with (i + r) mod T. A
// tile waits until both its blocks are done with the rounds before. So a body may add to what belongs to its
// two blocks without a lock, and the order of these additions is always the same.
//
// No deadlock: tasks are handed out in increasing order and wait for lower ones only, and a body cannot throw.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>

#include "parallel.hpp"
#include "work.hpp"

namespace msma {

struct Tile {
    int64_t i, j;  // numbers of the blocks of rows and columns; i <= j in a self problem
    Range rows, columns;
};

// Rows of a block: promoted columns of the wider side fit the second-level cache, keys of a tile the first or
// second.
constexpr int64_t tile_step(int64_t dimension) {
    return std::clamp<int64_t>(kPanelDoubles / padded(dimension) / 4 * 4, 16, 128);
}

// The round that each block waits for.
class Turns {
  public:
    explicit Turns(int64_t blocks) : turns_(std::make_unique<std::atomic<int64_t>[]>(static_cast<size_t>(blocks))) {
        for (int64_t b = 0; b < blocks; ++b) turns_[b].store(0, std::memory_order_relaxed);
    }
    void wait(int64_t block, int64_t round) const {
        while (turns_[block].load(std::memory_order_acquire) != round) std::this_thread::yield();
    }
    void pass(int64_t block, int64_t round) { turns_[block].store(round + 1, std::memory_order_release); }

  private:
    std::unique_ptr<std::atomic<int64_t>[]> turns_;
};

// body(tile, worker) for every tile of a self problem over n rows.
template <typename Body>
void for_self_tiles(int64_t n, int64_t step, int threads, const Body& body) {
    static_assert(noexcept(body(std::declval<const Tile&>(), 0)), "a tile that throws would leave others waiting");
    const int64_t blocks = ceil_div(n, step), seats = blocks / 2 + 1;
    Turns turns(blocks);
    parallel_for(blocks * seats, threads, [&](int64_t task, int worker) {
        const int64_t round = task / seats, seat = task % seats;
        const bool wrapped = seat > round / 2;
        const int64_t i = wrapped ? seat + (round + 1) / 2 : seat, j = round - i + (wrapped ? blocks : 0);
        if (i > j) return;
        turns.wait(i, round);
        if (i != j) turns.wait(j, round);
        body(Tile{i, j, nth(i, step, n), nth(j, step, n)}, worker);
        turns.pass(i, round);
        if (i != j) turns.pass(j, round);
    });
}

// body(tile, worker) for every tile of a cross problem of n rows and m columns.
template <typename Body>
void for_cross_tiles(int64_t n, int64_t m, int64_t step, int threads, const Body& body) {
    static_assert(noexcept(body(std::declval<const Tile&>(), 0)), "a tile that throws would leave others waiting");
    const int64_t left = ceil_div(n, step), right = ceil_div(m, step), rounds = std::max(left, right);
    Turns rows(rounds), columns(rounds);
    parallel_for(rounds * rounds, threads, [&](int64_t task, int worker) {
        const int64_t round = task / rounds, i = task % rounds, j = (i + round) % rounds;
        rows.wait(i, round);
        columns.wait(j, round);
        if (i < left && j < right) body(Tile{i, j, nth(i, step, n), nth(j, step, m)}, worker);
        rows.pass(i, round);
        columns.pass(j, round);
    });
}

// keys (rows, columns) of one tile, row-major; `scratch` as told by block_scratch.
inline void tile_keys(const KeyBody<double>& body, const Kernel& kernel, const Rows<double>& x, const Rows<double>& y,
                      const Tile& tile, double* scratch, double* keys) noexcept {
    const Rows<double> left = part(x, tile.rows), right = part(y, tile.columns);
    body.block(kernel, left, right, Range{0, left.count}, Range{0, right.count}, scratch, keys);
}

}  // namespace msma
