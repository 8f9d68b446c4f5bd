// G(h_i) v_ir = sum_t p_t (u_t - ubar) w_t with u = W v_ir, ubar = sum_t p_t u_t.
//
// The factors p (u - ubar) sum to zero up to the rounding of u - ubar itself, so that a common row of W drops out and
// one token that is all but certain costs no digits. Three products of size n V d: logits, u, and the sum over tokens.
#include "fisher_chunk.hpp"
#include "msma/fisher.hpp"

namespace msma {

void logit_fisher_vp(const HiddenRows& h, const TokenHead& head, const float* v, int64_t vectors, int threads,
                     float* out) {
    const int64_t n = h.count, d = head.dimension;
    if (vectors == 0) return;
    threads = worthy_threads(n * vectors, head, threads);
    const FisherBody body = best_fisher_body();
    // The products take as much memory as a d / V of the logits each.
    const double memory = 0.045 - static_cast<double>(vectors * d) / static_cast<double>(head.tokens);
    const int64_t step = chunk_rows(n, memory, 2, body.lanes);
    FisherChunk chunk(head, step, true, true, threads);
    const Buffer<float> sums(chunk.stride() * ceil_div(d, body.lanes) * body.lanes);
    for (int64_t c = 0; c < ceil_div(n, step); ++c) {
        const Range rows = nth(c, step, n);
        for (int64_t j = 0; j < vectors; ++j) {
            const HiddenRows second{v + j * d, n, vectors * d};
            j == 0 ? chunk.softmax(h, &second, rows) : chunk.seconds(second, rows);
            chunk.products(
                [&](int64_t b, float* room) {
                    body.deviations(chunk.e(b), chunk.u(b), chunk.at(), chunk.shift(), chunk.blocks().size,
                                    chunk.blocks()[b].size(), chunk.stride() / body.lanes, room);
                    return room;
                },
                false, sums.get());
            float* const to = out + (rows.begin * vectors + j) * d;
            for_panel(sums.get(), chunk.stride(), body.lanes, rows.size(), d,
                      [&](int64_t r, int64_t k, float value) { to[r * vectors * d + k] = value; });
        }
    }
}

}  // namespace msma
