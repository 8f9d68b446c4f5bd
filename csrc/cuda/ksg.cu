#include "ksg.cuh"

#include "kinds.cuh"

namespace msma::cuda {

using namespace msma::device;

namespace {

constexpr int64_t kFew = 32;  // places of a queue that leave shared memory for eight of them beside two tiles

template <Kind kind, int kWarps, int kRows>
void launch_ksg(const KsgBatch& batch, int64_t* n_x, int64_t* n_y, uint8_t* tied, Stream stream) {
    using Tiles = Tile<kind, kWarps, kRows>;
    const int room = Queue::room(batch.k_most + 1);
    const Grid grid{blocks_of(batch.n, Tiles::kQueries), batch.count, kWarps * kWarp,
                    2 * Tiles::bytes() + Tiles::kQueries * Queue::bytes(room)};
    launch("ksg", ksg_kernel<kind, kWarps, kRows>, grid, stream, batch, room, n_x, n_y, tied);
}

}  // namespace

void ksg(Kind kind, const KsgBatch& batch, int64_t* n_x, int64_t* n_y, uint8_t* tied, StreamHandle stream) {
    check_most("k", batch.k_most, kMostNeighbors - 1);
    check_most("ks", batch.k_count, kMostRadii);
    if (kind != Kind::sqeuclidean && kind != Kind::chebyshev) {
        throw std::runtime_error("kind: expected sqeuclidean or chebyshev");
    }
    const bool few = batch.k_most < kFew;
    if (kind == Kind::sqeuclidean) {
        const auto run = few ? launch_ksg<Kind::sqeuclidean, 4, 2> : launch_ksg<Kind::sqeuclidean, 2, 1>;
        run(batch, n_x, n_y, tied, stream_of(stream));
    } else {
        const auto run = few ? launch_ksg<Kind::chebyshev, 4, 2> : launch_ksg<Kind::chebyshev, 2, 1>;
        run(batch, n_x, n_y, tied, stream_of(stream));
    }
}

}  // namespace msma::cuda
