// Sorted axes of a sample, and the space partition of two samples together.
//
// The joint points are cut into blocks of 8 (structure of arrays: a Lanes holds one coordinate of 8 points). Every
// aligned run of 2^s blocks is a node of a k-d tree, cut across its widest coordinate, so that no links are stored:
// node i of level l owns the blocks [8^l i, 8^l (i + 1)), and the boxes of 8 siblings lie together.
#pragma once

#include <cstdint>
#include <vector>

#include "body.hpp"
#include "buffer.hpp"
#include "msma/ksg.hpp"

namespace msma {

constexpr int64_t kJointBlock = 8;
constexpr int kJointLevels = 10;  // 2^31 points are 2^28 blocks
constexpr int kJointDimension = 2 * kLowDimension;
constexpr int kKeptKeys = 16;  // the most smallest keys that are kept in registers

struct JointView {
    int64_t count, blocks;
    int dx, dy, levels;  // dx <= dy
    Kind kind;
    int32_t window;
    const double* points;               // (blocks, dx + dy, 8), the last one filled up with its first point
    const int32_t* index;               // (blocks, 8) rows, -1 for filling
    const int32_t* labels;              // (blocks, 8), null for none
    const double* boxes[kJointLevels];  // (groups, dx + dy, 2, 8): lowest and highest coordinate, inf and -inf for none
    const int32_t* least[kJointLevels];  // (groups, 8): the smallest row
};

struct JointBody {
    // keys (blocks, kKeptKeys, 8): the `wanted` <= kKeptKeys smallest joint keys of each point of the blocks,
    // ascending, inf where there are fewer.
    void (*smallest)(const JointView&, Range blocks, int wanted, double* keys);
    // keys and indices (k,): the k first by (key, index) of one point, ascending, inf and -1 where there are fewer.
    void (*nearest)(const JointView&, int64_t position, int64_t k, double* keys, int64_t* indices);
};

namespace scalar {
JointBody joint_body();
}
#ifdef MSMA_X86_BODIES
namespace avx2 {
JointBody joint_body();
}
namespace avx512 {
JointBody joint_body();
}
#endif

// One coordinate of a sample in ascending order, equal values by row.
struct Axis {
    Buffer<double> values;
    Buffer<int32_t> rows, ranks;  // rows[ranks[i]] = i

    // values (n,) `stride` apart
    Axis(const double* values, int64_t n, int64_t stride);
};

struct Sample {
    Rows<double> rows;
    std::vector<Axis> axes;

    // Whether all values are finite and no key overflows.
    bool tame() const;
};

// The samples' axes, each sorted by one thread.
std::vector<Sample> sorted_samples(const Rows<double>* rows, int64_t samples, int threads);

struct JointTree {
    JointView view{};
    Buffer<double> points, boxes[kJointLevels];
    Buffer<int32_t> index, labels, least[kJointLevels];

    // x.rows.dimension <= y.rows.dimension
    JointTree(const Sample& x, const Sample& y, Kind kind, const int32_t* labels, int64_t window, int threads);
};

}  // namespace msma
