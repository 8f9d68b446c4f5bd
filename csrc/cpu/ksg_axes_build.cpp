// Sorts the coordinates of samples and builds the space partition of two of them from their axes.
//
// An axis is sorted by the bit patterns of its values in digits of 11 bits; equal values stay in the order of their
// rows. The partition keeps every coordinate's rows sorted in every node: the widest coordinate is told by the ends of
// the lists, its cut is a place in its list, and the other lists are parted by rank, in order and without a branch.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "ksg_axes.hpp"
#include "parallel.hpp"
#include "part_stably.hpp"

namespace msma {
namespace {

constexpr int kDigit = 11, kDigits = 6;
constexpr int64_t kValues = int64_t{1} << kDigit;
constexpr int64_t kAlone = 1 << 14;  // points that one thread cuts and fills sooner than two

struct Ranked {
    uint64_t bits;
    int32_t row;
};

// Bit patterns in the order of the values; NaN lies beyond the infinities.
uint64_t ordered(double v) {
    uint64_t bits;
    std::memcpy(&bits, &v, sizeof bits);
    return bits ^ (bits >> 63 ? ~uint64_t{0} : uint64_t{1} << 63);
}

void sort_by_digits(Buffer<Ranked>& items, Buffer<Ranked>& other, int64_t n) {
    std::vector<int32_t> counts(static_cast<size_t>(kDigits * kValues));
    for (int64_t i = 0; i < n; ++i) {
        for (int digit = 0; digit < kDigits; ++digit) {
            ++counts[static_cast<size_t>(digit * kValues + (items[i].bits >> digit * kDigit & (kValues - 1)))];
        }
    }
    for (int digit = 0; digit < kDigits; ++digit) {
        int32_t* place = counts.data() + digit * kValues;
        const int shift = digit * kDigit;
        if (place[items[0].bits >> shift & (kValues - 1)] == n) continue;  // all alike
        int32_t total = 0;
        for (int64_t value = 0; value < kValues; ++value) {
            const int32_t count = place[value];
            place[value] = total;
            total += count;
        }
        for (int64_t i = 0; i < n; ++i) other[place[items[i].bits >> shift & (kValues - 1)]++] = items[i];
        std::swap(items, other);
    }
}

class Builder {
  public:
    Builder(JointTree& tree, const Sample& x, const Sample& y, const int32_t* labels)
        : tree_(tree), n_(tree.view.count), d_(tree.view.dx + tree.view.dy), labels_(labels), spare_(n_) {
        for (const Sample* sample : {&x, &y}) {
            for (size_t j = 0; j < sample->axes.size(); ++j) {
                const Axis& axis = sample->axes[j];
                values_.push_back(sample->rows.values + j);
                strides_.push_back(sample->rows.dimension);
                ranks_.push_back(axis.ranks.get());
                lists_.emplace_back(n_);
                std::copy_n(axis.rows.get(), n_, lists_.back().get());
            }
        }
    }

    void build(int threads) {
        std::vector<Range> nodes{{0, n_}};
        while (threads > 1 && static_cast<int>(nodes.size()) < 4 * threads && nodes[0].size() > kAlone) {
            std::vector<Range> parts;
            for (const Range node : nodes) {
                const int64_t middle = cut(node);
                parts.push_back({node.begin, middle});
                if (middle < node.end) parts.push_back({middle, node.end});
            }
            nodes = parts;
        }
        parallel_for(static_cast<int64_t>(nodes.size()), threads, [&](int64_t node, int) { finish(nodes[node]); });
        for (int level = 1; level < tree_.view.levels; ++level) merge(level);
    }

  private:
    double value(int j, int32_t row) const { return values_[j][row * strides_[j]]; }

    // Parts a node of more than one block; where its second half begins.
    int64_t cut(Range node) {
        if (node.size() <= kJointBlock) return node.end;
        int64_t left = kJointBlock;
        while (2 * left < node.size()) left *= 2;
        int widest = 0;
        double width = -1.0;
        for (int j = 0; j < d_; ++j) {
            const double extent = value(j, lists_[j][node.end - 1]) - value(j, lists_[j][node.begin]);
            if (extent > width) {
                width = extent;
                widest = j;
            }
        }
        const int32_t* rank = ranks_[widest];
        const int32_t first_right = rank[lists_[widest][node.begin + left]];
        for (int j = 0; j < d_; ++j) {
            if (j == widest) continue;
            part_stably(lists_[j].get() + node.begin, node.size(), spare_.get() + node.begin,
                        [&](int64_t, int32_t row) { return rank[row] < first_right; });
        }
        return node.begin + left;
    }

    void finish(Range node) {
        while (node.size() > kJointBlock) {
            const int64_t middle = cut(node);
            finish({node.begin, middle});
            node.begin = middle;
        }
        fill(node);
    }

    void fill(Range node) {
        const int64_t block = node.begin / kJointBlock, group = block / 8, child = block % 8;
        int32_t* index = tree_.index.get() + block * kJointBlock;
        int32_t least = std::numeric_limits<int32_t>::max();
        for (int64_t t = 0; t < kJointBlock; ++t) {
            const bool there = t < node.size();
            const int32_t row = lists_[0][node.begin + (there ? t : 0)];
            index[t] = there ? row : -1;
            least = std::min(least, row);
            if (labels_) tree_.labels[block * kJointBlock + t] = labels_[row];
            for (int j = 0; j < d_; ++j) tree_.points[(block * d_ + j) * kJointBlock + t] = value(j, row);
        }
        for (int j = 0; j < d_; ++j) {
            double* box = tree_.boxes[0].get() + (group * d_ + j) * 16 + child;
            box[0] = value(j, lists_[j][node.begin]);
            box[8] = value(j, lists_[j][node.end - 1]);
        }
        tree_.least[0][group * 8 + child] = least;
    }

    // The boxes of a level from those below.
    void merge(int level) {
        const int64_t nodes = ((tree_.view.blocks - 1) >> 3 * level) + 1;
        for (int64_t node = 0; node < nodes; ++node) {
            int32_t least = std::numeric_limits<int32_t>::max();
            for (int c = 0; c < 8; ++c) {
                const int32_t row = tree_.least[level - 1][node * 8 + c];
                if (row >= 0) least = std::min(least, row);
            }
            tree_.least[level][node] = least;
            for (int j = 0; j < d_; ++j) {
                const double* below = tree_.boxes[level - 1].get() + (node * d_ + j) * 16;
                double* box = tree_.boxes[level].get() + (node / 8 * d_ + j) * 16 + node % 8;
                box[0] = *std::min_element(below, below + 8);
                box[8] = *std::max_element(below + 8, below + 16);
            }
        }
    }

    JointTree& tree_;
    const int64_t n_;
    const int d_;
    const int32_t* labels_;
    std::vector<const double*> values_;
    std::vector<int64_t> strides_;
    std::vector<const int32_t*> ranks_;
    std::vector<Buffer<int32_t>> lists_;
    Buffer<int32_t> spare_;
};

}  // namespace

Axis::Axis(const double* given, int64_t n, int64_t stride) : values(n), rows(n), ranks(n) {
    Buffer<Ranked> items(n), other(n);
    for (int64_t i = 0; i < n; ++i) items[i] = {ordered(given[i * stride] + 0.0), static_cast<int32_t>(i)};  // -0 is 0
    sort_by_digits(items, other, n);
    for (int64_t place = 0; place < n; ++place) {
        const int32_t row = items[place].row;
        values[place] = given[row * stride];
        rows[place] = row;
        ranks[row] = static_cast<int32_t>(place);
    }
}

bool Sample::tame() const {
    double squares = 0.0;
    for (const Axis& axis : axes) {
        const double low = axis.values[0], high = axis.values[rows.count - 1];
        if (!std::isfinite(low) || !std::isfinite(high)) return false;
        squares += (high - low) * (high - low);
    }
    return std::isfinite(2.0 * squares);
}

std::vector<Sample> sorted_samples(const Rows<double>* rows, int64_t samples, int threads) {
    std::vector<std::vector<Axis>> axes(static_cast<size_t>(samples));
    const int helpers = samples * rows[0].count > kAlone ? threads : 1;
    parallel_for(samples, helpers, [&](int64_t s, int) {
        for (int64_t j = 0; j < rows[s].dimension; ++j) {
            axes[static_cast<size_t>(s)].emplace_back(rows[s].values + j, rows[s].count, rows[s].dimension);
        }
    });
    std::vector<Sample> sorted;
    for (size_t s = 0; s < axes.size(); ++s) sorted.push_back({rows[s], std::move(axes[s])});
    return sorted;
}

JointTree::JointTree(const Sample& x, const Sample& y, Kind kind, const int32_t* row_labels, int64_t window,
                     int threads) {
    const int64_t n = x.rows.count;
    view.count = n;
    view.blocks = (n + kJointBlock - 1) / kJointBlock;
    view.dx = static_cast<int>(x.rows.dimension);
    view.dy = static_cast<int>(y.rows.dimension);
    view.kind = kind;
    view.window = static_cast<int32_t>(std::min<int64_t>(window, n));
    const int64_t d = view.dx + view.dy;
    points = Buffer<double>(view.blocks * d * kJointBlock);
    index = Buffer<int32_t>(view.blocks * kJointBlock);
    view.points = points.get();
    view.index = index.get();
    if (row_labels) {
        labels = Buffer<int32_t>(view.blocks * kJointBlock);
        view.labels = labels.get();
    }
    for (int64_t nodes = view.blocks;; nodes = (nodes + 7) / 8) {
        const int64_t groups = (nodes + 7) / 8;
        const int level = view.levels++;
        boxes[level] = Buffer<double>(groups * d * 16);
        least[level] = Buffer<int32_t>(groups * 8);
        for (int64_t g = 0; g < groups * d; ++g) {
            std::fill_n(boxes[level].get() + g * 16, 8, std::numeric_limits<double>::infinity());
            std::fill_n(boxes[level].get() + g * 16 + 8, 8, -std::numeric_limits<double>::infinity());
        }
        std::fill_n(least[level].get(), groups * 8, -1);
        view.boxes[level] = boxes[level].get();
        view.least[level] = least[level].get();
        if (groups == 1) break;
    }
    Builder(*this, x, y, row_labels).build(threads);
}

}  // namespace msma
