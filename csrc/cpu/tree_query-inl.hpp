// A query of the space partition, and who is no neighbour of it; compiled once per instruction set.
#pragma once

#include "tree_keys-inl.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

struct Query {
    double at[kTreeDimensions];
    float narrow[kTreeDimensions];  // the same, where the points are float32
    int64_t own;                    // its position among the points, -1 for none
    int32_t row, label;
};

Query query_at(const TreeSearch& search, int64_t position) {
    const TreeView& from = search.queries;
    Query query;
    const double* block = from.points + position / kBlock * from.width * kBlock + position % kBlock;
    for (int j = 0; j < from.width; ++j) query.at[j] = block[j * kBlock];
    for (int j = 0; j < from.width; ++j) query.narrow[j] = static_cast<float>(query.at[j]);
    query.own = search.self ? position : -1;
    query.row = from.index[position];
    query.label = from.labels ? from.labels[position] : 0;
    return query;
}

// Which of a block's 8 points are no neighbours of the query.
inline Mask excluded(const TreeSearch& search, const Query& query, int64_t block) {
    Mask mask = query.own / kBlock == block && query.own >= 0 ? 1u << query.own % kBlock : 0;
    if (search.window) mask |= within(search.points.index + block * kBlock, query.row, search.window);
    if (search.points.labels) mask |= equal(search.points.labels + block * kBlock, query.label);
    return mask;
}

// Points of a range of blocks; only the last block of all can be short.
inline int64_t points_of(const TreeView& view, Range blocks) {
    const int64_t end = blocks.end * kBlock;
    return (end < view.count ? end : view.count) - blocks.begin * kBlock;
}

}  // namespace
}  // namespace MSMA_ISA
}  // namespace msma
