#include "select_k.cuh"

#include "kinds.cuh"

namespace msma::cuda {

using namespace msma::device;

void select_k(const double* values, const int64_t* ids, int64_t rows, int64_t m, int64_t k, double* keys,
              int64_t* indices, StreamHandle stream) {
    check_most("k", k, kMostNeighbors);
    const int room = Queue::room(k);
    const int warps = k <= kMostNeighbors / 4 ? 4 : 2;
    const Grid grid{blocks_of(rows, warps), 1, warps * kWarp, warps * Queue::bytes(room)};
    launch("select_k", select_k_kernel, grid, stream_of(stream), values, ids, rows, m, static_cast<int>(k), room, keys,
           indices);
}

void select_large(const double* values, int64_t rows, int64_t m, int64_t k, double* keys, int64_t* indices,
                  StreamHandle stream) {
    check_most("k", k, m);
    check_most("m", m, INT32_MAX);  // a digit's count is an int
    const Grid grid{rows, 1, kRadixThreads, kDigits * 4 + 32 + 16};
    launch("select_large", select_large_kernel, grid, stream_of(stream), values, m, k, keys, indices);
}

}  // namespace msma::cuda
