// d(p, q) = 2 arccos(sum_t sqrt(p_t q_t)) between the token distributions of rows of h.
//
// A slab of tokens at a time: s = exp((l - c) / 2) of all rows, then the products s s^T of that slab. c is the largest
// logit of the first block, so that one pass serves both; a row whose logits rise too far above it makes the pass start
// again from the true maxima. The sums of s^2 divide at the end.
//
// Close pairs, where 1 - sum is all rounding, are computed again from differences of logits D = W (h_i - h_j):
//   c = log sum_t q_t exp(D_t),  |sqrt p - sqrt q|^2 = sum_t q_t expm1((D_t - c) / 2)^2 = key,  d = 4 arcsin(sqrt(key)
//   / 2)
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "fisher_chunk.hpp"
#include "msma/fisher.hpp"
#include "parallel.hpp"

namespace msma {
namespace {

constexpr int64_t kSlabBlocks = 8;       // blocks of tokens at a time
constexpr int64_t kSquare = 96;          // rows and columns of one task of products
constexpr int64_t kRowsAtOnce = 384;     // rows of h for one block of W
constexpr double kClose = 1.0 - 0x1p-6;  // sums above it are computed again
constexpr float kMostAbove = 60.0f;      // logits may exceed their centre by this much
constexpr float kUnset = -1.0f;          // a close pair's place, less its squared chord 2 - 2 sum
constexpr double kLost = 2e-5;           // more than rounding takes from a squared chord

using Pairs = std::vector<std::pair<int64_t, int64_t>>;

struct Side {
    HiddenRows rows;
    int64_t first_group, groups;
};

class Distances {
  public:
    Distances(const HiddenRows& h, const TokenHead& head, const HiddenRows* other, int64_t most_close, int threads,
              float* out)
        : head_(head),
          body_(best_fisher_body()),
          L_(body_.lanes),
          left_{h, 0, ceil_div(h.count, L_)},
          right_(other ? Side{*other, left_.groups, ceil_div(other->count, L_)} : left_),
          self_(other == nullptr),
          groups_(right_.first_group + right_.groups),
          most_close_(most_close),
          threads_(worthy_threads(h.count + (other ? other->count : 0), head, threads)),
          out_(out),
          blocks_(head.tokens, head.dimension, body_.tile),
          centre_(centre_of(head)),
          squares_(static_cast<size_t>(groups_ * L_)) {}

    void run() {
        multiply_roots();
        to_distances();
        renew_close();
        if (self_) complete();
    }

  private:
    int64_t rows() const { return left_.rows.count; }
    int64_t columns() const { return right_.rows.count; }
    int64_t panel() const { return blocks_.size * groups_ * L_; }

    // logits of the rows' groups `part` for one block, in its panel of all groups.
    void logits(int64_t b, Range part, const float* h, float* w, float* to, const Ahead& ahead) const {
        const Range tokens = blocks_[b];
        body_.pack(head_, tokens.begin, 0, tokens.size(), head_.dimension, centre_.data(), blocks_.size, w);
        body_.logits(w, blocks_.size, head_.dimension, h + part.begin * head_.dimension * L_, part.size(),
                     to + part.begin * blocks_.size * L_, ahead);
    }

    // The largest logits of all rows over the first `count` blocks.
    void find_peaks(int64_t count, const float* h, float* w, float* s, float* peaks) const {
        const Buffer<float> peak(groups_ * L_), sum(groups_ * L_);
        for (int64_t b = 0; b < count; ++b) {
            const Range tokens = blocks_[b];
            parallel_for(ceil_div(groups_ * L_, kRowsAtOnce), threads_, [&](int64_t task, int worker) {
                const Range part = nth(task, kRowsAtOnce / L_, groups_);
                logits(b, part, h, w + worker * w_room(), s, Ahead{});
                body_.exponents(s + part.begin * blocks_.size * L_, bias(tokens), blocks_.size, tokens.size(),
                                part.size(), peak.get() + part.begin * L_, sum.get() + part.begin * L_);
            });
            for (int64_t r = 0; r < groups_ * L_; ++r) peaks[r] = b == 0 ? peak[r] : std::max(peaks[r], peak[r]);
        }
    }

    const float* bias(Range tokens) const { return head_.bias ? head_.bias + tokens.begin : nullptr; }
    int64_t w_room() const { return blocks_.size * ceil_div(head_.dimension, L_) * L_; }

    // out = sum_t s_it s_jt, with squares_ = sum_t s^2.
    void multiply_roots() {
        const int64_t d = head_.dimension, most = std::min(kSlabBlocks, blocks_.count());
        const Buffer<float> h(groups_ * L_ * d), w(threads_ * w_room()), s(most * panel()), centres(groups_ * L_),
            top(most * groups_ * L_), sums(most * groups_ * L_), tiles(threads_ * kSquare * kSquare);
        for (const Side* side : {&left_, &right_}) {
            pack_hidden(side->rows, {0, side->rows.count}, d, L_, h.get() + side->first_group * L_ * d);
        }
        find_peaks(1, h.get(), w.get(), s.get(), centres.get());
        for (bool again = false;; again = true) {
            std::fill(squares_.begin(), squares_.end(), 0.0);
            std::fill_n(out_, rows() * columns(), 0.0f);
            bool above = false;
            for (int64_t first = 0; first < blocks_.count() && !above; first += most) {
                const Range slab{first, std::min(blocks_.count(), first + most)};
                take_roots(slab, h.get(), centres.get(), w.get(), s.get(), top.get(), sums.get());
                for (int64_t k = 0; k < slab.size() * groups_ * L_; ++k) {
                    above = above || (!again && top[k] > kMostAbove);
                    squares_[static_cast<size_t>(k % (groups_ * L_))] += static_cast<double>(sums[k]);
                }
                if (!above) add_products(slab, s.get(), tiles.get());
            }
            if (!above) return;
            find_peaks(blocks_.count(), h.get(), w.get(), s.get(), centres.get());
        }
    }

    void take_roots(Range slab, const float* h, const float* centres, float* w, float* s, float* top,
                    float* sums) const {
        const int64_t parts = ceil_div(groups_ * L_, kRowsAtOnce);
        parallel_for(slab.size() * parts, threads_, [&](int64_t task, int worker) {
            const int64_t b = task / parts;
            const Range part = nth(task % parts, kRowsAtOnce / L_, groups_), tokens = blocks_[slab.begin + b];
            const int64_t at = (b * groups_ + part.begin) * L_;
            logits(slab.begin + b, part, h, w + worker * w_room(), s + b * panel(),
                   ahead_of(head_, blocks_[slab.begin + (task + threads_) / parts], {0, head_.dimension}));
            std::fill_n(top + at, part.size() * L_, -INFINITY);
            body_.root_exponents(s + at * blocks_.size, bias(tokens), centres + part.begin * L_, blocks_.size,
                                 tokens.size(), part.size(), top + at, sums + at);
        });
    }

    void add_products(Range slab, const float* s, float* tiles) const {
        const int64_t tall = ceil_div(rows(), kSquare), wide = ceil_div(columns(), kSquare), T = blocks_.size;
        const std::vector<float> ones(static_cast<size_t>(kSquare), 1.0f);
        parallel_for(tall * wide, threads_, [&](int64_t task, int worker) {
            const int64_t i = task / wide, j = task % wide;
            if (self_ && j < i) return;
            const Range left = nth(i, kSquare, rows()), right = nth(j, kSquare, columns());
            const int64_t height = ceil_div(left.size(), L_) * L_, width = ceil_div(right.size(), L_);
            float* const tile = tiles + worker * kSquare * kSquare;
            std::fill_n(tile, height * width * L_, 0.0f);
            for (int64_t b = 0; b < slab.size(); ++b) {
                const float* const panel_b = s + b * panel();
                body_.products(panel_b + (left_.first_group * L_ + left.begin) * T, T, blocks_[slab.begin + b].size(),
                               height, panel_b + (right_.first_group * L_ + right.begin) * T, width, ones.data(), tile,
                               height, Ahead{});
            }
            float* const to = out_ + left.begin * columns() + right.begin;
            for_panel(tile, height, L_, left.size(), right.size(),
                      [&](int64_t r, int64_t c, float value) { to[r * columns() + c] += value; });
        });
    }

    int64_t first_column(int64_t row) const { return self_ ? row + 1 : 0; }

    void to_distances() const {
        const double* const of_columns = squares_.data() + right_.first_group * L_;
        parallel_for(rows(), worth_starting(rows(), columns(), threads_), [&](int64_t i, int) {
            float* const to = out_ + i * columns();
            for (int64_t j = first_column(i); j < columns(); ++j) {
                const double sum =
                    static_cast<double>(to[j]) / std::sqrt(squares_[static_cast<size_t>(i)]) / std::sqrt(of_columns[j]);
                to[j] = sum > kClose ? kUnset - static_cast<float>(std::max(2.0 - 2.0 * sum, 0.0))
                                     : static_cast<float>(2.0 * std::acos(sum));
            }
        });
    }

    const float* row(const Side& side, int64_t i) const { return side.rows.values + i * side.rows.stride; }

    void renew_close() const {
        Pairs close;
        for (int64_t i = 0; i < rows(); ++i) {
            for (int64_t j = first_column(i); j < columns(); ++j) {
                if (out_[i * columns() + j] > kUnset) continue;
                if (std::equal(row(left_, i), row(left_, i) + head_.dimension, row(right_, j))) {
                    out_[i * columns() + j] = 0.0f;
                } else if (static_cast<int64_t>(close.size()) <= most_close_) {
                    close.emplace_back(i, j);
                }
            }
        }
        if (static_cast<int64_t>(close.size()) > most_close_) return;
        std::optional<FisherChunk> chunk;
        const auto step = static_cast<size_t>(chunk_rows(std::max(rows(), columns()), 0.03, 2, L_));
        for (size_t first = 0; first < close.size(); first += step) {
            const auto begin = close.begin() + static_cast<std::ptrdiff_t>(first);
            renew({begin, begin + static_cast<std::ptrdiff_t>(std::min(step, close.size() - first))}, chunk);
        }
    }

    // The first call has the most pairs.
    void renew(const Pairs& pairs, std::optional<FisherChunk>& chunk) const {
        const auto count = static_cast<int64_t>(pairs.size()), d = head_.dimension;
        const Buffer<float> bases(count * d), differences(count * d);
        for (int64_t k = 0; k < count; ++k) {
            const float *const x = row(left_, pairs[static_cast<size_t>(k)].first),
                               *const y = row(right_, pairs[static_cast<size_t>(k)].second);
            for (int64_t c = 0; c < d; ++c) {
                bases[k * d + c] = y[c];
                differences[k * d + c] = x[c] - y[c];
            }
        }
        if (!chunk) chunk.emplace(head_, count, true, true, threads_);
        const HiddenRows second{differences.get(), count, d};
        chunk->softmax({bases.get(), count, d}, &second, {0, count});
        const int64_t stride = chunk->stride();
        const Buffer<float> shift(stride);
        std::copy_n(chunk->shift(), stride, shift.get());
        const std::vector<double> grown = grown_sums(*chunk, count, shift.get(), false);
        for (int64_t r = 0; r < count; ++r) {
            shift[r] = static_cast<float>(static_cast<double>(shift[r]) + std::log1p(grown[static_cast<size_t>(r)]));
        }
        const std::vector<double> keys = grown_sums(*chunk, count, shift.get(), true);
        for (int64_t k = 0; k < count; ++k) {
            const auto [i, j] = pairs[static_cast<size_t>(k)];
            float& place = out_[i * columns() + j];
            // A token that q does not have at all, and p does, has no part in the key: then the chord is large enough.
            const double key = keys[static_cast<size_t>(k)], chord = static_cast<double>(kUnset - place);
            const double half = std::min(0.5 * std::sqrt(std::abs(key - chord) > kLost ? chord : key), 1.0);
            place = static_cast<float>(4.0 * std::asin(half));
        }
    }

    std::vector<double> grown_sums(const FisherChunk& chunk, int64_t rows, const float* shift, bool half) const {
        const int64_t stride = chunk.stride(), count = chunk.blocks().count();
        const Buffer<float> sums(count * stride);
        parallel_for(count, threads_, [&](int64_t b, int) {
            body_.grown_sums(chunk.e(b), chunk.u(b), chunk.at(), shift, half, chunk.blocks().size,
                             chunk.blocks()[b].size(), ceil_div(rows, L_), sums.get() + b * stride);
        });
        std::vector<double> total(static_cast<size_t>(rows));
        for (int64_t b = 0; b < count; ++b) {
            for (int64_t r = 0; r < rows; ++r) {
                total[static_cast<size_t>(r)] +=
                    static_cast<double>(chunk.share(b)[r]) * static_cast<double>(sums[b * stride + r]);
            }
        }
        return total;
    }

    // The lower half from the upper, block by block, and the diagonal.
    void complete() const {
        const int64_t n = rows(), parts = ceil_div(n, kSquare);
        parallel_for(parts, worth_starting(n, n, threads_), [&](int64_t part, int) {
            const Range band = nth(part, kSquare, n);
            for (int64_t q = 0; q <= part; ++q) {
                for (int64_t i = band.begin; i < band.end; ++i) {
                    const int64_t end = std::min(i, (q + 1) * kSquare);
                    for (int64_t j = q * kSquare; j < end; ++j) out_[i * n + j] = out_[j * n + i];
                }
            }
            for (int64_t i = band.begin; i < band.end; ++i) out_[i * n + i] = 0.0f;
        });
    }

    const TokenHead head_;
    const FisherBody body_;
    const int64_t L_;
    const Side left_, right_;
    const bool self_;
    const int64_t groups_;
    const int64_t most_close_;
    const int threads_;
    float* const out_;
    const TokenBlocks blocks_;
    const std::vector<float> centre_;
    std::vector<double> squares_;
};

}  // namespace

void fisher_rao_distances(const HiddenRows& h, const TokenHead& head, const HiddenRows* other, int64_t most_close,
                          int threads, float* out) {
    Distances(h, head, other, most_close, threads, out).run();
}

}  // namespace msma
