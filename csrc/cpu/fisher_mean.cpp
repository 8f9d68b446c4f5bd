// sum_i s_i G(h_i), (d, d).
//
// With each row's most probable token `a` apart (row w_a, probability p_a, the others' sum q = 1 - p_a) and
// r = sum_{t != a} p_t w_t:
//   G(h_i) = sum_{t != a} p_t w_t w_t^T + p_a q w_a w_a^T - r r^T - p_a (r w_a^T + w_a r^T)
// In W^T diag(p) W - m m^T the top token's terms cancel; here they do not occur, so rows that are all but certain of a
// token keep their digits. Rows of W are taken less the mean of all m, which makes the subtracted terms small.
//
// Two products of size n V d (logits and r), one of V d^2 / 2 over the tokens and two of n d^2 / 2.
#include <algorithm>
#include <functional>
#include <vector>

#include "fisher_chunk.hpp"
#include "msma/fisher.hpp"
#include "parallel.hpp"

namespace msma {
namespace {

constexpr int64_t kWide = 144;  // coordinates of a part of the result: its sums are 81 KiB

// Columns of the k-th block of rows as a panel, zeros in the padding.
using Packer = std::function<void(int64_t k, Range columns, float* to)>;

// out (d, d) += sum_t left_t right_t^T over blocks of at most T rows of `source`, for the parts on and above the
// diagonal; each part is a task.
void add_gram(const FisherBody& body, const TokenBlocks& blocks, int64_t T, const TokenHead& source, const Packer& left,
              const Packer& right, int threads, float* out) {
    const int64_t L = body.lanes, d = source.dimension, parts = ceil_div(d, kWide), room = kWide * (2 * T + kWide);
    const Buffer<float> scratch(threads * room);
    const std::vector<float> ones(static_cast<size_t>(kWide), 1.0f);
    parallel_for(parts * (parts + 1) / 2, threads, [&](int64_t task, int worker) {
        int64_t i = 0, j = task;
        for (; j >= parts - i; ++i) j -= parts - i;
        const Range rows = nth(i, kWide, d), columns = nth(i + j, kWide, d);
        float *const a = scratch.get() + worker * room, *const b = a + kWide * T, *const sums = b + kWide * T;
        const int64_t groups = ceil_div(columns.size(), L), tall = ceil_div(rows.size(), L) * L;
        const int64_t upper = tall / 2 / L * L;  // two halves: one fetches the next rows, the other the next columns
        std::fill_n(sums, tall * groups * L, 0.0f);
        for (int64_t k = 0; k < blocks.count(); ++k) {
            left(k, rows, a);
            right(k, columns, b);
            body.products(a, T, blocks[k].size(), upper, b, groups, ones.data(), sums, tall,
                          ahead_of(source, blocks[k + 1], rows));
            body.products(a + upper * T, T, blocks[k].size(), tall - upper, b, groups, ones.data(), sums + upper * L,
                          tall, ahead_of(source, blocks[k + 1], columns));
        }
        float* const to = out + rows.begin * d + columns.begin;
        for_panel(sums, tall, L, rows.size(), columns.size(),
                  [&](int64_t r, int64_t c, float value) { to[r * d + c] += value; });
    });
}

class Mean {
  public:
    Mean(const HiddenRows& h, const TokenHead& head, const float* shares, int threads)
        : h_(h),
          head_(head),
          shares_(shares),
          threads_(worthy_threads(h.count, head, threads)),
          n_(h.count),
          d_(head.dimension),
          body_(best_fisher_body()),
          origin_(static_cast<size_t>(d_)),
          rests_(static_cast<size_t>(n_ * d_)),
          mass_(static_cast<size_t>(head.tokens)) {}

    void run(float* out) {
        sum_tokens();
        move_origin();
        std::fill_n(out, d_ * d_, 0.0f);
        add_tokens(out);
        add_rows(out);
        for (int64_t r = 0; r < d_; ++r) {
            for (int64_t c = 0; c < r; ++c) out[r * d_ + c] = out[c * d_ + r];
        }
    }

  private:
    double share(int64_t i) const { return shares_ ? static_cast<double>(shares_[i]) : 1.0 / static_cast<double>(n_); }
    const Top& top(int64_t i) const { return tops_[static_cast<size_t>(i)]; }

    // Tops, r of all rows and what multiplies w_t w_t^T, with W less the chunk's centre.
    void sum_tokens() {
        const int64_t L = body_.lanes;
        // r of all rows takes as much memory as d / V of the logits.
        const double memory = 0.045 - static_cast<double>(d_) / static_cast<double>(head_.tokens);
        const int64_t step = chunk_rows(n_, memory, 1, L);
        FisherChunk chunk(head_, step, false, true, threads_);
        origin_.assign(chunk.centre(), chunk.centre() + d_);
        const Buffer<float> sums(chunk.stride() * ceil_div(d_, L) * L);
        for (int64_t c = 0; c < ceil_div(n_, step); ++c) {
            const Range rows = nth(c, step, n_);
            chunk.softmax(h_, nullptr, rows);
            const std::vector<Top> found = chunk.take_tops(rows.size());
            tops_.insert(tops_.end(), found.begin(), found.end());
            add_masses(chunk, rows);
            chunk.products([&](int64_t b, float*) { return chunk.e(b); }, false, sums.get());
            float* const to = rests_.data() + rows.begin * d_;
            for_panel(sums.get(), chunk.stride(), L, rows.size(), d_,
                      [&](int64_t r, int64_t k, float value) { to[r * d_ + k] = value; });
        }
        for (int64_t i = 0; i < n_; ++i) mass_[static_cast<size_t>(top(i).token)] += share(i) * top(i).p * top(i).rest;
    }

    void add_masses(const FisherChunk& chunk, Range rows) {
        const int64_t stride = chunk.stride();
        const Buffer<float> scales(stride * threads_);
        parallel_for(chunk.blocks().count(), threads_, [&](int64_t b, int worker) {
            float* const scale = scales.get() + worker * stride;
            std::fill_n(scale, stride, 0.0f);
            for (int64_t r = 0; r < rows.size(); ++r) {
                scale[r] = static_cast<float>(share(rows.begin + r) * static_cast<double>(chunk.share(b)[r]));
            }
            const Range tokens = chunk.blocks()[b];
            body_.token_sums(chunk.e(b), scale, chunk.blocks().size, tokens.size(), ceil_div(rows.size(), body_.lanes),
                             mass_.data() + tokens.begin);
        });
    }

    // The origin moves to the mean of all m; r moves by 1 - p of that.
    void move_origin() {
        std::vector<float> row(static_cast<size_t>(d_));
        std::vector<double> move(static_cast<size_t>(d_));
        double total = 0.0;
        for (int64_t i = 0; i < n_; ++i) {
            token_row(head_, top(i).token, origin_.data(), row.data());
            const float* const rest = rests_.data() + i * d_;
            for (int64_t k = 0; k < d_; ++k) {
                const double m = static_cast<double>(rest[k]) + top(i).p * static_cast<double>(row[k]);
                move[static_cast<size_t>(k)] += share(i) * m;
            }
            total += share(i);
        }
        for (size_t k = 0; k < origin_.size(); ++k) {
            const auto from = static_cast<double>(origin_[k]);
            origin_[k] = static_cast<float>(from + (total > 0.0 ? move[k] / total : 0.0));
            move[k] = static_cast<double>(origin_[k]) - from;
        }
        for (int64_t i = 0; i < n_; ++i) {
            float* const rest = rests_.data() + i * d_;
            for (int64_t k = 0; k < d_; ++k) {
                rest[k] = static_cast<float>(static_cast<double>(rest[k]) - top(i).rest * move[static_cast<size_t>(k)]);
            }
        }
    }

    // sum_t mass_t w_t w_t^T
    void add_tokens(float* out) const {
        const TokenBlocks blocks(head_.tokens, kWide, body_.tile);
        const int64_t T = blocks.size;
        const std::vector<float> masses(mass_.begin(), mass_.end());
        const Packer plain = [&](int64_t k, Range columns, float* to) {
            body_.pack(head_, blocks[k].begin, columns.begin, blocks[k].size(), columns.size(),
                       origin_.data() + columns.begin, T, to);
        };
        const Packer weighted = [&](int64_t k, Range columns, float* to) {
            plain(k, columns, to);
            body_.scaled(to, masses.data() + blocks[k].begin, T, blocks[k].size(),
                         ceil_div(columns.size(), body_.lanes), to);
        };
        add_gram(body_, blocks, T, head_, weighted, plain, threads_, out);
    }

    // - sum_i s_i ((r + p w_a) r^T + r (p w_a)^T)
    void add_rows(float* out) const {
        const int64_t L = body_.lanes;
        const TokenHead rests{rests_.data(), WeightType::float32, n_, d_, d_, nullptr};
        const TokenBlocks blocks(n_, kWide, body_.tile);
        const int64_t T = blocks.size;
        const std::vector<float> zero(static_cast<size_t>(d_));
        std::vector<float> weights(static_cast<size_t>(n_));
        for (int64_t i = 0; i < n_; ++i) weights[static_cast<size_t>(i)] = static_cast<float>(-share(i));

        const Packer rest = [&](int64_t k, Range columns, float* to) {
            body_.pack(rests, blocks[k].begin, columns.begin, blocks[k].size(), columns.size(), zero.data(), T, to);
        };
        const auto each_top = [&](int64_t k, Range columns, const auto& put) {
            const TokenHead part = columns_of(head_, columns);
            float row[kWide];
            for (int64_t t = 0; t < blocks[k].size(); ++t) {
                const Top& of = top(blocks[k].begin + t);
                token_row(part, of.token, origin_.data() + columns.begin, row);
                for (int64_t c = 0; c < columns.size(); ++c) {
                    put((c / L * T + t) * L + c % L, static_cast<float>(of.p * static_cast<double>(row[c])));
                }
            }
        };
        const auto weigh = [&](int64_t k, Range columns, float* to) {
            body_.scaled(to, weights.data() + blocks[k].begin, T, blocks[k].size(), ceil_div(columns.size(), L), to);
        };
        const Packer weighted_both = [&](int64_t k, Range columns, float* to) {
            rest(k, columns, to);
            each_top(k, columns, [&](int64_t at, float value) { to[at] += value; });
            weigh(k, columns, to);
        };
        const Packer weighted_rest = [&](int64_t k, Range columns, float* to) {
            rest(k, columns, to);
            weigh(k, columns, to);
        };
        const Packer tops = [&](int64_t k, Range columns, float* to) {
            std::fill_n(to, ceil_div(columns.size(), L) * T * L, 0.0f);
            each_top(k, columns, [&](int64_t at, float value) { to[at] = value; });
        };
        add_gram(body_, blocks, T, rests, weighted_both, rest, threads_, out);
        add_gram(body_, blocks, T, rests, weighted_rest, tops, threads_, out);
    }

    const HiddenRows h_;
    const TokenHead head_;
    const float* const shares_;
    const int threads_;
    const int64_t n_, d_;
    const FisherBody body_;
    std::vector<float> origin_, rests_;  // what rows of W are taken less of, (d,); r, (n, d)
    std::vector<Top> tops_;
    std::vector<double> mass_;  // (V,)
};

}  // namespace

void logit_fisher_mean(const HiddenRows& h, const TokenHead& head, const float* shares, int threads, float* out) {
    Mean(h, head, shares, threads).run(out);
}

}  // namespace msma
