// What one compiled body of the KSG counts offers to the driver in ksg_rows.cpp. A row of keys holds `size` float32
// values on a cache line, size a multiple of kKsgStep; what is not a neighbour is at inf.
#pragma once

#include <cstdint>

#include "msma/cpu.hpp"

namespace msma {

constexpr int64_t kKsgStep = 16;
constexpr int kKsgBins = 16;

// Values below `low`, and values not above `high`.
struct KsgTally {
    int64_t below, upto;
};

struct KsgRowsBody {
    // out[r * kSquare + c] = max_k |x_rk - y_ck| of packed rows; as DistanceBody::square.
    void (*chebyshev_square)(const float* left, const float* right, int64_t d, int64_t rows, int64_t columns,
                             float* out);
    // The values of max(a, b) that are not above some bound of the k-th smallest, k <= kKsgBins, in no order; how many.
    int64_t (*nearest)(const float* a, const float* b, int64_t size, int k, float* out);
    KsgTally (*tally)(const float* a, int64_t size, float low, float high);
    // The places with low <= max(a, b) <= high, ascending; how many.
    int64_t (*list)(const float* a, const float* b, int64_t size, float low, float high, int32_t* out);
    // to[j] = from[index[j]]
    void (*gather)(const float* from, const int32_t* index, int64_t n, float* to);
};

namespace scalar {
KsgRowsBody ksg_rows_body();
}
#ifdef MSMA_X86_BODIES
namespace avx2 {
KsgRowsBody ksg_rows_body();
}
namespace avx512 {
KsgRowsBody ksg_rows_body();
}
#endif

inline KsgRowsBody best_ksg_rows_body() {
#ifdef MSMA_X86_BODIES
    if (at_least(InstructionSet::avx512)) return avx512::ksg_rows_body();
    if (at_least(InstructionSet::avx2)) return avx2::ksg_rows_body();
#endif
    return scalar::ksg_rows_body();
}

}  // namespace msma
