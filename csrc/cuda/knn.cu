#include "knn.cuh"

#include "kinds.cuh"

namespace msma::cuda {
namespace {

using namespace msma::device;

constexpr int64_t kFew = 64;  // neighbours that leave shared memory for sixteen queues in a block

template <Kind kind, int kWarps, int kRows>
void launch_knn(const Side& x, const Side& y, int p, const Rule& rule, int64_t k, double* keys, int64_t* indices,
                Stream stream) {
    using Tiles = Tile<kind, kWarps, kRows>;
    const int room = Queue::room(k);
    const Grid grid{blocks_of(x.count, Tiles::kQueries), 1, kWarps * kWarp,
                    Tiles::bytes() + Tiles::kQueries * Queue::bytes(room)};
    launch("knn", knn_kernel<kind, kWarps, kRows>, grid, stream, x, y, p, rule, static_cast<int>(k), room, keys,
           indices);
}

}  // namespace

template <typename T>
void knn(const Kernel& kernel, const Rows<T>& x, const Rows<T>& y, const Rule& rule, int64_t k, double* keys,
         int64_t* indices, StreamHandle stream) {
    check_most("k", k, kMostNeighbors);
    with_kind(kernel.kind, [&](auto constant) {
        constexpr Kind kind = decltype(constant)::kind;
        const auto run = k <= kFew ? launch_knn<kind, 4, 4> : launch_knn<kind, 2, 1>;
        run(side_of(x), side_of(y), kernel.p, rule, k, keys, indices, stream_of(stream));
    });
}

template void knn(const Kernel&, const Rows<float>&, const Rows<float>&, const Rule&, int64_t, double*, int64_t*,
                  StreamHandle);
template void knn(const Kernel&, const Rows<double>&, const Rows<double>&, const Rule&, int64_t, double*, int64_t*,
                  StreamHandle);

}  // namespace msma::cuda
