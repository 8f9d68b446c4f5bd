// A space partition and the memory behind its view.
#pragma once

#include "buffer.hpp"
#include "msma/tree.hpp"
#include "tree_view.hpp"

namespace msma {

struct Tree {
    TreeView view{};
    Buffer<double> points, boxes[kTreeLevels];
    Buffer<float> narrow_points, narrow_boxes;
    Buffer<int32_t> index, labels, least[kTreeLevels];
};

// Coordinates held for d of them: the widths that tree_keys-inl.hpp is compiled for.
constexpr int tree_width(int64_t d) { return d <= 8 ? static_cast<int>(d) : d <= 12 ? 12 : 16; }

// The partition of at least one row; labels (rows.count,) or null; with float32 points and boxes where `narrow` and T
// allow.
template <typename T>
Tree build_tree(const Rows<T>& rows, const int32_t* labels, int threads, bool narrow);

}  // namespace msma
