// sum_i s_i G(h_i), (d, d).
//
// With each row's most probable token `a` apart (row w_a, probability p_a, the others' sum q = 1 - p_a) and
// r = sum_{t != a} p_t w_t:
//   G(h_i) = sum_{t != a} p_t w_t w_t^T + p_a q w_a w_a^T - r r^T - p_a (r w_a^T + w_a r^T)
// In W^T diag(p) W - m m^T the top token's terms cancel; here they do not occur, so rows that are all but certain of a
// token keep their digits. Rows w are taken less the mean of all m, which makes the subtracted terms small.
//
// Two products of size n V d (logits and r), one of V d^2 / 2 over the tokens and two of n d^2.
#include <algorithm>
#include <functional>
#include <vector>

#include "fisher_chunk.hpp"
#include "msma/fisher.hpp"
#include "parallel.hpp"

namespace msma {
namespace {

// A panel for columns [columns.begin, columns.end) of the k-th block of rows.
using Packer = std::function<void(int64_t block, Range columns, float* to)>;

// out (d, d), upper half of groups of coordinates: += sum_t left_t right_t^T over `blocks` blocks of at most T rows,
// each part of the result a task of its own.
struct Gram {
    const FisherBody& body;
    int64_t d, T;
    int threads;

    static constexpr int64_t kWide = 144;  // coordinates of a part: its sums are 81 KiB

    // `source`: what the packers read.
    void add(const TokenBlocks& blocks, const TokenHead& source, const Packer& left, const Packer& right,
             float* out) const {
        const int64_t L = body.lanes, wide = kWide / L * L, parts = ceil_div(d, wide);
        const int64_t room = wide * (2 * T + wide);
        const Buffer<float> scratch(threads * room);
        const std::vector<float> ones(static_cast<size_t>(wide), 1.0f);
        parallel_for(parts * (parts + 1) / 2, threads, [&](int64_t task, int worker) {
            int64_t i = 0, j = task;
            for (; j >= parts - i; ++i) j -= parts - i;
            j += i;
            const Range rows = nth(i, wide, d), columns = nth(j, wide, d);
            float *const a = scratch.get() + worker * room, *const b = a + wide * T, *const sums = b + wide * T;
            const int64_t groups = ceil_div(columns.size(), L), tall = ceil_div(rows.size(), L) * L;
            std::fill_n(sums, tall * groups * L, 0.0f);
            for (int64_t k = 0; k < blocks.count(); ++k) {
                left(k, rows, a);
                right(k, columns, b);
                const int64_t upper = tall / 2 / L * L, size = blocks[k].size();
                body.products(a, T, size, upper, b, groups, ones.data(), sums, tall,
                              ahead_of(source, blocks[k + 1], rows));
                body.products(a + upper * T, T, size, tall - upper, b, groups, ones.data(), sums + upper * L, tall,
                              ahead_of(source, blocks[k + 1], columns));
            }
            float* const to = out + rows.begin * d + columns.begin;
            for_panel(sums, tall, L, rows.size(), columns.size(),
                      [&](int64_t r, int64_t c, float value) { to[r * d + c] += value; });
        });
    }
};

void mirror(int64_t d, float* out) {
    for (int64_t r = 0; r < d; ++r) {
        for (int64_t c = 0; c < r; ++c) out[r * d + c] = out[c * d + r];
    }
}

}  // namespace

void logit_fisher_mean(const HiddenRows& h, const TokenHead& head, const float* shares, int threads, float* out) {
    const int64_t n = h.count, d = head.dimension, V = head.tokens;
    const FisherBody body = best_fisher_body();
    const int64_t L = body.lanes, groups = ceil_div(d, L);
    // r of all rows takes the same memory as d / V of the logits.
    const double share = 0.045 - static_cast<double>(d) / static_cast<double>(V);
    const int64_t step = chunk_rows(n, share, 1, L);
    std::vector<float> rests(static_cast<size_t>(n * d));
    std::vector<Top> tops;
    std::vector<double> mass(static_cast<size_t>(V));  // what multiplies w_t w_t^T
    const auto share_of = [&](int64_t i) {
        return shares ? static_cast<double>(shares[i]) : 1.0 / static_cast<double>(n);
    };
    std::vector<float> centre;
    {
        FisherChunk chunk(head, step, false, true, threads);
        centre.assign(chunk.centre(), chunk.centre() + d);
        const int64_t stride = chunk.stride(), T = chunk.blocks().size;
        const Buffer<float> sums(stride * groups * L);
        for (int64_t c = 0; c < ceil_div(n, step); ++c) {
            const Range rows = nth(c, step, n);
            chunk.softmax(h, nullptr, rows);
            const std::vector<Top> found = chunk.take_tops(rows.size());
            tops.insert(tops.end(), found.begin(), found.end());
            parallel_for(chunk.blocks().count(), threads, [&](int64_t b, int) {
                const Range tokens = chunk.blocks()[b];
                alignas(64) float scale[256] = {};
                for (int64_t r = 0; r < rows.size(); ++r) {
                    scale[r] = static_cast<float>(share_of(rows.begin + r) * static_cast<double>(chunk.share(b)[r]));
                }
                body.token_sums(chunk.e(b), scale, T, tokens.size(), ceil_div(rows.size(), L),
                                mass.data() + tokens.begin);
            });
            chunk.products([&](int64_t b, float*) { return chunk.e(b); }, false, sums.get());
            float* const to = rests.data() + rows.begin * d;
            for_panel(sums.get(), stride, L, rows.size(), d,
                      [&](int64_t r, int64_t k, float value) { to[r * d + k] = value; });
        }
    }
    // The mean of all m, less `centre`; then centre + it is the new origin and r moves by (1 - p) of it.
    std::vector<float> row(static_cast<size_t>(d));
    std::vector<double> mean(static_cast<size_t>(d));
    double total = 0.0;
    for (int64_t i = 0; i < n; ++i) {
        const Top& top = tops[static_cast<size_t>(i)];
        token_row(head, top.token, centre.data(), row.data());
        const double weight = share_of(i);
        total += weight;
        for (int64_t k = 0; k < d; ++k) {
            const double m = static_cast<double>(rests[static_cast<size_t>(i * d + k)]) +
                             top.p * static_cast<double>(row[static_cast<size_t>(k)]);
            mean[static_cast<size_t>(k)] += weight * m;
        }
        mass[static_cast<size_t>(top.token)] += weight * top.p * top.rest;
    }
    std::vector<float> origin(static_cast<size_t>(d));
    for (size_t k = 0; k < origin.size(); ++k) {
        const double move = total > 0.0 ? mean[k] / total : 0.0;
        origin[k] = static_cast<float>(static_cast<double>(centre[k]) + move);
        mean[k] = static_cast<double>(origin[k]) - static_cast<double>(centre[k]);
    }
    for (int64_t i = 0; i < n; ++i) {
        float* const rest = rests.data() + i * d;
        for (int64_t k = 0; k < d; ++k) {
            const double moved =
                static_cast<double>(rest[k]) - tops[static_cast<size_t>(i)].rest * mean[static_cast<size_t>(k)];
            rest[k] = static_cast<float>(moved);
        }
    }

    std::fill_n(out, d * d, 0.0f);
    const TokenBlocks blocks(V, Gram::kWide, body.tile), row_blocks(n, Gram::kWide, body.tile);
    const int64_t T = std::max(blocks.size, row_blocks.size);
    const Gram gram{body, d, T, threads};
    const std::vector<float> masses(mass.begin(), mass.end());
    const auto tokens_to = [&](int64_t b, Range columns, float* to) {
        body.pack(head, blocks[b].begin, columns.begin, blocks[b].size(), columns.size(), origin.data() + columns.begin,
                  T, to);
    };
    gram.add(
        blocks, head,
        [&](int64_t b, Range columns, float* to) {
            tokens_to(b, columns, to);
            body.scaled(to, masses.data() + blocks[b].begin, T, blocks[b].size(), ceil_div(columns.size(), L), to);
        },
        tokens_to, out);

    // - s ((r + a) r^T + r a^T) with a = p w_a.
    const std::vector<float> zero(static_cast<size_t>(d));
    const TokenHead rest_rows{rests.data(), WeightType::float32, n, d, d, nullptr};
    const auto rests_to = [&](int64_t b, Range columns, float* to) {
        body.pack(rest_rows, row_blocks[b].begin, columns.begin, row_blocks[b].size(), columns.size(), zero.data(), T,
                  to);
    };
    std::vector<float> weights(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) weights[static_cast<size_t>(i)] = static_cast<float>(-share_of(i));
    const auto each_top = [&](int64_t b, Range columns, const auto& put) {
        for (int64_t t = 0; t < row_blocks[b].size(); ++t) {
            const auto i = static_cast<size_t>(row_blocks[b].begin + t);
            TokenHead part = head;
            part.dimension = columns.size();
            const auto size = head.type == WeightType::float32 ? 4 : 2;
            part.weight = static_cast<const char*>(head.weight) + columns.begin * size;
            std::vector<float> values(static_cast<size_t>(columns.size()));
            token_row(part, tops[i].token, origin.data() + columns.begin, values.data());
            for (int64_t c = 0; c < columns.size(); ++c) {
                put((c / L * T + t) * L + c % L, tops[i].p * static_cast<double>(values[static_cast<size_t>(c)]));
            }
        }
    };
    const auto scale_rows = [&](int64_t b, Range columns, float* to) {
        body.scaled(to, weights.data() + row_blocks[b].begin, T, row_blocks[b].size(), ceil_div(columns.size(), L), to);
    };
    gram.add(
        row_blocks, rest_rows,
        [&](int64_t b, Range columns, float* to) {
            rests_to(b, columns, to);
            each_top(b, columns, [&](int64_t at, double value) { to[at] += static_cast<float>(value); });
            scale_rows(b, columns, to);
        },
        rests_to, out);
    gram.add(
        row_blocks, rest_rows,
        [&](int64_t b, Range columns, float* to) {
            rests_to(b, columns, to);
            scale_rows(b, columns, to);
        },
        [&](int64_t b, Range columns, float* to) {
            rests_to(b, columns, to);  // for the zeros of padding
            each_top(b, columns, [&](int64_t at, double value) { to[at] = static_cast<float>(value); });
        },
        out);
    mirror(d, out);
}

}  // namespace msma
