#include "radius_count.cuh"

#include "kinds.cuh"

namespace msma::cuda {

using namespace msma::device;

template <typename T>
void radius_count(const Kernel& kernel, const Rows<T>& x, const Rows<T>& y, const Rule& rule, const double* thresholds,
                  int64_t radii, int64_t* counts, StreamHandle stream) {
    constexpr int kWarps = 4, kRows = 4;
    check_most("radii", radii, kMostRadii);
    with_kind(kernel.kind, [&](auto constant) {
        constexpr Kind kind = decltype(constant)::kind;
        using Tiles = Tile<kind, kWarps, kRows>;
        const Grid grid{blocks_of(x.count, Tiles::kQueries), 1, kWarps * kWarp, Tiles::bytes()};
        launch("radius_count", radius_count_kernel<kind, kWarps, kRows>, grid, stream_of(stream), side_of(x),
               side_of(y), kernel.p, rule, thresholds, static_cast<int>(radii), counts);
    });
}

template void radius_count(const Kernel&, const Rows<float>&, const Rows<float>&, const Rule&, const double*, int64_t,
                           int64_t*, StreamHandle);
template void radius_count(const Kernel&, const Rows<double>&, const Rows<double>&, const Rule&, const double*, int64_t,
                           int64_t*, StreamHandle);

}  // namespace msma::cuda
