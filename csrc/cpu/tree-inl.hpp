// Neighbours by the space partition, compiled once per instruction set; counts are in tree_count-inl.hpp.
//
// Depth first, the nearest box first. The k best so far are a heap, the worst on top; a node is left out
// only where its bound is greater than the worst key, or equal with no smaller index among its points: a tie
// may still have the smaller index. (So n equal points are found from a few leaves, not from all.)
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

int64_t scan_leaf(const TreeSearch& search, const TreeKernels& kernels, const Query& query, Range blocks,
                  const Nearest& nearest) {
    const TreeView& view = search.points;
    const int64_t first = blocks.begin * kBlock;
    double keys[kLeafBlocks * kBlock];
    uint64_t near =
        kernels.leaf(query.at, view.points + first * view.width, blocks.size(), search.p, nearest.keys[0], keys);
    for (; near; near &= near - 1) {
        const int at = lowest(near);
        if (is_neighbor(search, query, first + at)) nearest.offer(keys[at], view.index[first + at]);
    }
    return points_of(view, blocks);
}

// The children of a node that are still to be visited.
struct Siblings {
    double bounds[kFan];  // tagged
    Mask left;
    int32_t group;
};

// Points whose key was computed.
int64_t search_nearest(const TreeSearch& search, const TreeKernels& kernels, const Query& query,
                       const Nearest& nearest) {
    const TreeView& view = search.points;
    Siblings path[kTreeLevels];
    const auto open = [&](int level, int32_t group) {
        Siblings& here = path[level];
        const double* boxes = view.level[level].boxes + int64_t{group} * view.width * 2 * kFan;
        here.left = kernels.bounded(query.at, boxes, search.p, nearest.keys[0], here.bounds);
        here.left &= (1u << view.level[level].fan) - 1;
        here.group = group;
    };
    int64_t computed = 0;
    open(0, 0);
    for (int level = 0; level >= 0;) {
        Siblings& here = path[level];
        const double bound = smallest(here.bounds, here.left);
        const int child = tag_of(bound);
        const double key = with_tag(bound, 0);
        if (!here.left || key > nearest.keys[0]) {
            --level;
            continue;
        }
        here.left &= ~(1u << child);
        const int32_t node = here.group * kFan + child;
        if (!before(key, view.level[level].least[node], nearest.keys[0], nearest.indices[0])) continue;
        if (level == view.levels - 1) {
            computed += scan_leaf(search, kernels, query, view.blocks_of(level, node), nearest);
        } else {
            open(++level, node);
        }
    }
    return computed;
}

void knn(const TreeSearch& search, Range positions, int64_t k, double* keys, int64_t* indices, int64_t* candidates) {
    const TreeKernels kernels = kernels_of(search.kind, search.points.width);
    for (int64_t position = positions.begin; position < positions.end; ++position) {
        const Query query = query_at(search, position);
        const Nearest nearest{keys + query.row * k, indices + query.row * k, k};
        nearest.clear();
        candidates[query.row] = search_nearest(search, kernels, query, nearest);
        nearest.finish();
    }
}

}  // namespace

TreeBody tree_body() { return {knn, count, count_pairs}; }

}  // namespace MSMA_ISA
}  // namespace msma
