// Counts by the space partition, compiled once per instruction set.
//
// The queries of a block go down together: a box without a point within any of their thresholds is left out, one
// with no point beyond any is counted without a visit. The groups of leaves that remain are listed; each query then
// picks its leaves, and the points of their blocks are looked at in one go. Both are loops without branches, whose
// masks are read afterwards.
//
// count: every query has its own threshold.
// count_pairs: a self-search with one threshold, where the key of a pair serves both of its points. A query looks only
// at points behind it in the order of the partition and counts for them too; a node that lies within the threshold as a
// whole is noted once for all its points.
#pragma once

#include "tree_query-inl.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

// Words of 8 bytes; a byte of a mask is 8 leaves of a group, or 8 points of a block.
constexpr int kGroupWords = 4, kBlockWords = 64;
constexpr int kWordBlocks = 8 * kFan * static_cast<int>(kLeafBlocks);  // that one word of groups can list

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

// The nodes that hold a block, level by level.
struct Path {
    int32_t node[kTreeLevels];
};

Path path_to(const TreeView& view, int64_t block) {
    const int last = view.levels - 1;
    // The last leaf that begins at or before the block.
    const int64_t leaf = (((block + 1) << view.level[last].depth) + view.blocks - 1) / view.blocks - 1;
    Path path;
    for (int level = 0; level <= last; ++level) path.node[level] = static_cast<int32_t>(leaf >> 3 * (last - level));
    return path;
}

struct Member {
    Query query;
    Limits limits;
    int64_t count;
};

// The queries of one block. With `pairs` only points behind a query are looked at, and `tally` gets what they have of
// it.
template <bool pairs>
class Counter {
  public:
    Counter(const TreeSearch& search, const Tally& tally)
        : search_(search), kernels_(kernels_of(search.kind, search.points.width)), tally_(tally) {}

    // Counts the block's queries at `positions`, threshold_of(row).
    template <typename Threshold>
    void gather(Range positions, const Threshold& threshold_of) {
        members_ = 0;
        least_ = HUGE_VAL;
        greatest_ = -HUGE_VAL;
        for (int j = 0; j < search_.points.width; ++j) {
            low_[j] = HUGE_VAL;
            high_[j] = -HUGE_VAL;
        }
        for (int64_t position = positions.begin; position < positions.end; ++position) {
            Member& member = member_[members_++];
            member.query = query_at(search_, position);
            const double threshold = threshold_of(member.query.row);
            member.limits = limits_of(search_, threshold);
            member.count = 0;
            if (threshold > greatest_) greatest_ = threshold;
            if (!(threshold >= least_)) least_ = threshold == threshold ? threshold : -HUGE_VAL;
            for (int j = 0; j < search_.points.width; ++j) {
                const double at = member.query.at[j];  // a NaN is passed over
                if (at < low_[j]) low_[j] = at;
                if (at > high_[j]) high_[j] = at;
            }
        }
        own_block_ = positions.begin / kBlock;
        descend();
    }

    int members() const { return members_; }
    const Member& member(int m) const { return member_[m]; }

  private:
    void descend() {
        const TreeView& view = search_.points;
        const Path path = pairs ? path_to(view, own_block_) : Path{};
        struct Parent {
            int32_t node;
            int level;
            bool on_path;
        };
        Parent stack[kTreeLevels * kFan];
        int top = 0;
        stack[top++] = {0, -1, pairs};
        while (top) {
            const Parent parent = stack[--top];
            const int below = parent.level + 1;
            const int32_t first = parent.node * kFan;
            const TreeLevel& level = view.level[below];
            const double* boxes = level.boxes + int64_t{parent.node} * view.width * 2 * kFan;
            Mask mask = kernels_.near(low_, high_, boxes, search_.p, greatest_) & ((1u << level.fan) - 1);
            const int own = parent.on_path ? path.node[below] - first : -1;
            if (parent.on_path) mask &= ~0u << own;
            if (!mask) continue;
            Mask inner = kernels_.inner(low_, high_, boxes, search_.p, least_) & mask;
            if (pairs) inner = all_admissible(search_) ? inner & ~(own < 0 ? 0u : 1u << own) : 0;
            mask &= ~inner;
            for (; inner; inner &= inner - 1) take(below, first + lowest(inner));
            if (below == view.levels - 1) {
                list(parent.node, mask);
                continue;
            }
            for (; mask; mask &= mask - 1) {
                const int child = lowest(mask);
                stack[top++] = {first + child, below, child == own};
            }
        }
        visit();
    }

    // Counts a node whose points all lie within every threshold.
    void take(int level, int32_t node) {
        const Range blocks = search_.points.blocks_of(level, node);
        for (int m = 0; m < members_; ++m) {
            Member& member = member_[m];
            member.count += pairs ? points_of(search_.points, blocks) : admissible(search_, member.query, blocks);
        }
        if (pairs) tally_.nodes[level][node] += members_;
    }

    void list(int32_t group, Mask leaves) {
        group_[groups_] = group;
        const int shift = groups_ % 8 * 8;
        wanted_[groups_ / 8] = (shift ? wanted_[groups_ / 8] : 0) | static_cast<uint64_t>(leaves) << shift;
        if (++groups_ == kGroupWords * 8) visit();
    }

    // Counts the points of the listed groups for every member, and empties the list.
    void visit() {
        if (groups_ == 0) return;
        const TreeView& view = search_.points;
        const int words = (groups_ + 7) / 8;
        for (int g = groups_; g < words * 8; ++g) group_[g] = group_[0];
        uint64_t near[kGroupWords];
        for (int m = 0; m < members_; ++m) {
            const Member& member = member_[m];
            if (member.limits.narrow) {
                kernels_.narrow_groups(member.query.at, view.narrow_boxes, group_, words, search_.p, member.limits,
                                       near);
            } else {
                kernels_.groups(member.query.at, view.level[view.levels - 1].boxes, group_, words, search_.p,
                                member.limits.threshold, near);
            }
            for (int w = 0; w < words; ++w) {
                if (blocks_ > kBlockWords * 8 - kWordBlocks) look(m);
                pick(group_ + w * 8, near[w] & wanted_[w]);
            }
            look(m);
        }
        groups_ = 0;
    }

    // Lists the blocks of some leaves of 8 groups, with `pairs` none before the queries' own.
    void pick(const int32_t* groups, uint64_t leaves) {
        const TreeView& view = search_.points;
        for (; leaves; leaves &= leaves - 1) {
            const int at = lowest(leaves);
            const Range range = view.blocks_of(view.levels - 1, int64_t{groups[at / 8]} * kFan + at % 8);
            const int64_t begin = pairs && range.begin < own_block_ ? own_block_ : range.begin;
            // All are written, there or not: how many there are is a coin toss to the branch predictor.
            for (int b = 0; b < kLeafBlocks; ++b) block_[blocks_ + b] = static_cast<int32_t>(begin) + b;
            blocks_ += static_cast<int>(range.end - begin);
        }
    }

    // Counts the listed points within the member's threshold, and empties the list.
    void look(int m) {
        if (blocks_ == 0) return;
        Member& member = member_[m];
        const int words = (blocks_ + 7) / 8;
        for (int b = blocks_; b < words * 8; ++b) block_[b] = block_[0];
        uint64_t near[kBlockWords];
        compare(member, words, near);
        if (blocks_ % 8) near[words - 1] &= (uint64_t{1} << blocks_ % 8 * 8) - 1;
        blocks_ = 0;
        for (int w = 0; w < words; ++w) {
            for (uint64_t bits = near[w]; bits;) {
                const int at = lowest(bits) / 8;
                const auto mask = static_cast<Mask>(bits >> at * 8 & 0xff);
                bits &= ~(uint64_t{0xff} << at * 8);
                member.count += hit(member.query, block_[w * 8 + at], mask);
            }
        }
    }

    // Which points of the listed blocks lie within the threshold, whole words of them.
    void compare(const Member& member, int words, uint64_t* near) {
        const TreeView& view = search_.points;
        const double* at = member.query.at;
        const double threshold = member.limits.threshold;
        if (!member.limits.narrow) {
            kernels_.points(at, view.points, block_, words, search_.p, threshold, near);
            return;
        }
        uint64_t open[kBlockWords];
        kernels_.narrow_points(at, view.narrow_points, block_, words, search_.p, member.limits, near, open);
        for (int w = 0; w < words; ++w) {
            for (uint64_t bits = open[w]; bits;) {
                const int s = lowest(bits) / 8;
                const uint64_t byte = uint64_t{0xff} << s * 8;
                bits &= ~byte;
                double keys[kBlock];
                const double* points = view.points + int64_t{block_[w * 8 + s]} * view.width * kBlock;
                const uint64_t mask = kernels_.leaf(at, points, 1, search_.p, threshold, keys);
                near[w] = (near[w] & ~byte) | mask << s * 8;
            }
        }
    }

    int64_t hit(const Query& query, int64_t block, Mask mask) {
        mask &= ~excluded(search_, query, block);
        if (pairs) {
            if (block == own_block_) mask &= ~0u << query.own % kBlock;
            add_one(tally_.points + block * kBlock, mask);
        }
        return population(mask);
    }

    const TreeSearch& search_;
    const TreeKernels kernels_;
    const Tally tally_;
    Member member_[kBlock];
    int members_ = 0;
    double low_[kTreeDimensions], high_[kTreeDimensions];  // the box of the queries
    double least_ = 0.0, greatest_ = 0.0;                  // of their thresholds
    int64_t own_block_ = 0;
    int groups_ = 0, blocks_ = 0;  // listed
    int32_t group_[kGroupWords * 8];
    uint64_t wanted_[kGroupWords];  // leaves of these
    int32_t block_[kBlockWords * 8 + kLeafBlocks];
};

Range block_at(Range positions, int64_t begin) {
    return {begin, begin + kBlock < positions.end ? begin + kBlock : positions.end};
}

void count(const TreeSearch& search, Range positions, const double* thresholds, int64_t* counts) {
    Counter<false> counter(search, Tally{});
    for (int64_t begin = positions.begin; begin < positions.end; begin += kBlock) {
        counter.gather(block_at(positions, begin), [&](int32_t row) { return thresholds[row]; });
        for (int m = 0; m < counter.members(); ++m) counts[counter.member(m).query.row] = counter.member(m).count;
    }
}

void count_pairs(const TreeSearch& search, Range positions, double threshold, const Tally& tally) {
    Counter<true> counter(search, tally);
    for (int64_t begin = positions.begin; begin < positions.end; begin += kBlock) {
        counter.gather(block_at(positions, begin), [&](int32_t) { return threshold; });
        for (int m = 0; m < counter.members(); ++m) {
            tally.points[begin + m] += static_cast<int32_t>(counter.member(m).count);
        }
    }
}

}  // namespace
}  // namespace MSMA_ISA
}  // namespace msma
