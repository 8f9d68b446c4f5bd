// The smallest joint keys of points, compiled once per instruction set.
//
// smallest: the 8 points of a block are 8 lanes, and every point near them is broadcast to all. The K smallest keys of
// each lane are held in K registers, ascending; a new key sinks through them by minimum and maximum, without a branch.
// From the block the search climbs: at each level the siblings nearer than the greatest K-th key are gone down into,
// nearest first. Values alone are wanted, so that a box at exactly the K-th key has nothing to offer.
// nearest: one point, whose 8 lanes are the points of a block; the first k by (key, index) are a heap with the last on
// top. A box at exactly the last key is left out where its smallest row comes after the last.
// Rounding is monotone, so the canonical key of a point and the nearest place of a box bounds those of the box's
// points.
#pragma once

#include "ksg_axes.hpp"
#include "tree_keys-inl.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

#if defined(MSMA_LANES_AVX512)
inline Lanes lesser(Lanes a, Lanes b) { return _mm512_min_pd(a, b); }
inline Lanes greater(Lanes a, Lanes b) { return _mm512_max_pd(a, b); }
inline Lanes without(Lanes a, Mask out) {
    return _mm512_mask_mov_pd(a, static_cast<__mmask8>(out), _mm512_set1_pd(HUGE_VAL));
}
#elif defined(MSMA_LANES_AVX2)
inline Lanes lesser(Lanes a, Lanes b) { return {_mm256_min_pd(a.low, b.low), _mm256_min_pd(a.high, b.high)}; }
inline Lanes greater(Lanes a, Lanes b) { return {_mm256_max_pd(a.low, b.low), _mm256_max_pd(a.high, b.high)}; }
inline Lanes without(Lanes a, Mask out) {
    const auto half = [out](__m256d v, __m256i bit) {
        const __m256i gone = _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(out), bit), bit);
        return _mm256_blendv_pd(v, _mm256_set1_pd(HUGE_VAL), _mm256_castsi256_pd(gone));
    };
    return {half(a.low, _mm256_setr_epi64x(1, 2, 4, 8)), half(a.high, _mm256_setr_epi64x(16, 32, 64, 128))};
}
#else
inline Lanes lesser(const Lanes& a, const Lanes& b) {
    return each([&](int l) { return a.v[l] < b.v[l] ? a.v[l] : b.v[l]; });
}
inline Lanes greater(const Lanes& a, const Lanes& b) {
    return each([&](int l) { return a.v[l] > b.v[l] ? a.v[l] : b.v[l]; });
}
inline Lanes without(const Lanes& a, Mask out) {
    return each([&](int l) { return out >> l & 1u ? HUGE_VAL : a.v[l]; });
}
#endif

inline int64_t points_in(const JointView& view, int64_t block) {
    const int64_t left = view.count - block * kJointBlock;
    return left < kJointBlock ? left : kJointBlock;
}

template <Kind kind, int DX, int DY>
struct Joint {
    static constexpr int D = DX + DY;

    template <typename Term>
    static MSMA_INLINE Lanes key(Term term) {
        return greater(key_of<kind, DX>(term), key_of<kind, DY>([&](int j) { return term(DX + j); }));
    }

    // One of 8 points `at` each, and one place for all.
    static MSMA_INLINE Lanes to_point(const Lanes* at, const double* point) {
        return key([&](int j) { return term<kind>(at[j], broadcast(point[j * kJointBlock]), 2, false); });
    }

    static MSMA_INLINE Lanes to_box(const Lanes* at, const double* boxes, int child) {
        return key([&](int j) {
            const double* box = boxes + j * 2 * kJointBlock + child;
            return term<kind>(at[j], clamp(at[j], broadcast(box[0]), broadcast(box[kJointBlock])), 2, false);
        });
    }

    // The smallest keys between a point of the box [low, high] and one of each of 8 boxes.
    static MSMA_INLINE Lanes between(const double* low, const double* high, const double* boxes) {
        return key([&](int j) {
            const Lanes first = broadcast(low[j]), last = broadcast(high[j]);
            const double* box = boxes + j * 2 * kJointBlock;
            const Lanes there = clamp(first, load(box), load(box + kJointBlock));
            return term<kind>(clamp(there, first, last), there, 2, false);
        });
    }
};

inline const double* boxes_of(const JointView& view, int level, int64_t group) {
    return view.boxes[level] + group * (view.dx + view.dy) * 2 * kJointBlock;
}

template <Kind kind, int DX, int DY, int K>
class Smallest {
    using J = Joint<kind, DX, DY>;

  public:
    Smallest(const JointView& view, int wanted) : view_(view), wanted_(wanted) {}

    void run(int64_t block, double* keys) {
        for (int r = 0; r < K; ++r) best_[r] = broadcast(HUGE_VAL);
        const double* points = view_.points + block * J::D * kJointBlock;
        const double* box = boxes_of(view_, 0, block >> 3) + (block & 7);
        for (int j = 0; j < J::D; ++j) {
            at_[j] = load(points + j * kJointBlock);
            low_[j] = box[j * 2 * kJointBlock];
            high_[j] = box[(j * 2 + 1) * kJointBlock];
        }
        own_ = block;
        ruled_ = view_.labels || view_.window;
        scan(block);
        for (int level = 0; level < view_.levels; ++level) {
            open(level, block >> 3 * (level + 1), 1u << (block >> 3 * level & 7));
        }
        for (int r = 0; r < K; ++r) store(keys + r * kJointBlock, best_[r]);
    }

  private:
    void open(int level, int64_t group, Mask skipped) {
        const double* boxes = boxes_of(view_, level, group);
        const Lanes key = J::between(low_, high_, boxes);
        Mask left = ~not_above(broadcast(greatest_), key) & 0xffu & ~skipped;
        if (!left) return;
        alignas(64) double bounds[kJointBlock];
        store(bounds, tagged(key));
        while (left) {
            const double bound = smallest(bounds, left);
            if (!(with_tag(bound, 0) < greatest_)) return;
            const int child = tag_of(bound);
            left &= ~(1u << child);
            if (!(~not_above(best_[wanted_ - 1], J::to_box(at_, boxes, child)) & 0xffu)) continue;
            const int64_t node = group * 8 + child;
            level == 0 ? scan(node) : open(level - 1, node, 0);
        }
    }

    void scan(int64_t block) {
        const double* points = view_.points + block * J::D * kJointBlock;
        const int count = static_cast<int>(points_in(view_, block));
        Lanes best[K];
        for (int r = 0; r < K; ++r) best[r] = best_[r];
        const bool marked = block == own_ || ruled_;
        for (int t = 0; t < count; ++t) {
            Lanes key = J::to_point(at_, points + t);
            if (marked) key = without(key, excluded(block, t));
#pragma GCC unroll 16
            for (int r = 0; r < K; ++r) {
                const Lanes kept = lesser(best[r], key);
                key = greater(best[r], key);
                best[r] = kept;
            }
        }
        for (int r = 0; r < K; ++r) best_[r] = best[r];
        greatest_ = combine_maximum(best_[wanted_ - 1]);
    }

    Mask excluded(int64_t block, int t) const {
        Mask out = block == own_ ? 1u << t : 0u;
        const int64_t own = own_ * kJointBlock, other = block * kJointBlock + t;
        if (view_.labels) out |= equal(view_.labels + own, view_.labels[other]);
        if (view_.window) out |= within(view_.index + own, view_.index[other], view_.window);
        return out;
    }

    const JointView& view_;
    const int wanted_;
    Lanes best_[K], at_[J::D];
    double low_[J::D], high_[J::D];
    double greatest_ = HUGE_VAL;
    int64_t own_ = 0;
    bool ruled_ = false;
};

inline bool comes_first(double key, int64_t index, double other_key, int64_t other_index) {
    return key < other_key || (key == other_key && index < other_index);
}

// Puts an entry into a heap of `size` whose top is free.
inline void sift(double* keys, int64_t* indices, int64_t size, double key, int64_t index) {
    int64_t hole = 0;
    for (int64_t child; (child = 2 * hole + 1) < size; hole = child) {
        if (child + 1 < size && comes_first(keys[child], indices[child], keys[child + 1], indices[child + 1])) ++child;
        if (!comes_first(key, index, keys[child], indices[child])) break;
        keys[hole] = keys[child];
        indices[hole] = indices[child];
    }
    keys[hole] = key;
    indices[hole] = index;
}

template <Kind kind, int DX, int DY>
class Nearest {
    using J = Joint<kind, DX, DY>;

  public:
    Nearest(const JointView& view, int64_t k, double* keys, int64_t* indices)
        : view_(view), k_(k), keys_(keys), indices_(indices) {}

    void run(int64_t position) {
        constexpr int64_t none = int64_t{1} << 62;
        for (int64_t r = 0; r < k_; ++r) {
            keys_[r] = HUGE_VAL;
            indices_[r] = none;
        }
        own_ = position;
        const int64_t block = position / kJointBlock;
        const double* point = view_.points + block * J::D * kJointBlock + position % kJointBlock;
        for (int j = 0; j < J::D; ++j) at_[j] = broadcast(point[j * kJointBlock]);
        scan(block);
        for (int level = 0; level < view_.levels; ++level) {
            open(level, block >> 3 * (level + 1), 1u << (block >> 3 * level & 7));
        }
        for (int64_t last = k_ - 1; last > 0; --last) {
            const double key = keys_[last];
            const int64_t index = indices_[last];
            keys_[last] = keys_[0];
            indices_[last] = indices_[0];
            sift(keys_, indices_, last, key, index);
        }
        for (int64_t r = k_ - 1; r >= 0 && indices_[r] == none; --r) indices_[r] = -1;
    }

  private:
    void open(int level, int64_t group, Mask skipped) {
        const double* boxes = boxes_of(view_, level, group);
        const Lanes key = J::key([&](int j) {
            const double* box = boxes + j * 2 * kJointBlock;
            return term<kind>(at_[j], clamp(at_[j], load(box), load(box + kJointBlock)), 2, false);
        });
        alignas(64) double bounds[kJointBlock], order[kJointBlock];
        store(bounds, key);
        store(order, tagged(key));
        const int32_t* least = view_.least[level] + group * 8;
        for (Mask left = not_above(key, broadcast(keys_[0])) & 0xffu & ~skipped; left;) {
            const int child = tag_of(smallest(order, left));
            left &= ~(1u << child);
            if (least[child] < 0 || !comes_first(bounds[child], least[child], keys_[0], indices_[0])) continue;
            const int64_t node = group * 8 + child;
            level == 0 ? scan(node) : open(level - 1, node, 0);
        }
    }

    void scan(int64_t block) {
        const double* points = view_.points + block * J::D * kJointBlock;
        const Lanes key = J::key([&](int j) { return term<kind>(at_[j], load(points + j * kJointBlock), 2, false); });
        Mask near = not_above(key, broadcast(keys_[0])) & ((1u << points_in(view_, block)) - 1);
        if (!near) return;
        const int64_t first = block * kJointBlock;
        if (own_ / kJointBlock == block) near &= ~(1u << own_ % kJointBlock);
        if (view_.labels) near &= ~equal(view_.labels + first, view_.labels[own_]);
        if (view_.window) near &= ~within(view_.index + first, view_.index[own_], view_.window);
        alignas(64) double keys[kJointBlock];
        store(keys, key);
        for (; near; near &= near - 1) {
            const int at = lowest(near);
            const int32_t row = view_.index[first + at];
            if (comes_first(keys[at], row, keys_[0], indices_[0])) sift(keys_, indices_, k_, keys[at], row);
        }
    }

    const JointView& view_;
    const int64_t k_;
    double* keys_;
    int64_t* indices_;
    Lanes at_[J::D];
    int64_t own_ = 0;
};

template <Kind kind, int DX, int DY, int K>
void smallest_in(const JointView& view, Range blocks, int wanted, double* keys) {
    for (int64_t block = blocks.begin; block < blocks.end; ++block, keys += kKeptKeys * kJointBlock) {
        Smallest<kind, DX, DY, K>(view, wanted).run(block, keys);
    }
}

// Calls run(Joint<...>) for the view's dimensions.
template <Kind kind, typename Run>
void for_dimensions(const JointView& view, const Run& run) {
    switch (view.dx * 4 + view.dy) {
        case 5:
            return run(Joint<kind, 1, 1>());
        case 6:
            return run(Joint<kind, 1, 2>());
        case 7:
            return run(Joint<kind, 1, 3>());
        case 10:
            return run(Joint<kind, 2, 2>());
        case 11:
            return run(Joint<kind, 2, 3>());
        default:
            return run(Joint<kind, 3, 3>());
    }
}

template <Kind kind, int DX, int DY>
void smallest_of(Joint<kind, DX, DY>, const JointView& view, Range blocks, int wanted, double* keys) {
    if (wanted <= 4) return smallest_in<kind, DX, DY, 4>(view, blocks, wanted, keys);
    if (wanted <= 8) return smallest_in<kind, DX, DY, 8>(view, blocks, wanted, keys);
    smallest_in<kind, DX, DY, kKeptKeys>(view, blocks, wanted, keys);
}

template <Kind kind, int DX, int DY>
void nearest_of(Joint<kind, DX, DY>, const JointView& view, int64_t position, int64_t k, double* keys,
                int64_t* indices) {
    Nearest<kind, DX, DY>(view, k, keys, indices).run(position);
}

template <typename Run>
void for_joint(const JointView& view, const Run& run) {
    if (view.kind == Kind::chebyshev) return for_dimensions<Kind::chebyshev>(view, run);
    for_dimensions<Kind::sqeuclidean>(view, run);
}

void smallest(const JointView& view, Range blocks, int wanted, double* keys) {
    for_joint(view, [&](auto joint) { smallest_of(joint, view, blocks, wanted, keys); });
}

void nearest(const JointView& view, int64_t position, int64_t k, double* keys, int64_t* indices) {
    for_joint(view, [&](auto joint) { nearest_of(joint, view, position, k, keys, indices); });
}

}  // namespace

JointBody joint_body() { return {smallest, nearest}; }

}  // namespace MSMA_ISA
}  // namespace msma
