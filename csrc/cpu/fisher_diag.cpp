// The diagonal of G(h), and its sum. With the most probable token `a` apart (as in fisher_mean.cpp), coordinate j has
//   sum_{t != a} p_t w_tj^2 + p_a (1 - p_a) w_aj^2 - 2 p_a w_aj r_j - r_j^2,   r = sum_{t != a} p_t w_t
#include <numeric>
#include <vector>

#include "fisher_chunk.hpp"
#include "msma/fisher.hpp"
#include "parallel.hpp"

namespace msma {
namespace {

// A chunk of rows with its tops taken and r summed, for use(places, chunk, tops, r): row `r` of the chunk is row
// places[r] of h. Rows whose top lies far from the usual come again, about the mean of their tops, and overwrite what
// they had.
template <typename Use>
void for_chunks(const HiddenRows& h, const TokenHead& head, int threads, const Use& use) {
    const int64_t n = h.count, d = head.dimension, L = best_fisher_body().lanes;
    // The diagonals take as much memory as d / V of the logits.
    const double memory = 0.045 - static_cast<double>(d) / static_cast<double>(head.tokens);
    const int64_t step = chunk_rows(n, memory, 1, L);
    FisherChunk chunk(head, step, false, true, worthy_threads(n, head, threads));
    const Buffer<float> rests(chunk.stride() * ceil_div(d, L) * L);
    const auto once = [&](const HiddenRows& from, Range rows, const std::vector<int64_t>& places) {
        chunk.softmax(from, nullptr, rows);
        std::vector<Top> tops = chunk.take_tops(rows.size());
        chunk.products([&](int64_t b, float*) { return chunk.e(b); }, false, rests.get());
        use(places, chunk, tops, rests.get());
        return tops;
    };
    for (int64_t c = 0; c < ceil_div(n, step); ++c) {
        const Range rows = nth(c, step, n);
        std::vector<int64_t> places(static_cast<size_t>(rows.size()));
        std::iota(places.begin(), places.end(), rows.begin);
        const std::vector<Top> tops = once(h, rows, places);
        const std::vector<int64_t> far = chunk.far_rows(tops);
        if (far.empty()) continue;
        std::vector<int64_t> there, tokens;
        std::vector<float> values;
        for (const int64_t r : far) {
            const float* const row = h.values + (rows.begin + r) * h.stride;
            values.insert(values.end(), row, row + d);
            there.push_back(rows.begin + r);
            tokens.push_back(tops[static_cast<size_t>(r)].token);
        }
        chunk.centre_on(tokens);
        once({values.data(), static_cast<int64_t>(far.size()), d}, {0, static_cast<int64_t>(far.size())}, there);
        chunk.centre_on({});
    }
}

// use(r, k, value) for the terms of the top token and of r at row r, coordinate k.
template <typename Use>
void for_top_terms(const TokenHead& head, const FisherChunk& chunk, const std::vector<Top>& tops, const float* rests,
                   const Use& use) {
    const int64_t L = chunk.body().lanes;
    std::vector<float> row(static_cast<size_t>(head.dimension));
    for (int64_t r = 0; r < static_cast<int64_t>(tops.size()); ++r) {
        const Top& top = tops[static_cast<size_t>(r)];
        token_row(head, top.token, chunk.centre(), row.data());
        for (int64_t k = 0; k < head.dimension; ++k) {
            const double w = static_cast<double>(row[static_cast<size_t>(k)]);
            const double rest = static_cast<double>(rests[(k / L * chunk.stride() + r) * L + k % L]);
            use(r, k, top.p * w * (top.rest * w - 2.0 * rest) - rest * rest);
        }
    }
}

// (V,): |w_t - centre|^2
std::vector<float> norms_of(const TokenHead& head, const std::vector<float>& centre, int threads) {
    const int64_t V = head.tokens, d = head.dimension;
    std::vector<float> norms(static_cast<size_t>(V));
    parallel_for(ceil_div(V, 256), worth_starting(V, d, threads), [&](int64_t task, int) {
        std::vector<float> row(static_cast<size_t>(d));
        const Range tokens = nth(task, 256, V);
        for (int64_t t = tokens.begin; t < tokens.end; ++t) {
            token_row(head, t, centre.data(), row.data());
            double sum = 0.0;
            for (const float value : row) sum += static_cast<double>(value) * static_cast<double>(value);
            norms[static_cast<size_t>(t)] = static_cast<float>(sum);
        }
    });
    return norms;
}

}  // namespace

void logit_fisher_diag(const HiddenRows& h, const TokenHead& head, int threads, float* out) {
    const int64_t d = head.dimension, L = best_fisher_body().lanes;
    Buffer<float> squares;
    for_chunks(h, head, threads,
               [&](const std::vector<int64_t>& places, const FisherChunk& chunk, const std::vector<Top>& tops,
                   const float* rests) {
                   if (!squares) squares = Buffer<float>(chunk.stride() * ceil_div(d, L) * L);
                   chunk.products([&](int64_t b, float*) { return chunk.e(b); }, true, squares.get());
                   for_top_terms(head, chunk, tops, rests, [&](int64_t r, int64_t k, double terms) {
                       const double sum = static_cast<double>(squares[(k / L * chunk.stride() + r) * L + k % L]);
                       out[places[static_cast<size_t>(r)] * d + k] = static_cast<float>(sum + terms);
                   });
               });
}

void logit_fisher_trace(const HiddenRows& h, const TokenHead& head, int threads, float* out) {
    const std::vector<float> usual = centre_of(head);
    const std::vector<float> usual_norms = norms_of(head, usual, threads);
    for_chunks(h, head, threads,
               [&](const std::vector<int64_t>& places, const FisherChunk& chunk, const std::vector<Top>& tops,
                   const float* rests) {
                   const int64_t count = chunk.blocks().count(), stride = chunk.stride();
                   const std::vector<float> centre(chunk.centre(), chunk.centre() + head.dimension);
                   const std::vector<float> norms = centre == usual ? usual_norms : norms_of(head, centre, threads);
                   const Buffer<float> sums(count * stride);
                   parallel_for(count, chunk.threads(), [&](int64_t b, int) {
                       chunk.body().row_sums(chunk.e(b), norms.data() + chunk.blocks()[b].begin, chunk.blocks().size,
                                             chunk.blocks()[b].size(), stride / chunk.body().lanes,
                                             sums.get() + b * stride);
                   });
                   std::vector<double> traces(tops.size());
                   for_top_terms(head, chunk, tops, rests,
                                 [&](int64_t r, int64_t, double terms) { traces[static_cast<size_t>(r)] += terms; });
                   for (size_t r = 0; r < tops.size(); ++r) {
                       for (int64_t b = 0; b < count; ++b) {
                           traces[r] += static_cast<double>(chunk.share(b)[r]) *
                                        static_cast<double>(sums[b * stride + static_cast<int64_t>(r)]);
                       }
                       out[places[r]] = static_cast<float>(traces[r]);
                   }
               });
}

}  // namespace msma
