// Builds the space partition: every node is halved across the coordinate in which a sample of it is widest.
//
// Where the cut falls decides only how fast a search is, never its answer, so the values are compared as
// float32 distances from a sampled median, with the index below them in one 64-bit number: distinct numbers,
// one comparison, and NaN has its place. Equal values are parted by index, and every node keeps its points in
// the order of their indices. Large nodes are cut one depth at a time, all threads on one depth; a small
// subtree's rows are then gathered once and it is finished within the cache.
#include "tree_build.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "parallel.hpp"
#include "part_stably.hpp"

namespace msma {
namespace {

constexpr int64_t kSample = 64;           // rows that choose a node's coordinate
constexpr int64_t kSubtreePoints = 4096;  // rows of 16 float64 coordinates fit the second-level cache

// Bit patterns in the order of the values; NaN has a place too.
uint32_t ordered(float v) {
    uint32_t bits;
    std::memcpy(&bits, &v, sizeof bits);
    return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

struct Workspace {
    std::vector<uint64_t> ranked, chosen;
    std::vector<int32_t> right;

    explicit Workspace(int64_t size) : ranked(size), chosen(size), right(size) {}
};

// The widest coordinate of a sample of the rows, and its middle value there.
template <typename T>
std::pair<int64_t, double> widest(const Rows<T>& rows, const int32_t* order, int64_t size) {
    const int64_t d = rows.dimension, count = std::min(size, kSample);
    const T* sample[kSample] = {};
    for (int64_t s = 0; s < count; ++s) sample[s] = rows.row(order[s * size / count]);
    T low[kTreeDimensions], high[kTreeDimensions];
    std::copy_n(sample[0], d, low);
    std::copy_n(sample[0], d, high);
    for (int64_t s = 1; s < count; ++s) {
        for (int64_t j = 0; j < d; ++j) {
            low[j] = std::min(low[j], sample[s][j]);
            high[j] = std::max(high[j], sample[s][j]);
        }
    }
    int64_t best = 0;
    for (int64_t j = 1; j < d; ++j) {
        if (high[j] - low[j] > high[best] - low[best]) best = j;
    }
    // Ranked from the lowest value, ties and NaN by their place: a median good enough to measure from.
    uint64_t ranked[kSample];
    for (int64_t s = 0; s < count; ++s) {
        ranked[s] = uint64_t{ordered(static_cast<float>(sample[s][best]))} << 32 | static_cast<uint64_t>(s);
    }
    std::nth_element(ranked, ranked + count / 2, ranked + count);
    return {best, static_cast<double>(sample[ranked[count / 2] & 0xffffffffu][best])};
}

// Moves the `left` first of order[0, size) by (value, index) to the front, both parts in the order they had.
template <typename T>
void cut(const Rows<T>& rows, int32_t* order, int64_t size, int64_t left, uint64_t* ranked, uint64_t* chosen,
         int32_t* right) {
    const auto [j, centre] = widest(rows, order, size);
    for (int64_t t = 0; t < size; ++t) {
        const auto value = static_cast<float>(static_cast<double>(rows.row(order[t])[j]) - centre + 0.0);
        ranked[t] = uint64_t{ordered(value)} << 32 | static_cast<uint32_t>(order[t]);
    }
    std::copy_n(ranked, size, chosen);
    std::nth_element(chosen, chosen + left, chosen + size);
    const uint64_t first_right = chosen[left];
    part_stably(order, size, right, [&](int64_t t, int32_t) { return ranked[t] < first_right; });
}

template <typename T>
class Builder {
  public:
    Builder(const Rows<T>& rows, const int32_t* labels, int threads, bool narrow)
        : rows_(rows), labels_(labels), threads_(threads), order_(rows.count) {
        TreeView& view = tree_.view;
        view.count = rows.count;
        view.blocks = (rows.count + kBlock - 1) / kBlock;
        view.width = tree_width(rows.dimension);
        while ((view.blocks + (int64_t{1} << depth_) - 1) >> depth_ > kLeafBlocks) ++depth_;
        tree_.points = Buffer<double>(view.blocks * view.width * kBlock);
        tree_.index = Buffer<int32_t>(view.blocks * kBlock);
        view.points = tree_.points.get();
        view.index = tree_.index.get();
        if (labels) {
            tree_.labels = Buffer<int32_t>(view.blocks * kBlock);
            view.labels = tree_.labels.get();
        }
        plan_levels();
        if (narrow && std::is_same_v<T, float>) {
            const int64_t leaves = std::max(int64_t{1} << depth_, int64_t{kFan});
            tree_.narrow_points = Buffer<float>(view.blocks * view.width * kBlock);
            tree_.narrow_boxes = Buffer<float>(leaves * 2 * view.width);
            view.narrow_points = tree_.narrow_points.get();
            view.narrow_boxes = tree_.narrow_boxes.get();
        }
    }

    Tree build() {
        std::iota(order_.begin(), order_.end(), 0);
        const int depth = cut_large_nodes();
        parallel_for(int64_t{1} << depth, threads_, [&](int64_t node, int) { finish_subtree(depth, node); });
        if (tree_.view.narrow_boxes) {
            const int64_t leaves = std::max(int64_t{1} << depth_, int64_t{kFan});
            const double* boxes = tree_.boxes[tree_.view.levels - 1].get();
            for (int64_t e = 0; e < leaves * 2 * tree_.view.width; ++e) {
                tree_.narrow_boxes[e] = static_cast<float>(boxes[e]);
            }
        }
        for (int level = tree_.view.levels - 2; level >= 0; --level) merge_boxes(level);
        return std::move(tree_);
    }

  private:
    void plan_levels() {
        TreeView& view = tree_.view;
        const int root = depth_ ? (depth_ - 1) % 3 + 1 : 0;
        for (int depth = root; depth <= depth_; depth += 3) {
            const int number = view.levels++;
            const int64_t slots = std::max(int64_t{1} << depth, int64_t{kFan});
            tree_.boxes[number] = Buffer<double>(slots * 2 * view.width);
            tree_.least[number] = Buffer<int32_t>(slots);
            std::fill_n(tree_.boxes[number].get(), slots * 2 * view.width, 0.0);
            view.level[number] = {depth, static_cast<int>(std::min(int64_t{1} << depth, int64_t{kFan})),
                                  tree_.boxes[number].get(), tree_.least[number].get()};
        }
    }

    // The points of a node, by their places in the partition.
    Range span(int depth, int64_t node) const {
        const int64_t blocks = tree_.view.blocks;
        return {(blocks * node >> depth) * kBlock, std::min((blocks * (node + 1) >> depth) * kBlock, tree_.view.count)};
    }

    // The depth at which every node is small enough to be finished alone.
    int cut_large_nodes() {
        int depth = 0;
        if (rows_.count <= kSubtreePoints) return depth;
        Workspace space(rows_.count);
        for (; depth < depth_ && rows_.count >> depth > kSubtreePoints; ++depth) {
            parallel_for(int64_t{1} << depth, threads_, [&](int64_t node, int) {
                const Range all = span(depth, node);
                cut(rows_, order_.data() + all.begin, all.size(), span(depth + 1, 2 * node).size(),
                    space.ranked.data() + all.begin, space.chosen.data() + all.begin, space.right.data() + all.begin);
            });
        }
        return depth;
    }

    void finish_subtree(int depth, int64_t node) {
        const Range all = span(depth, node);
        const int64_t d = rows_.dimension;
        std::vector<double> values(all.size() * d);
        for (int64_t t = 0; t < all.size(); ++t) {
            const T* row = rows_.row(order_[all.begin + t]);
            for (int64_t j = 0; j < d; ++j) values[t * d + j] = static_cast<double>(row[j]);
        }
        const Rows<double> rows{values.data(), nullptr, all.size(), d};
        std::vector<int32_t> order(all.size());
        std::iota(order.begin(), order.end(), 0);
        Workspace space(all.size());
        descend(rows, order.data(), order_.data() + all.begin, space, depth, node);
    }

    // `order` and the rows it points to are those of a subtree, whose points have the indices `indices`.
    void descend(const Rows<double>& rows, int32_t* order, const int32_t* indices, Workspace& space, int depth,
                 int64_t node) {
        if (depth == depth_) return store_leaf(rows, order, indices, node);
        const int64_t left = span(depth + 1, 2 * node).size();
        cut(rows, order, span(depth, node).size(), left, space.ranked.data(), space.chosen.data(), space.right.data());
        descend(rows, order, indices, space, depth + 1, 2 * node);
        descend(rows, order + left, indices, space, depth + 1, 2 * node + 1);
    }

    double* box_of(int level, int64_t node) const {
        return tree_.boxes[level].get() + node / kFan * 2 * tree_.view.width * kFan + node % kFan;
    }

    void store_leaf(const Rows<double>& rows, const int32_t* order, const int32_t* indices, int64_t node) {
        const TreeView& view = tree_.view;
        const Range span_of_leaf = span(depth_, node);
        const int64_t first = span_of_leaf.begin, size = span_of_leaf.size();
        const int64_t slots = (size + kBlock - 1) / kBlock * kBlock;
        for (int64_t t = 0; t < slots; ++t) {
            const int64_t place = first + t;
            tree_.index[place] = t < size ? indices[order[t]] : -1;
            if (labels_) tree_.labels[place] = t < size ? labels_[indices[order[t]]] : 0;
        }
        double* box = box_of(view.levels - 1, node);
        for (int64_t j = 0; j < view.width; ++j) {
            double* to = tree_.points.get() + (first / kBlock * view.width + j) * kBlock;
            if (j >= rows.dimension) {
                for (int64_t t = 0; t < slots; ++t) to[t / kBlock * view.width * kBlock + t % kBlock] = 0.0;
                continue;
            }
            double low = std::numeric_limits<double>::infinity(), high = -low;
            for (int64_t t = 0; t < slots; ++t) {
                double& value = to[t / kBlock * view.width * kBlock + t % kBlock];
                value = std::numeric_limits<double>::quiet_NaN();
                if (t >= size) continue;
                value = rows.row(order[t])[j];
                low = std::min(low, value);  // a NaN is passed over: no search finds its point
                high = std::max(high, value);
            }
            box[j * 2 * kFan] = low;
            box[j * 2 * kFan + kFan] = high;
        }
        if (tree_.narrow_points) {
            const int64_t begin = first * view.width;
            for (int64_t e = begin; e < begin + slots * view.width; ++e) {
                tree_.narrow_points[e] = static_cast<float>(tree_.points[e]);
            }
        }
        tree_.least[view.levels - 1][node] = indices[order[0]];
    }

    // The boxes of a level from those of the next.
    void merge_boxes(int level) {
        const TreeView& view = tree_.view;
        for (int64_t node = 0; node < int64_t{1} << view.level[level].depth; ++node) {
            const double* children = box_of(level + 1, node * kFan);
            double* box = box_of(level, node);
            for (int64_t j = 0; j < view.width; ++j) {
                const double* low = children + j * 2 * kFan;
                box[j * 2 * kFan] = *std::min_element(low, low + kFan);
                box[j * 2 * kFan + kFan] = *std::max_element(low + kFan, low + 2 * kFan);
            }
            const int32_t* least = view.level[level + 1].least + node * kFan;
            tree_.least[level][node] = *std::min_element(least, least + kFan);
        }
    }

    const Rows<T>& rows_;
    const int32_t* labels_;
    const int threads_;
    int depth_ = 0;
    Tree tree_;
    std::vector<int32_t> order_;
};

}  // namespace

template <typename T>
Tree build_tree(const Rows<T>& rows, const int32_t* labels, int threads, bool narrow) {
    return Builder<T>(rows, labels, threads, narrow).build();
}

template Tree build_tree(const Rows<float>&, const int32_t*, int, bool);
template Tree build_tree(const Rows<double>&, const int32_t*, int, bool);

}  // namespace msma
