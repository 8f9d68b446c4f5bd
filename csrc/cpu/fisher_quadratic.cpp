// v^T G(h) v = sum_t p_t (u_t - ubar)^2, u = W v: a variance of logits, merged from those of the blocks of tokens.
#include "fisher_chunk.hpp"
#include "msma/fisher.hpp"

namespace msma {

void logit_fisher_quadratic(const HiddenRows& h, const TokenHead& head, const float* v, int threads, float* out) {
    const int64_t n = h.count;
    const HiddenRows second{v, n, head.dimension};
    // No logits are kept: any number of rows that the second-level cache holds beside a block of W.
    const int64_t step = chunk_rows(n, 1.0, 2, best_fisher_body().lanes);
    FisherChunk chunk(head, step, true, false, worthy_threads(n, head, threads));
    for (int64_t c = 0; c < ceil_div(n, step); ++c) {
        const Range rows = nth(c, step, n);
        chunk.softmax(h, &second, rows);
        for (int64_t r = 0; r < rows.size(); ++r) out[rows.begin + r] = static_cast<float>(chunk.variance(r));
    }
}

}  // namespace msma
