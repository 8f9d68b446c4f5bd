// Neighbours by the space partition, compiled once per instruction set; counts are in tree_count-inl.hpp.
//
// The queries of a block go down together, depth first, the box nearest to theirs first: what they look at is in the
// cache for the others. The k best so far of each are a heap, the worst on top; a query passes a node over only where
// its bound is greater than the worst key, or equal with no smaller index among its points: a tie may still have the
// smaller index. (So n equal points are found from a few leaves, not from all.)
#pragma once

#include "tree_count-inl.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

constexpr int32_t kNoIndex = 0x7fffffff;

bool is_neighbor(const TreeSearch& search, const Query& query, int64_t position) {
    if (position == query.own) return false;
    if (search.points.labels && search.points.labels[position] == query.label) return false;
    const int32_t gap = search.points.index[position] - query.row;
    return !search.window || (gap < 0 ? -gap : gap) > search.window;
}

inline bool before(double key, int64_t index, double other_key, int64_t other_index) {
    return key < other_key || (key == other_key && index < other_index);
}

// The k best of a query, in its output rows: a heap with the last by (key, index) on top.
struct Nearest {
    double* keys;
    int64_t* indices;
    int64_t k;

    void clear() const {
        for (int64_t r = 0; r < k; ++r) {
            keys[r] = HUGE_VAL;
            indices[r] = kNoIndex;
        }
    }

    // Puts an entry into a heap of `size` whose top is free.
    void sift(int64_t size, double key, int64_t index) const {
        int64_t hole = 0;
        for (int64_t child; (child = 2 * hole + 1) < size; hole = child) {
            if (child + 1 < size && before(keys[child], indices[child], keys[child + 1], indices[child + 1])) ++child;
            if (!before(key, index, keys[child], indices[child])) break;
            keys[hole] = keys[child];
            indices[hole] = indices[child];
        }
        keys[hole] = key;
        indices[hole] = index;
    }

    void offer(double key, int64_t index) const {
        if (before(key, index, keys[0], indices[0])) sift(k, key, index);
    }

    // Ascending; -1 where nothing was found.
    void finish() const {
        for (int64_t last = k - 1; last > 0; --last) {
            const double key = keys[last];
            const int64_t index = indices[last];
            keys[last] = keys[0];
            indices[last] = indices[0];
            sift(last, key, index);
        }
        for (int64_t r = k - 1; r >= 0 && indices[r] == kNoIndex; --r) indices[r] = -1;
    }
};

// Offers the points of a leaf; those that float32 sums show to be too far get no key.
int64_t scan_leaf(const TreeSearch& search, const TreeKernels& kernels, const Query& query, Range blocks,
                  const Nearest& nearest) {
    const TreeView& view = search.points;
    const int64_t first = blocks.begin * kBlock;
    const Limits limits = limits_of(search, nearest.keys[0]);
    // A bit a point, of up to 8 blocks.
    uint64_t left = ~uint64_t{0} >> (64 - blocks.size() * kBlock);
    if (limits.narrow) {
        const float* points = view.narrow_points + first * view.width;
        left = kernels.narrow_leaf(query.narrow, points, blocks.size(), search.p, limits.high);
    }
    while (left) {
        const int64_t begin = first + lowest(left) / kBlock * kBlock;
        const auto wanted = static_cast<Mask>(left >> (begin - first) & 0xff);
        left &= ~(uint64_t{0xff} << (begin - first));
        double keys[kBlock];
        const double* points = view.points + begin * view.width;
        Mask near = static_cast<Mask>(kernels.leaf(query.at, points, 1, search.p, nearest.keys[0], keys)) & wanted;
        for (; near; near &= near - 1) {
            const int at = lowest(near);
            if (is_neighbor(search, query, begin + at)) nearest.offer(keys[at], view.index[begin + at]);
        }
    }
    return points_of(view, blocks);
}

// The children of a node that are still to be visited.
struct Siblings {
    double bounds[kFan];  // tagged
    Mask left;
    int32_t group;
};

// The queries of one block of their partition.
class Searcher {
  public:
    Searcher(const TreeSearch& search, const TreeKernels& kernels, Range positions, const Nearest& rows,
             int64_t* candidates)
        : search_(search),
          kernels_(kernels),
          at_(search.queries.points + positions.begin * search.queries.width),
          count_(static_cast<int>(positions.size())) {
        const int width = search.queries.width;
        for (int j = 0; j < width; ++j) {
            low_[j] = HUGE_VAL;
            high_[j] = -HUGE_VAL;
        }
        for (int m = 0; m < kBlock; ++m) worst_[m] = index_[m] = -1.0;  // there may be fewer queries
        for (int m = 0; m < count_; ++m) {
            query_[m] = query_at(search, positions.begin + m);
            const int64_t row = query_[m].row;
            nearest_[m] = {rows.keys + row * rows.k, rows.indices + row * rows.k, rows.k};
            nearest_[m].clear();
            candidates_[m] = candidates + row;
            *candidates_[m] = 0;
            note_worst(m);
            for (int j = 0; j < width; ++j) {
                const double x = query_[m].at[j];
                if (x < low_[j]) low_[j] = x;
                if (x > high_[j]) high_[j] = x;
            }
        }
        note_greatest();
    }

    void run() {
        const TreeView& view = search_.points;
        Siblings path[kTreeLevels];
        const auto open = [&](int level, int32_t group) {
            Siblings& here = path[level];
            here.left = kernels_.bounded(low_, high_, boxes_of(level, group), search_.p, greatest_, here.bounds);
            here.left &= (1u << view.level[level].fan) - 1;
            here.group = group;
        };
        open(0, 0);
        for (int level = 0; level >= 0;) {
            Siblings& here = path[level];
            const double bound = smallest(here.bounds, here.left);
            const int child = tag_of(bound);
            if (!here.left || with_tag(bound, 0) > greatest_) {
                --level;
                continue;
            }
            here.left &= ~(1u << child);
            const int32_t node = here.group * kFan + child;
            const Mask wanted = kernels_.needed_by(at_, boxes_of(level, here.group), child, search_.p, worst_, index_,
                                                   static_cast<double>(view.level[level].least[node]));
            if (!wanted) continue;
            if (level < view.levels - 1) {
                open(++level, node);
            } else {
                scan(view.blocks_of(level, node), wanted);
            }
        }
        for (int m = 0; m < count_; ++m) nearest_[m].finish();
    }

  private:
    const double* boxes_of(int level, int32_t group) const {
        return search_.points.level[level].boxes + int64_t{group} * search_.points.width * 2 * kFan;
    }

    void scan(Range blocks, Mask wanted) {
        for (; wanted; wanted &= wanted - 1) {
            const int m = lowest(wanted);
            *candidates_[m] += scan_leaf(search_, kernels_, query_[m], blocks, nearest_[m]);
            note_worst(m);
        }
        note_greatest();
    }

    void note_worst(int m) {
        worst_[m] = nearest_[m].keys[0];
        index_[m] = static_cast<double>(nearest_[m].indices[0]);
    }
    void note_greatest() {
        greatest_ = worst_[0];
        for (int m = 1; m < count_; ++m) greatest_ = worst_[m] > greatest_ ? worst_[m] : greatest_;
    }

    const TreeSearch& search_;
    const TreeKernels& kernels_;
    const double* at_;  // (width, 8)
    int count_;
    Query query_[kBlock];
    Nearest nearest_[kBlock];
    int64_t* candidates_[kBlock];  // points of the leaves visited
    double low_[kTreeDimensions], high_[kTreeDimensions];
    alignas(64) double worst_[kBlock], index_[kBlock];
    double greatest_;
};

void knn(const TreeSearch& search, Range positions, int64_t k, double* keys, int64_t* indices, int64_t* candidates) {
    const TreeKernels kernels = kernels_of(search.kind, search.points.width);
    for (int64_t begin = positions.begin; begin < positions.end; begin += kBlock) {
        Searcher(search, kernels, block_at(positions, begin), {keys, indices, k}, candidates).run();
    }
}

}  // namespace

TreeBody tree_body() { return {knn, count, count_pairs}; }

}  // namespace MSMA_ISA
}  // namespace msma
