// The space partition as the kernels see it: plain pointers into what tree_build.cpp owns.
//
// n points in an order of their own, cut into blocks of 8 (structure of arrays, so that one Lanes holds one
// coordinate of 8 points). A perfect binary tree over the blocks: node i of depth s owns the blocks
// [bound(i), bound(i + 1)), bound(i) = blocks i / 2^s rounded down. Three depths are folded into one level, so
// that the boxes of 8 siblings are tested at once; the root level has 2, 4 or 8 of them (1 in a tree of one
// leaf).
#pragma once

#include <cstdint>

#include "body.hpp"
#include "msma/tree.hpp"

namespace msma {

constexpr int64_t kBlock = 8;
constexpr int64_t kLeafBlocks = 8;  // at most; at least half of it, but for the very smallest trees
constexpr int kTreeLevels = 11;     // 2^31 points are 2^28 blocks: 28 depths in threes, and a root
constexpr int kFan = 8;

// One level, as groups of 8 siblings: group g holds the nodes 8 g + c. The nodes of the next level's group g
// are the children of node g.
struct TreeLevel {
    int depth;
    int fan;               // nodes of a group: 8, fewer in the root level
    const double* boxes;   // (groups, width, 2, 8): lowest, highest coordinate
    const int32_t* least;  // (groups, 8): smallest index of a node's points
};

struct TreeView {
    int64_t count;   // points
    int64_t blocks;  // the last one filled up with NaN, index -1
    int width;       // coordinates held: those the kernels are compiled for, at least d, the rest zero
    int levels;
    TreeLevel level[kTreeLevels];
    const double* points;   // (blocks, width, 8)
    const int32_t* index;   // (blocks, 8): the point's row
    const int32_t* labels;  // (blocks, 8), null for none
    // Points and the last level's boxes as float32, null where that is not exact or not asked for.
    const float *narrow_points, *narrow_boxes;

    Range blocks_of(int level_number, int64_t node) const {
        const int depth = level[level_number].depth;
        return {blocks * node >> depth, blocks * (node + 1) >> depth};
    }
};

// Everything a kernel needs; queries are taken in the order of their own partition (for a self-search the
// points'), so that neighbouring queries follow the same paths.
struct TreeSearch {
    TreeView points, queries;
    Kind kind;
    int p;
    bool self;
    int32_t window;
};

// Counts of the points of a self-search while each pair is looked at once.
struct Tally {
    int32_t* points;              // (blocks, 8)
    int32_t* nodes[kTreeLevels];  // (nodes of the level,): what all points of a node have in common
};

struct TreeBody {
    // Rows of keys and indices (k values) and of candidates for the queries at `positions`.
    void (*knn)(const TreeSearch&, Range positions, int64_t k, double* keys, int64_t* indices, int64_t* candidates);
    void (*count)(const TreeSearch&, Range positions, const double* thresholds, int64_t* counts);
    // The pairs of each query and a point behind it, of a self-search with one threshold, added for both.
    void (*count_pairs)(const TreeSearch&, Range positions, double threshold, const Tally&);
};

namespace scalar {
TreeBody tree_body();
}
#ifdef MSMA_X86_BODIES
namespace avx2 {
TreeBody tree_body();
}
namespace avx512 {
TreeBody tree_body();
}
#endif

}  // namespace msma
