// The softmax of a chunk of rows over all tokens, block of tokens by block: what the ops of the Fisher metric share.
//
// Rows of W are taken less a common row (the mean of some of them), which leaves G as it is and saves digits. Every
// block keeps exp(l - its own peak); a factor for each block and row (`share`) makes these the probabilities. Threads
// take blocks for the logits, and coordinates or rows of the result for the products: every sum has an order that does
// not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "body.hpp"
#include "buffer.hpp"
#include "fisher_body.hpp"
#include "work.hpp"

namespace msma {

// (d,): the mean of at most 256 rows of W evenly apart; zero where that is not finite.
std::vector<float> centre_of(const TokenHead& head);

// One row of W less `centre`.
void token_row(const TokenHead& head, int64_t token, const float* centre, float* to);

// Blocks of tokens: `size` a multiple of the tile, such that a block of W stays in the second-level cache.
struct TokenBlocks {
    int64_t tokens, size;

    TokenBlocks(int64_t tokens, int64_t dimension, int64_t tile);
    int64_t count() const { return ceil_div(tokens, size); }
    Range operator[](int64_t b) const { return nth(b, size, tokens); }
};

// Threads for n rows of h against all tokens.
inline int worthy_threads(int64_t n, const TokenHead& head, int threads) {
    return worth_starting(n * head.tokens, head.dimension, threads);
}

// Rows of h in a chunk of `panels` stored panels of logits: `share` of n V floats in all, and few enough for the
// second-level cache; a multiple of `lanes`.
int64_t chunk_rows(int64_t n, double share, int64_t panels, int64_t lanes);

// Some columns of W as a head of its own.
TokenHead columns_of(const TokenHead& head, Range columns);

// `columns` of the rows of W in `tokens`, for the caches; nothing for an empty range.
Ahead ahead_of(const TokenHead& head, Range tokens, Range columns);

// rows to a panel of d rows by ceil(rows / lanes) groups: (g * d + k) * lanes + l; missing rows are zero.
void pack_hidden(const HiddenRows& h, Range rows, int64_t d, int64_t lanes, float* to);

// use(row, column, value) for a panel of `stride` rows, row by row.
template <typename Use>
void for_panel(const float* panel, int64_t stride, int64_t lanes, int64_t rows, int64_t columns, const Use& use) {
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t first = 0; first < columns; first += lanes) {
            const float* const group = panel + first * stride + r * lanes;
            const int64_t count = std::min(lanes, columns - first);
            for (int64_t l = 0; l < count; ++l) use(r, first + l, group[l]);
        }
    }
}

// The most probable token of a row, its probability, and 1 - p as the sum of the others.
struct Top {
    int64_t token;
    double p, rest;
};

class FisherChunk {
  public:
    // `second`: second logits u as well. `stored`: e (and u) of all blocks are kept.
    FisherChunk(const TokenHead& head, int64_t rows, bool second, bool stored, int threads);

    // e and its sums for some rows of h; of v's rows, where given, u and its moments.
    void softmax(const HiddenRows& h, const HiddenRows* v, Range rows);
    // u of other vectors for the same, stored e.
    void seconds(const HiddenRows& v, Range rows);

    int64_t stride() const { return stride_; }  // rows of every panel, a multiple of the lanes
    const TokenBlocks& blocks() const { return blocks_; }
    const FisherBody& body() const { return body_; }
    const float* centre() const { return centre_.data(); }
    int threads() const { return threads_; }
    float* e(int64_t b) const { return e_.get() + (stored_ ? b * panel() : 0); }
    float* u(int64_t b) const { return u_.get() + (stored_ ? b * panel() : 0); }
    int64_t panel() const { return stride_ * blocks_.size; }
    // p = share e for a block's rows.
    const float* share(int64_t b) const { return share_.get() + b * stride_; }
    // Over all tokens, by row: ubar = at + shift, and the variance of u.
    const float* at() const { return at_.get(); }
    const float* shift() const { return shift_.get(); }
    double variance(int64_t row) const { return variance_[static_cast<size_t>(row)]; }

    // Sets the e of each row's most probable token to zero and says what it was.
    std::vector<Top> take_tops(int64_t rows);

    // Which of `tops` (row by row) lie far beyond where rows of W usually do: sums of squares about the usual centre
    // would lose what tells their likely tokens apart.
    std::vector<int64_t> far_rows(const std::vector<Top>& tops) const;
    // Sums are about the mean row of these tokens from the next softmax() on; of none, about the usual centre again.
    void centre_on(const std::vector<int64_t>& tokens);

    // out, a panel of stride() rows by ceil(d / lanes) groups: sum over blocks of share sum_t x_t w_t, or of x_t w_t^2.
    // x_of(b, room) gives the panel of block b, which may lie in `room`.
    using PanelOf = std::function<const float*(int64_t, float*)>;
    void products(const PanelOf& x_of, bool squares, float* out) const;

  private:
    void run(const HiddenRows* h, const HiddenRows* v, Range rows);
    void weigh_blocks();
    void merge_moments();

    const TokenHead head_;
    const FisherBody body_;
    const int64_t stride_;
    const bool stored_;
    const int threads_;
    const TokenBlocks blocks_;
    const std::vector<float> usual_;
    std::vector<float> centre_;
    Buffer<float> h_, v_, w_, e_, u_, peak_, sum_, block_at_, block_shift_, block_spread_, share_, at_, shift_;
    std::vector<double> variance_;
};

}  // namespace msma
