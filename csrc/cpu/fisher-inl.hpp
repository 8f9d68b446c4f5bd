// The body of the Fisher metric, compiled once per instruction set; see fisher_body.hpp for what it does.
//
// One register tile serves every product: R broadcast values against C registers, R C sums in registers. The loads of a
// step (R + C) stay below its multiply-adds (R C), so the arithmetic units set the pace.
//
// The including file defines MSMA_ISA, one of MSMA_LANES_*, and the tile MSMA_FISHER_ROWS x MSMA_FISHER_COLUMNS.
#pragma once

#include <cfloat>
#include <type_traits>

#include "exponential.hpp"
#include "fisher_body.hpp"
#include "weights.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

constexpr int R = MSMA_FISHER_ROWS;
constexpr int64_t L = kFloats;
// Coordinates of logits that are summed one after the other; these sums are added. One sum over d = 576 has twice the
// error of BLAS. Their part of the panel of h stays in the first-level cache.
constexpr int64_t kCoordinates = 64;
static_assert(kFloats % R == 0 && kCoordinates % kFloats == 0, "tiles fill a group, groups fill a step");

// sum[r][c] += sum_k a[r * kRow + k * kStep] b[c * column + k * L]
template <int C, int64_t kRow, int64_t kStep>
inline void multiply_tile(const float* a, const float* b, int64_t column, int64_t steps, Floats (&sum)[R][C]) {
    for (int64_t k = 0; k < steps; ++k) {
        Floats right[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) right[c] = load_floats(b + c * column + k * L);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            const Floats left = fill_floats(a[r * kRow + k * kStep]);
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) sum[r][c] = multiply_add(left, right[c], sum[r][c]);
        }
    }
}

// Touches the lines of an Ahead, a few at a time: `share` of them for each of `turns` turns.
class Prefetch {
  public:
    Prefetch(const Ahead& ahead, int64_t turns)
        : row_(ahead.from),
          rows_(ahead.bytes > 0 ? ahead.rows : 0),
          bytes_(ahead.bytes),
          stride_(ahead.stride),
          share_(turns > 0 ? (rows_ * ((bytes_ + 63) / 64) + turns - 1) / turns : 0) {}

    void turn() {
        for (int64_t k = 0; k < share_ && rows_ > 0; ++k) {
#if defined(__GNUC__)
            __builtin_prefetch(row_ + at_);
#endif
            at_ += 64;
            if (at_ < bytes_) continue;
            at_ = 0;
            row_ += stride_;
            --rows_;
        }
    }

  private:
    const char* row_;
    int64_t rows_, bytes_, stride_, share_, at_ = 0;
};

// Calls use(std::integral_constant C, first group) for groups taken C at a time.
template <int C, typename Use>
inline void for_columns(int64_t groups, const Use& use, int64_t first = 0) {
    for (; first + C <= groups; first += C) use(std::integral_constant<int, C>{}, first);
    if constexpr (C > 1) for_columns<C - 1>(groups, use, first);
}

void logits(const float* w, int64_t T, int64_t d, const float* h, int64_t groups, float* out, const Ahead& ahead) {
    Prefetch prefetch(ahead, (d + L - 1) / L * (T / R) * ((groups + MSMA_FISHER_COLUMNS - 1) / MSMA_FISHER_COLUMNS));
    for (int64_t begin = 0; begin < d; begin += kCoordinates) {
        const int64_t end = d - begin < kCoordinates ? d : begin + kCoordinates;
        for_columns<MSMA_FISHER_COLUMNS>(groups, [&](auto width, int64_t g) {
            constexpr int C = width;
            for (int64_t t = 0; t < T; t += R) {
                Floats sum[R][C];
                float* const to = out + (g * T + t) * L;
#pragma GCC unroll 16
                for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
                    for (int c = 0; c < C; ++c) sum[r][c] = zero_floats();
                }
                for (int64_t k = begin; k < end; k += L) {
                    const float *left = w + k * T + t * L, *right = h + (g * d + k) * L;
                    if (end - k >= L) {
                        multiply_tile<C, L, 1>(left, right, d * L, L, sum);
                        prefetch.turn();
                    } else {
                        multiply_tile<C, L, 1>(left, right, d * L, end - k, sum);
                    }
                }
#pragma GCC unroll 16
                for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
                    for (int c = 0; c < C; ++c) {
                        float* const at = to + (c * T + r) * L;
                        store(at, begin ? add(load_floats(at), sum[r][c]) : sum[r][c]);
                    }
                }
            }
        });
    }
}

void products(const float* e, int64_t T, int64_t tokens, int64_t rows, const float* w, int64_t columns,
              const float* scale, float* out, int64_t stride, const Ahead& ahead) {
    Prefetch prefetch(ahead,
                      (tokens + L - 1) / L * (rows / R) * ((columns + MSMA_FISHER_COLUMNS - 1) / MSMA_FISHER_COLUMNS));
    for_columns<MSMA_FISHER_COLUMNS>(columns, [&](auto width, int64_t g) {
        constexpr int C = width;
        for (int64_t first = 0; first < rows; first += R) {
            Floats sum[R][C];
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
                for (int c = 0; c < C; ++c) sum[r][c] = zero_floats();
            }
            const float *const left = e + first / L * T * L + first % L, *const right = w + g * T * L;
            int64_t t = 0;
            for (; t + L <= tokens; t += L) {
                multiply_tile<C, 1, L>(left + t * L, right + t * L, T * L, L, sum);
                prefetch.turn();
            }
            multiply_tile<C, 1, L>(left + t * L, right + t * L, T * L, tokens - t, sum);
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
                for (int c = 0; c < C; ++c) {
                    float* const to = out + ((g + c) * stride + first + r) * L;
                    store(to, multiply_add(sum[r][c], fill_floats(scale[first + r]), load_floats(to)));
                }
            }
        }
    });
}

template <typename Element>
void pack_rows(const Element* from, int64_t stride, int64_t count, int64_t columns, const float* centre, int64_t T,
               float* to) {
    const int64_t whole = columns / L;
    for (int64_t t = 0; t < T; ++t) {
        const Element* const row = from + t * stride;
        float* put = to + t * L;
        if (t >= count) {
            for (int64_t g = 0; g < whole + (columns % L != 0); ++g, put += T * L) store(put, zero_floats());
            continue;
        }
        for (int64_t g = 0; g < whole; ++g, put += T * L) {
            for (int64_t l = 0; l < L; ++l) put[l] = widen(row[g * L + l]) - centre[g * L + l];
        }
        if (columns % L == 0) continue;
        for (int64_t l = 0; l < L; ++l) {
            const int64_t c = whole * L + l;
            put[l] = c < columns ? widen(row[c]) - centre[c] : 0.0f;
        }
    }
}

void pack(const TokenHead& head, int64_t token, int64_t column, int64_t count, int64_t columns, const float* centre,
          int64_t T, float* to) {
    const int64_t at = token * head.stride + column;
    switch (head.type) {
        case WeightType::float32:
            return pack_rows(static_cast<const float*>(head.weight) + at, head.stride, count, columns, centre, T, to);
        case WeightType::bfloat16:
            return pack_rows(static_cast<const Bfloat16*>(head.weight) + at, head.stride, count, columns, centre, T,
                             to);
        case WeightType::float16:
            return pack_rows(static_cast<const Float16*>(head.weight) + at, head.stride, count, columns, centre, T, to);
    }
}

inline Floats biased(const float* logits, const float* bias, int64_t t) {
    const Floats value = load_floats(logits + t * L);
    return bias ? add(value, fill_floats(bias[t])) : value;
}

// A peak is finite or +infinity, so that a block of nothing but -infinity has exponentials 0, not NaN.
void exponents(float* logits, const float* bias, int64_t T, int64_t tokens, int64_t groups, float* peak, float* sum) {
    for (int64_t g = 0; g < groups; ++g, logits += T * L) {
        Floats top = fill_floats(-FLT_MAX);
        for (int64_t t = 0; t < tokens; ++t) top = larger_of(top, biased(logits, bias, t));
        Floats sums[2] = {zero_floats(), zero_floats()};
        for (int64_t t = 0; t < tokens; ++t) {
            const Floats e = exponential(subtract(biased(logits, bias, t), top));
            store(logits + t * L, e);
            sums[t & 1] = add(sums[t & 1], e);
        }
        store(peak + g * L, top);
        store(sum + g * L, add(sums[0], sums[1]));
    }
}

void moments(const float* e, const float* u, const float* sum, int64_t T, int64_t tokens, int64_t groups,
             const Moments& to) {
    for (int64_t g = 0; g < groups; ++g, e += T * L, u += T * L) {
        Floats most = zero_floats(), at = zero_floats();
        for (int64_t t = 0; t < tokens; ++t) {
            const Floats weight = load_floats(e + t * L);
            at = select_above(weight, most, load_floats(u + t * L), at);
            most = larger_of(most, weight);
        }
        Floats sums[2] = {zero_floats(), zero_floats()};
        for (int64_t t = 0; t < tokens; ++t) {
            const Floats off = subtract(load_floats(u + t * L), at);
            sums[t & 1] = multiply_add(load_floats(e + t * L), off, sums[t & 1]);
        }
        // A block of nothing but -infinity has the sum 0.
        const Floats total = larger_of(fill_floats(FLT_MIN), load_floats(sum + g * L));
        const Floats shift = divide(add(sums[0], sums[1]), total);
        Floats spread = zero_floats();
        for (int64_t t = 0; t < tokens; ++t) {
            const Floats off = subtract(subtract(load_floats(u + t * L), at), shift);
            spread = multiply_add(multiply(load_floats(e + t * L), off), off, spread);
        }
        store(to.at + g * L, at);
        store(to.shift + g * L, shift);
        store(to.spread + g * L, spread);
    }
}

void deviations(const float* e, const float* u, const float* at, const float* shift, int64_t T, int64_t tokens,
                int64_t groups, float* q) {
    for (int64_t g = 0; g < groups; ++g) {
        const Floats near = load_floats(at + g * L), rest = load_floats(shift + g * L);
        for (int64_t k = g * T * L; k < (g * T + tokens) * L; k += L) {
            store(q + k, multiply(load_floats(e + k), subtract(subtract(load_floats(u + k), near), rest)));
        }
    }
}

void token_sums(const float* e, const float* scale, int64_t T, int64_t tokens, int64_t groups, double* to) {
    for (int64_t t = 0; t < tokens; ++t) {
        Floats sum = zero_floats();
        for (int64_t g = 0; g < groups; ++g) {
            sum = multiply_add(load_floats(e + (g * T + t) * L), load_floats(scale + g * L), sum);
        }
        alignas(64) float lanes[L];
        store(lanes, sum);
        for (int64_t width = L / 2; width > 0; width /= 2) {
            for (int64_t l = 0; l < width; ++l) lanes[l] += lanes[l + width];
        }
        to[t] += static_cast<double>(lanes[0]);
    }
}

void row_sums(const float* e, const float* of, int64_t T, int64_t tokens, int64_t groups, float* sums) {
    for (int64_t g = 0; g < groups; ++g, e += T * L) {
        Floats sum = zero_floats();
        for (int64_t t = 0; t < tokens; ++t) sum = multiply_add(load_floats(e + t * L), fill_floats(of[t]), sum);
        store(sums + g * L, sum);
    }
}

void scaled(const float* from, const float* by, int64_t T, int64_t tokens, int64_t groups, float* to) {
    for (int64_t g = 0; g < groups; ++g, from += T * L, to += T * L) {
        for (int64_t t = 0; t < tokens; ++t) {
            const Floats value = load_floats(from + t * L);
            store(to + t * L, multiply(value, by ? fill_floats(by[t]) : value));
        }
    }
}

void root_exponents(float* logits, const float* bias, const float* centre, int64_t T, int64_t tokens, int64_t groups,
                    float* top, float* sums) {
    const Floats most = fill_floats(2 * 88.0f);
    for (int64_t g = 0; g < groups; ++g, logits += T * L) {
        const Floats middle = load_floats(centre + g * L);
        Floats largest = load_floats(top + g * L), sum[2] = {zero_floats(), zero_floats()};
        for (int64_t t = 0; t < tokens; ++t) {
            const Floats off = subtract(biased(logits, bias, t), middle);
            largest = larger_of(largest, off);
            const Floats bounded = select_above(off, most, most, off);
            const Floats root = exponential(multiply(bounded, fill_floats(0.5f)));
            store(logits + t * L, root);
            sum[t & 1] = multiply_add(root, root, sum[t & 1]);
        }
        store(top + g * L, largest);
        store(sums + g * L, add(sum[0], sum[1]));
    }
}

void grown_sums(const float* e, const float* u, const float* at, const float* shift, bool half, int64_t T,
                int64_t tokens, int64_t groups, float* sums) {
    const Floats most = fill_floats(88.0f), factor = fill_floats(half ? 0.5f : 1.0f);
    for (int64_t g = 0; g < groups; ++g, e += T * L, u += T * L) {
        const Floats near = load_floats(at + g * L), rest = load_floats(shift + g * L);
        Floats sum = zero_floats();
        for (int64_t t = 0; t < tokens; ++t) {
            const Floats off = multiply(subtract(subtract(load_floats(u + t * L), near), rest), factor);
            const Floats grown = exponential_minus_one(select_above(off, most, most, off));
            const Floats weighted = multiply(load_floats(e + t * L), grown);
            sum = half ? multiply_add(weighted, grown, sum) : add(sum, weighted);
        }
        store(sums + g * L, sum);
    }
}

}  // namespace

FisherBody fisher_body() {
    return {kFloats,    R,          pack,     logits, products,       exponents, moments,
            deviations, token_sums, row_sums, scaled, root_exponents, grown_sums};
}

}  // namespace MSMA_ISA
}  // namespace msma
