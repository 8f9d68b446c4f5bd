// Canonical keys of one query and 8 points or 8 boxes at once: a Lanes holds one coordinate of all 8, so the
// eight lanes of the definition are eight registers, combined in its order.
//
// A missing lane is +0.0, and adding it to a term changes nothing: terms are never -0.0. So d < 8 coordinates
// cost d terms and d - 1 additions.
//
// Boxes: of all points in a box, the one that repeats the query's coordinates as far as the box allows has the
// smallest |x_j - y_j| in every coordinate, and the corner farthest from the query the largest. Rounding is
// monotone in every step, so the canonical keys of these two, computed like any other, are bounds for the keys
// of all points in the box: exact ones, without a margin.
#pragma once

#include "masks.hpp"
#include "term-inl.hpp"
#include "tree_narrow-inl.hpp"
#include "tree_view.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

// The keys from their terms, term(j) for j < D.
template <Kind kind, int D, typename Term>
MSMA_INLINE Lanes key_of(Term term) {
    Lanes lane[kLanes];
#pragma GCC unroll 8
    for (int j = 0; j < (D < 8 ? D : 8); ++j) lane[j] = term(j);
#pragma GCC unroll 8
    for (int j = 8; j < D; ++j) lane[j - 8] = gather<kind>(lane[j - 8], term(j));
    // Lane `right` joins lane `left` where D reaches it.
    const auto join = [&](int left, int right) {
        if (right < D) lane[left] = gather<kind>(lane[left], lane[right]);
    };
    join(0, 4), join(2, 6), join(1, 5), join(3, 7);
    join(0, 2), join(1, 3);
    join(0, 1);
    return lane[0];
}

// keys (count, 8) of the query and `count` <= 8 blocks of points; bit t is set where keys[t] <= limit.
template <Kind kind, int D>
uint64_t leaf_keys(const double* query, const double* points, int64_t count, int p, double limit, double* keys) {
    const Lanes top = broadcast(limit);
    uint64_t near = 0;
    for (int64_t b = 0; b < count; ++b, points += D * kBlock) {
        const Lanes key = key_of<kind, D>(
            [&](int j) { return term<kind>(broadcast(query[j]), load(points + j * kBlock), p, j % 2 == 1); });
        store(keys + b * kBlock, key);
        near |= static_cast<uint64_t>(not_above(key, top)) << (b * kBlock);
    }
    return near;
}

// near (words,): the points with key <= limit of the blocks blocks[8 w + s], as bits 8 s + lane of near[w].
template <Kind kind, int D>
void near_points(const double* query, const double* points, const int32_t* blocks, int words, int p, double limit,
                 uint64_t* near) {
    const Lanes top = broadcast(limit);
    Lanes at[D];
#pragma GCC unroll 16
    for (int j = 0; j < D; ++j) at[j] = broadcast(query[j]);
    for (int w = 0; w < words; ++w, blocks += 8) {
        uint64_t word = 0;
#pragma GCC unroll 1
        for (int s = 0; s < 8; ++s) {
            const double* block = points + int64_t{blocks[s]} * (D * kBlock);
            const Lanes key =
                key_of<kind, D>([&](int j) { return term<kind>(at[j], load(block + j * kBlock), p, j % 2 == 1); });
            word |= static_cast<uint64_t>(not_above(key, top)) << s * 8;
        }
        near[w] = word;
    }
}

// The smallest keys that points in each of 8 boxes can have.
template <Kind kind, int D>
MSMA_INLINE Lanes least_keys(const double* query, const double* boxes, int p) {
    return key_of<kind, D>([&](int j) {
        const Lanes at = broadcast(query[j]);
        const double* box = boxes + j * 2 * kBlock;
        return term<kind>(at, clamp(at, load(box), load(box + kBlock)), p, j % 2 == 1);
    });
}

// near (words,): the boxes that may have a point of key <= limit of the groups groups[8 w + s], as bits 8 s + child
// of near[w].
template <Kind kind, int D>
void near_groups(const double* query, const double* boxes, const int32_t* groups, int words, int p, double limit,
                 uint64_t* near) {
    const Lanes top = broadcast(limit);
    for (int w = 0; w < words; ++w, groups += 8) {
        uint64_t word = 0;
#pragma GCC unroll 1
        for (int s = 0; s < 8; ++s) {
            const Lanes key = least_keys<kind, D>(query, boxes + int64_t{groups[s]} * (D * 2 * kBlock), p);
            word |= static_cast<uint64_t>(not_above(key, top)) << s * 8;
        }
        near[w] = word;
    }
}

// The smallest keys from any point of the box [low, high] to points in each of 8 boxes.
template <Kind kind, int D>
MSMA_INLINE Lanes least_keys_between(const double* low, const double* high, const double* boxes, int p) {
    return key_of<kind, D>([&](int j) {
        const Lanes first = broadcast(low[j]), last = broadcast(high[j]);
        const double* box = boxes + j * 2 * kBlock;
        const Lanes there = clamp(first, load(box), load(box + kBlock));
        return term<kind>(clamp(there, first, last), there, p, j % 2 == 1);
    });
}

// The mask of the boxes where a point of key <= limit from some point of the box [low, high] may be.
template <Kind kind, int D>
Mask near_boxes(const double* low, const double* high, const double* boxes, int p, double limit) {
    return not_above(least_keys_between<kind, D>(low, high, boxes, p), broadcast(limit));
}

// The same, and bounds (8,): those smallest keys, tagged (see masks.hpp).
template <Kind kind, int D>
Mask bounded_boxes(const double* low, const double* high, const double* boxes, int p, double limit, double* bounds) {
    const Lanes key = least_keys_between<kind, D>(low, high, boxes, p);
    store(bounds, tagged(key));
    return not_above(key, broadcast(limit));
}

// Which of 8 queries (D, 8) may have a neighbour in the box of one child of a group, whose smallest index is `least`:
// one before the last they have, (worst, index) (8,) each.
template <Kind kind, int D>
Mask needed_by(const double* queries, const double* boxes, int child, int p, const double* worst, const double* index,
               double least) {
    const Lanes key = key_of<kind, D>([&](int j) {
        const Lanes at = load(queries + j * kBlock);
        const double* box = boxes + j * 2 * kBlock + child;
        return term<kind>(at, clamp(at, broadcast(box[0]), broadcast(box[kBlock])), p, j % 2 == 1);
    });
    const Lanes last = load(worst);
    const Mask within = not_above(key, last), reached = not_above(last, key);
    return within & (~reached | not_above(broadcast(least + 1.0), load(index)));
}

// The mask of the boxes with no point of key > limit from any point of the box [low, high].
template <Kind kind, int D>
Mask inner_boxes(const double* low, const double* high, const double* boxes, int p, double limit) {
    const Lanes key = key_of<kind, D>([&](int j) {
        const double* box = boxes + j * 2 * kBlock;
        return maximum(term<kind>(broadcast(high[j]), load(box), p, true),
                       term<kind>(broadcast(low[j]), load(box + kBlock), p, false));
    });
    return not_above(key, broadcast(limit));
}

struct TreeKernels {
    uint64_t (*leaf)(const double* query, const double* points, int64_t count, int p, double limit, double* keys);
    uint64_t (*narrow_leaf)(const float* query, const float* points, int64_t count, int p, float high);
    Mask (*bounded)(const double* low, const double* high, const double* boxes, int p, double limit, double* bounds);
    Mask (*needed_by)(const double* queries, const double* boxes, int child, int p, const double* worst,
                      const double* index, double least);
    void (*points)(const double* query, const double* points, const int32_t* blocks, int words, int p, double limit,
                   uint64_t* near);
    void (*groups)(const double* query, const double* boxes, const int32_t* groups, int words, int p, double limit,
                   uint64_t* near);
    void (*narrow_points)(const double* query, const float* points, const int32_t* blocks, int words, int p,
                          const Limits& limits, uint64_t* near, uint64_t* open);
    void (*narrow_groups)(const double* query, const float* boxes, const int32_t* groups, int words, int p,
                          const Limits& limits, uint64_t* near);
    Mask (*near)(const double* low, const double* high, const double* boxes, int p, double limit);
    Mask (*inner)(const double* low, const double* high, const double* boxes, int p, double limit);
};

template <Kind kind, int D>
constexpr TreeKernels kernels_for() {
    return {leaf_keys<kind, D>,   narrow_leaf<kind, D>, bounded_boxes<kind, D>, needed_by<kind, D>,
            near_points<kind, D>, near_groups<kind, D>, narrow_points<kind, D>, narrow_groups<kind, D>,
            near_boxes<kind, D>,  inner_boxes<kind, D>};
}

template <int D>
TreeKernels kernels_of_width(Kind kind) {
    switch (kind) {
        case Kind::manhattan:
            return kernels_for<Kind::manhattan, D>();
        case Kind::chebyshev:
            return kernels_for<Kind::chebyshev, D>();
        case Kind::minkowski:
            return kernels_for<Kind::minkowski, D>();
        default:
            return kernels_for<Kind::sqeuclidean, D>();
    }
}

// width as given by tree_width in tree_build.hpp.
inline TreeKernels kernels_of(Kind kind, int width) {
    switch (width) {
        case 1:
            return kernels_of_width<1>(kind);
        case 2:
            return kernels_of_width<2>(kind);
        case 3:
            return kernels_of_width<3>(kind);
        case 4:
            return kernels_of_width<4>(kind);
        case 5:
            return kernels_of_width<5>(kind);
        case 6:
            return kernels_of_width<6>(kind);
        case 7:
            return kernels_of_width<7>(kind);
        case 8:
            return kernels_of_width<8>(kind);
        case 12:
            return kernels_of_width<12>(kind);
        default:
            return kernels_of_width<16>(kind);
    }
}

}  // namespace
}  // namespace MSMA_ISA
}  // namespace msma
