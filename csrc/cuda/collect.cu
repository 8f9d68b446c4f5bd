#include "collect.cuh"

#include "kinds.cuh"

namespace msma::cuda {

using namespace msma::device;

namespace {
constexpr int64_t kBlocks = 512;  // enough to fill a GPU: with few queries the points are split
}

void collect(const ScreenSide& x, const ScreenSide& y, const float* c, int64_t width, const Rule& rule,
             const float* top, int64_t limit, int64_t* listed, float* low, int32_t* count, StreamHandle stream) {
    for (const int64_t rows : {x.rows, y.rows}) {
        if (rows % kTile != 0) {
            throw std::runtime_error("rows: expected a multiple of 128, got " + std::to_string(rows));
        }
    }
    if (width < 1 || width % kDepth != 0 || width > INT32_MAX) {
        throw std::runtime_error("width: expected a multiple of 32, got " + std::to_string(width));
    }
    if (x.rows == 0 || y.rows == 0) return;
    const int64_t blocks = x.rows / kTile, tiles = y.rows / kTile;
    const int64_t wanted = blocks_of(kBlocks, blocks) < tiles ? blocks_of(kBlocks, blocks) : tiles;
    const int64_t share = blocks_of(tiles, wanted) * kTile;
    const auto twos = [](const float* values) { return reinterpret_cast<const Two*>(values); };
    const CollectProblem problem{
        x.b,    y.b,   x.near, x.far,  top, twos(c), twos(y.near), twos(y.far), rule, static_cast<int>(width),
        y.rows, share, limit,  listed, low, count};
    const Grid grid{blocks, blocks_of(y.rows, share), kCollectWarps * kWarp, collect_shared()};
    const auto kernel = rule.labels == nullptr ? collect_kernel<false> : collect_kernel<true>;
    launch("collect", kernel, grid, stream_of(stream), problem);
}

}  // namespace msma::cuda
