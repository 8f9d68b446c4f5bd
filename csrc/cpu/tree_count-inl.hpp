// Counts by the space partition, compiled once per instruction set.
//
// A box without a point within the threshold is left out, one with no point beyond it is counted without a visit (at
// the last level a look at the points costs no more), and the blocks of the other leaves are listed and looked at in
// one go: a loop without branches, whose masks are read afterwards.
//
// count: one query after the other, each with its own threshold.
// count_pairs: a self-search with one threshold, where the key of a pair serves both of its points. A query looks only
// at points behind it in the order of the partition and counts for them too; a node that lies within the threshold as a
// whole is noted once for all its points.
#pragma once

#include "tree_query-inl.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

constexpr int kListed = 256;                                        // blocks looked at together
constexpr int kGroupBlocks = kFan * static_cast<int>(kLeafBlocks);  // at most so many are listed at once

inline bool all_admissible(const TreeSearch& search) { return !search.window && !search.points.labels; }

// Admissible points in a range of blocks.
int64_t admissible(const TreeSearch& search, const Query& query, Range blocks) {
    int64_t count = points_of(search.points, blocks);
    if (all_admissible(search)) return count - (query.own >= blocks.begin * kBlock && query.own < blocks.end * kBlock);
    for (int64_t b = blocks.begin; b < blocks.end; ++b) {
        const int64_t there = points_of(search.points, Range{b, b + 1});
        count -= population(excluded(search, query, b) & ((1u << there) - 1));
    }
    return count;
}

// The nodes that hold a block, level by level; the last level's has the most nodes that begin at or before it.
struct Path {
    int32_t node[kTreeLevels];
};

Path path_to(const TreeView& view, int64_t block) {
    const int last = view.levels - 1;
    const int64_t leaf = (((block + 1) << view.level[last].depth) + view.blocks - 1) / view.blocks - 1;
    Path path;
    for (int level = 0; level <= last; ++level) path.node[level] = static_cast<int32_t>(leaf >> 3 * (last - level));
    return path;
}

// Counts of one query after the other. With `pairs` only points behind the query are looked at, and `tally` gets what
// they have of it.
template <bool pairs>
class Counter {
  public:
    Counter(const TreeSearch& search, const Tally& tally)
        : search_(search), kernels_(kernels_of(search.kind, search.points.width)), tally_(tally) {}

    int64_t within(const Query& query, const Path& path, double threshold) {
        const TreeView& view = search_.points;
        struct Parent {
            int32_t node;
            int level;
            bool on_path;
        };
        Parent stack[kTreeLevels * kFan];
        int64_t count = 0;
        int top = 0;
        stack[top++] = {0, -1, pairs};
        while (top) {
            const Parent parent = stack[--top];
            const int below = parent.level + 1;
            const int32_t first = parent.node * kFan;
            const TreeLevel& level = view.level[below];
            const double* boxes = level.boxes + int64_t{parent.node} * view.width * 2 * kFan;
            Mask mask = kernels_.near(query.at, boxes, search_.p, threshold) & ((1u << level.fan) - 1);
            const int own = parent.on_path ? path.node[below] - first : -1;
            if (parent.on_path) mask &= ~0u << own;
            if (!mask) continue;
            if (below == view.levels - 1) {
                list(mask, first, own < 0 ? 0 : query.own / kBlock);
                if (listed_ > kListed - kGroupBlocks) count += look(query, threshold);
                continue;
            }
            Mask inner = kernels_.inner(query.at, boxes, search_.p, threshold) & mask;
            if (pairs) inner = all_admissible(search_) ? inner & ~(own < 0 ? 0u : 1u << own) : 0;
            mask &= ~inner;
            for (; inner; inner &= inner - 1) {
                const int32_t node = first + lowest(inner);
                count += pairs ? points_of(view, view.blocks_of(below, node))
                               : admissible(search_, query, view.blocks_of(below, node));
                if (pairs) ++tally_.nodes[below][node];
            }
            for (; mask; mask &= mask - 1) {
                const int child = lowest(mask);
                stack[top++] = {first + child, below, child == own};
            }
        }
        return count + look(query, threshold);
    }

  private:
    // Lists the blocks of some leaves of a group, none before `begin`.
    void list(Mask leaves, int32_t first, int64_t begin) {
        const TreeView& view = search_.points;
        for (; leaves; leaves &= leaves - 1) {
            const Range blocks = view.blocks_of(view.levels - 1, first + lowest(leaves));
            const int64_t from = blocks.begin < begin ? begin : blocks.begin;
            // All are written, there or not: how many there are is a coin toss to the branch predictor.
            for (int b = 0; b < kLeafBlocks; ++b) list_[listed_ + b] = static_cast<int32_t>(from) + b;
            listed_ += static_cast<int>(blocks.end - from);
        }
    }

    // Counts the listed points within the threshold, and empties the list.
    int64_t look(const Query& query, double threshold) {
        if (listed_ == 0) return 0;
        const int words = (listed_ + 7) / 8;
        for (int t = listed_; t < words * 8; ++t) list_[t] = list_[0];
        uint64_t near[kListed / 8];
        kernels_.points(query.at, search_.points.points, list_, words, search_.p, threshold, near);
        if (listed_ % 8) near[words - 1] &= (uint64_t{1} << listed_ % 8 * 8) - 1;
        listed_ = 0;
        int64_t count = 0;
        for (int w = 0; w < words; ++w) {
            for (uint64_t bits = near[w]; bits;) {
                const int at = lowest(bits) / 8;
                const auto mask = static_cast<Mask>(bits >> at * 8 & 0xff);
                bits &= ~(uint64_t{0xff} << at * 8);
                count += hit(query, list_[w * 8 + at], mask);
            }
        }
        return count;
    }

    int64_t hit(const Query& query, int64_t block, Mask mask) {
        mask &= ~excluded(search_, query, block);
        if (pairs) {
            if (query.own / kBlock == block) mask &= ~0u << query.own % kBlock;
            add_one(tally_.points + block * kBlock, mask);
        }
        return population(mask);
    }

    const TreeSearch& search_;
    const TreeKernels kernels_;
    const Tally tally_;
    int listed_ = 0;
    int32_t list_[kListed + kLeafBlocks];
};

void count(const TreeSearch& search, Range positions, const double* thresholds, int64_t* counts) {
    Counter<false> counter(search, Tally{});
    for (int64_t position = positions.begin; position < positions.end; ++position) {
        const Query query = query_at(search, position);
        counts[query.row] = counter.within(query, Path{}, thresholds[query.row]);
    }
}

void count_pairs(const TreeSearch& search, Range positions, double threshold, const Tally& tally) {
    Counter<true> counter(search, tally);
    for (int64_t position = positions.begin; position < positions.end; ++position) {
        const Path path = path_to(search.points, position / kBlock);
        const int64_t found = counter.within(query_at(search, position), path, threshold);
        tally.points[position] += static_cast<int32_t>(found);
    }
}

}  // namespace
}  // namespace MSMA_ISA
}  // namespace msma
