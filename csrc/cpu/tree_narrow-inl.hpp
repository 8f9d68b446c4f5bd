// Bounds for the canonical keys of float32 points by float32 sums: twice the points an instruction, half the memory.
//
//     |narrow - canonical| <= c 2^-24 canonical + d p 2^-149      c = d + 2 p + 2
//
// The coordinates are exact; of a term, the difference and the p - 1 products are rounded, and d sums; 2^-149 is what a
// step may lose where it is subnormal. The canonical key's own rounding is nothing beside that. So keys up to low =
// threshold (1 - 2 c 2^-24) are surely within the threshold and those above high = threshold (1 + 2 c 2^-24) surely
// beyond; the doubled c pays for what subnormal steps lose, for the rounding of low and high and for the square of
// small things. Points between have their canonical key computed. Thresholds near the ends of float32 are left to
// float64: there nearly every point would be between.
#pragma once

#include "narrow.hpp"
#include "tree_view.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

#if defined(__GNUC__)
#define MSMA_INLINE inline __attribute__((always_inline))  // GCC 12 leaves a call in the innermost loop
#else
#define MSMA_INLINE inline
#endif

// What a query asks of keys; low and high only where `narrow`.
struct Limits {
    double threshold;
    float low, high;
    bool narrow;
};

inline Limits limits_of(const TreeSearch& search, double threshold) {
    if (!search.points.narrow_points || !(threshold >= 0x1p-100 && threshold <= 0x1p100)) {
        return {threshold, 0.0f, 0.0f, false};
    }
    const int p = search.kind == Kind::minkowski ? search.p : 2;
    const double share = (search.points.width + 2 * p + 2) * 0x1p-23;
    return {threshold, static_cast<float>(threshold * (1.0 - share)), static_cast<float>(threshold * (1.0 + share)),
            true};
}

template <Kind kind>
inline Narrow gather(Narrow sum, Narrow x, Narrow y, [[maybe_unused]] int p) {
    const Narrow a = subtract(x, y);
    if constexpr (kind == Kind::sqeuclidean) {
        return multiply_add(a, a, sum);
    } else if constexpr (kind == Kind::manhattan) {
        return add(sum, absolute(a));
    } else if constexpr (kind == Kind::chebyshev) {
        return maximum(sum, absolute(a));
    } else {
        const Narrow size = absolute(a);
        Narrow power = size;
        for (int factor = 1; factor < p; ++factor) power = multiply(power, size);
        return add(sum, power);
    }
}

// Two sums, whose latencies overlap.
template <Kind kind, int D, typename Other>
MSMA_INLINE Narrow narrow_key(const Narrow* at, Other other, int p) {
    Narrow sum[2] = {narrow_zero(), narrow_zero()};
#pragma GCC unroll 16
    for (int j = 0; j < D; ++j) sum[j % 2] = gather<kind>(sum[j % 2], at[j], other(j), p);
    return kind == Kind::chebyshev ? maximum(sum[0], sum[1]) : add(sum[0], sum[1]);
}

// The points of `count` <= 8 blocks in a row that may have a key of at most `high`, as bits 8 b + lane.
template <Kind kind, int D>
uint64_t narrow_leaf(const float* query, const float* points, int64_t count, int p, float high) {
    const Narrow top = narrow_all(high);
    Narrow at[D];
#pragma GCC unroll 16
    for (int j = 0; j < D; ++j) at[j] = narrow_all(query[j]);
    uint64_t near = 0;
    for (int64_t b = 0; b < count; b += 2) {
        const float* first = points + b * (D * kBlock);
        const float* second = b + 1 < count ? first + D * kBlock : first;  // its bits are cleared below
        const Narrow key =
            narrow_key<kind, D>(at, [&](int j) { return load(first + j * kBlock, second + j * kBlock); }, p);
        near |= static_cast<uint64_t>(not_above(key, top)) << b * 8;
    }
    return count < 8 ? near & ((uint64_t{1} << count * 8) - 1) : near;
}

// near (words,): points of the blocks blocks[8 w + s] that may be within the limits, as bits 8 s + lane of near[w];
// open (words,): those of them that may also be beyond.
template <Kind kind, int D>
void narrow_points(const double* query, const float* points, const int32_t* blocks, int words, int p,
                   const Limits& limits, uint64_t* near, uint64_t* open) {
    const Narrow low = narrow_all(limits.low), high = narrow_all(limits.high);
    Narrow at[D];
#pragma GCC unroll 16
    for (int j = 0; j < D; ++j) at[j] = narrow_all(static_cast<float>(query[j]));
    for (int w = 0; w < words; ++w, blocks += 8) {
        uint64_t within = 0, sure = 0;
#pragma GCC unroll 1
        for (int s = 0; s < 8; s += 2) {
            const float* first = points + int64_t{blocks[s]} * (D * kBlock);
            const float* second = points + int64_t{blocks[s + 1]} * (D * kBlock);
            const Narrow key =
                narrow_key<kind, D>(at, [&](int j) { return load(first + j * kBlock, second + j * kBlock); }, p);
            within |= static_cast<uint64_t>(not_above(key, high)) << s * 8;
            sure |= static_cast<uint64_t>(not_above(key, low)) << s * 8;
        }
        near[w] = within;
        open[w] = within & ~sure;
    }
}

// near (words,): the boxes of the groups groups[8 w + s] that may have a point within the limits, as bits 8 s + child.
template <Kind kind, int D>
void narrow_groups(const double* query, const float* boxes, const int32_t* groups, int words, int p,
                   const Limits& limits, uint64_t* near) {
    const Narrow high = narrow_all(limits.high);
    Narrow at[D];
#pragma GCC unroll 16
    for (int j = 0; j < D; ++j) at[j] = narrow_all(static_cast<float>(query[j]));
    for (int w = 0; w < words; ++w, groups += 8) {
        uint64_t within = 0;
#pragma GCC unroll 1
        for (int s = 0; s < 8; s += 2) {
            const float* first = boxes + int64_t{groups[s]} * (D * 2 * kBlock);
            const float* second = boxes + int64_t{groups[s + 1]} * (D * 2 * kBlock);
            const auto nearest = [&](int j) {
                const int low = j * 2 * kBlock, top = low + kBlock;
                return clamp(at[j], load(first + low, second + low), load(first + top, second + top));
            };
            const Narrow key = narrow_key<kind, D>(at, nearest, p);
            within |= static_cast<uint64_t>(not_above(key, high)) << s * 8;
        }
        near[w] = within;
    }
}

}  // namespace
}  // namespace MSMA_ISA
}  // namespace msma
