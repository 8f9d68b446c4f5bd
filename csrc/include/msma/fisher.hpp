// The Fisher metric of a softmax over tokens, pulled back to hidden space, and the Fisher-Rao distance of the token
// distributions. With logits l = W h + b and p = softmax(l), p and u = W v vectors over the V tokens:
//   G(h) = W^T (diag p - p p^T) W = sum_t p_t (w_t - m) (w_t - m)^T,   m = W^T p
// Raw pointers and sizes, no Python and no torch.
//
// Hidden states, bias and results are float32; rows of W are float16, bfloat16 or float32 and are widened some hundred
// at a time. Nothing of size n x V is stored: logits live in chunks of rows (see fisher_chunks.hpp). Results do not
// depend on the number of threads.
#pragma once

#include <cstdint>

namespace msma {

enum class WeightType { float16, bfloat16, float32 };

// l = W h + b: rows of W `stride` elements apart, each contiguous; bias may be null.
struct TokenHead {
    const void* weight;
    WeightType type;
    int64_t tokens, dimension, stride;
    const float* bias;
};

// `count` rows of head.dimension values, `stride` apart.
struct HiddenRows {
    const float* values;
    int64_t count, stride;
};

// out (n, r, d): G(h_i) v_ir = sum_t p_t (u_t - ubar) w_t; v holds n r rows, contiguous.
void logit_fisher_vp(const HiddenRows& h, const TokenHead& head, const float* v, int64_t vectors, int threads,
                     float* out);

// out (n,): v^T G v = sum_t p_t (u_t - ubar)^2; v (n, d) contiguous.
void logit_fisher_quadratic(const HiddenRows& h, const TokenHead& head, const float* v, int threads, float* out);

// out (d, d): sum_i s_i G(h_i), symmetric; shares null: s_i = 1 / n.
void logit_fisher_mean(const HiddenRows& h, const TokenHead& head, const float* shares, int threads, float* out);

// out (n, d): the diagonals of G(h_i), sum_t p_t (w_tj - m_j)^2.
void logit_fisher_diag(const HiddenRows& h, const TokenHead& head, int threads, float* out);

// out (n,): the traces of G(h_i), sum_t p_t |w_t - m|^2.
void logit_fisher_trace(const HiddenRows& h, const TokenHead& head, int threads, float* out);

// out (n, m): 2 arccos(sum_t sqrt(p_t q_t)); other null: of h's own pairs, symmetric with a zero diagonal. Where more
// than most_close pairs of different rows are so close that differences of logits have to decide, these are left below
// zero.
void fisher_rao_distances(const HiddenRows& h, const TokenHead& head, const HiddenRows* other, int64_t most_close,
                          int threads, float* out);

}  // namespace msma
