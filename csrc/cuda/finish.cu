#include "finish.cuh"

#include "kinds.cuh"

namespace msma::cuda {

using namespace msma::device;

template <typename T>
void finish(const Kernel& kernel, const Rows<T>& x, const Rows<T>& y, const int64_t* columns, const int64_t* ends,
            int64_t n, int64_t first_row, int64_t k, double* keys, int64_t* indices, StreamHandle stream) {
    check_most("k", k, kMostNeighbors);
    with_kind(kernel.kind, [&](auto constant) {
        constexpr Kind kind = decltype(constant)::kind;
        const int room = Queue::room(k);
        const int warps = k <= kMostNeighbors / 4 ? 4 : 2;
        const Grid grid{blocks_of(n, warps), 1, warps * kWarp, warps * Queue::bytes(room)};
        launch("finish", finish_kernel<kind, T>, grid, stream_of(stream), side_of(x), side_of(y), kernel.p, columns,
               ends, n, first_row, static_cast<int>(k), room, keys, indices);
    });
}

template void finish(const Kernel&, const Rows<float>&, const Rows<float>&, const int64_t*, const int64_t*, int64_t,
                     int64_t, int64_t, double*, int64_t*, StreamHandle);
template void finish(const Kernel&, const Rows<double>&, const Rows<double>&, const int64_t*, const int64_t*, int64_t,
                     int64_t, int64_t, double*, int64_t*, StreamHandle);

}  // namespace msma::cuda
