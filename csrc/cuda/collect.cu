#include "collect.cuh"

#include "kinds.cuh"

namespace msma::cuda {

using namespace msma::device;

namespace {
constexpr int64_t kMostWidth = 1 << 24, kMostPoints = 1 << 30;  // whose places are ints
#ifndef MSMA_COLLECT_BLOCKS  // tests set fewer, so that a block has several tiles of few points
#define MSMA_COLLECT_BLOCKS 512
#endif
constexpr int64_t kBlocks = MSMA_COLLECT_BLOCKS;  // enough to fill a GPU: with few queries the points are split
}  // namespace

void collect(const ScreenSide& x, const ScreenSide& y, const float* c, int64_t width, const Rule& rule,
             const float* top, int64_t begin, int64_t end, int64_t limit, int64_t* listed, float* low, int32_t* count,
             StreamHandle stream) {
    for (const int64_t rows : {x.rows, y.rows}) {
        if (rows % kTile != 0) {
            throw std::runtime_error("rows: expected a multiple of 128, got " + std::to_string(rows));
        }
    }
    if (width < 1 || width % kDepth != 0 || width > kMostWidth) {
        throw std::runtime_error("width: expected a multiple of 64 up to 2^24, got " + std::to_string(width));
    }
    if (y.rows > kMostPoints) {
        throw std::runtime_error("rows: expected at most 2^30 points, got " + std::to_string(y.rows));
    }
    if (begin % kTile != 0 || end % kTile != 0 || begin < 0 || end > y.rows) {
        throw std::runtime_error("begin, end: expected multiples of 128 up to " + std::to_string(y.rows) + ", got " +
                                 std::to_string(begin) + ", " + std::to_string(end));
    }
    if (x.rows == 0 || begin >= end) return;
    const int64_t blocks = x.rows / kTile, tiles = (end - begin) / kTile;
    const int64_t wanted = blocks_of(kBlocks, blocks) < tiles ? blocks_of(kBlocks, blocks) : tiles;
    const int64_t share = blocks_of(tiles, wanted) * kTile;
    const CollectProblem problem{reinterpret_cast<const Chunk*>(x.b),
                                 reinterpret_cast<const Chunk*>(y.b),
                                 x.near,
                                 x.far,
                                 top,
                                 reinterpret_cast<const Two*>(c),
                                 y.near,
                                 y.far,
                                 rule.labels,
                                 rule.point_labels,
                                 static_cast<int>(width),
                                 static_cast<int>(begin),
                                 static_cast<int>(end),
                                 static_cast<int>(share),
                                 limit,
                                 listed,
                                 low,
                                 count};
    const Grid grid{blocks, blocks_of(end - begin, share), kCollectWarps * kWarp, collect_shared()};
    const auto kernel = rule.labels == nullptr ? collect_kernel<false> : collect_kernel<true>;
    launch("collect", kernel, grid, stream_of(stream), problem);
    if (rule.own != nullptr) {
        const Grid rows{blocks_of(x.rows, kCollectWarps), 1, kCollectWarps * kWarp, 0};
        launch("collect, own", exclude_own_kernel, rows, stream_of(stream), rule.own, rule.window, x.rows, limit,
               listed, low, count);
    }
}

}  // namespace msma::cuda
