// What one compiled body offers to the drivers of the Fisher metric (fisher_*.cpp).
//
// Everything lies in groups of `lanes` values: a panel of T rows by G groups holds value (t, g, l) at
// (g * T + t) * lanes + l. Tokens run down a panel of logits and rows of h across it, so that a softmax needs no step
// across a register; weights lie with coordinates across, which serves both products.
#pragma once

#include <cstdint>

#include "msma/cpu.hpp"
#include "msma/fisher.hpp"

namespace msma {

// What a block of tokens knows of each row of h, one lane each: e = exp(l - peak) has the sum `sum`; second logits u
// are
//   at (where l is largest) + shift = sum e u / sum on average,  spread = sum e (u - at - shift)^2.
// Away from `at`, the average of a distribution that is all but one token keeps its digits.
struct Moments {
    float *at, *shift, *spread;
};

// Memory to be read next, fetched while a product runs: `rows` rows of `bytes`, `stride` bytes apart. Without it a
// seventh of the time goes into waiting for rows of W (AMD Zen 4).
struct Ahead {
    const char* from;
    int64_t rows, bytes, stride;
};

struct FisherBody {
    int64_t lanes;  // floats of a register
    int64_t tile;   // rows at a time: divides `lanes` and every panel's T

    // `count` weight rows less `centre`, columns [0, columns), to a panel of T rows; rows and columns of padding are
    // zero.
    void (*pack)(const TokenHead& head, int64_t token, int64_t column, int64_t count, int64_t columns,
                 const float* centre, int64_t T, float* to);
    // logits (T tokens, groups of h): sum_k w_tk h_k. w: panel of T rows by ceil(d / lanes); h: panel of d rows.
    void (*logits)(const float* w, int64_t T, int64_t d, const float* h, int64_t groups, float* out,
                   const Ahead& ahead);
    // out[r][c] += scale[r] sum_t e[t][r] w[t][c], t < tokens, r < rows: e panel of T rows, w panel of T rows by
    // `columns` groups, out panel of `stride` rows.
    void (*products)(const float* e, int64_t T, int64_t tokens, int64_t rows, const float* w, int64_t columns,
                     const float* scale, float* out, int64_t stride, const Ahead& ahead);
    // Logits to exp(l + bias - peak), in place; bias may be null.
    void (*exponents)(float* logits, const float* bias, int64_t T, int64_t tokens, int64_t groups, float* peak,
                      float* sum);
    void (*moments)(const float* e, const float* u, const float* sum, int64_t T, int64_t tokens, int64_t groups,
                    const Moments& to);
    // q = e (u - at - shift) for one at and shift a row of h.
    void (*deviations)(const float* e, const float* u, const float* at, const float* shift, int64_t T, int64_t tokens,
                       int64_t groups, float* q);
    // to[t] += sum_r scale[r] e[t][r].
    void (*token_sums)(const float* e, const float* scale, int64_t T, int64_t tokens, int64_t groups, double* to);
    // sums[r] = sum_t e[t][r] of[t].
    void (*row_sums)(const float* e, const float* of, int64_t T, int64_t tokens, int64_t groups, float* sums);
    // to[t][c] = from[t][c] * by[t]; by null: its own square.
    void (*scaled)(const float* from, const float* by, int64_t T, int64_t tokens, int64_t groups, float* to);
    // Logits to exp((l + bias - centre) / 2), in place; top = max(top, l + bias - centre), sums[r] = sum_t of squares.
    void (*root_exponents)(float* logits, const float* bias, const float* centre, int64_t T, int64_t tokens,
                           int64_t groups, float* top, float* sums);
    // sums[r] = sum_t e expm1(u - at - shift), or (half) of expm1((u - at - shift) / 2)^2.
    void (*grown_sums)(const float* e, const float* u, const float* at, const float* shift, bool half, int64_t T,
                       int64_t tokens, int64_t groups, float* sums);
};

namespace scalar {
FisherBody fisher_body();
}
#ifdef MSMA_X86_BODIES
namespace avx2 {
FisherBody fisher_body();
}
namespace avx512 {
FisherBody fisher_body();
}
#endif

inline FisherBody best_fisher_body() {
#ifdef MSMA_X86_BODIES
    if (at_least(InstructionSet::avx512)) return avx512::fisher_body();
    if (at_least(InstructionSet::avx2)) return avx2::fisher_body();
#endif
    return scalar::fisher_body();
}

}  // namespace msma
