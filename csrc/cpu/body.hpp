// What one compiled kernel body offers to the driver in keys.cpp: plain function pointers over one element
// type.
#pragma once

#include <cstdint>

#include "msma/keys.hpp"

namespace msma {

struct Range {
    int64_t begin, end;

    int64_t size() const { return end - begin; }
};

// d rounded up to whole lanes; scratch rows have this many doubles.
constexpr int64_t padded(int64_t dimension) { return (dimension + 7) / 8 * 8; }

template <typename T>
struct KeyBody {
    // keys[t] for t in `pairs`; `scratch` as told by pair_scratch(kernel, d).
    void (*pairs)(const Kernel&, const Rows<T>& x, const Rows<T>& y, const int64_t* i, const int64_t* j, Range pairs,
                  double* scratch, double* keys);
    // keys[r * y.count + c] for r in `rows` and c in `columns`; `scratch` as told by block_scratch(kernel, d,
    // columns).
    void (*block)(const Kernel&, const Rows<T>& x, const Rows<T>& y, Range rows, Range columns, double* scratch,
                  double* keys);
};

// Doubles of scratch that one call of `pairs` or `block` may write to.
constexpr int64_t kTileRows = 4;
constexpr int64_t kGroup = 32;  // pairs that share one pass over the mahalanobis tensor
constexpr int64_t pair_scratch(const Kernel& kernel, int64_t dimension) {
    return kernel.kind == Kind::mahalanobis ? 2 * kGroup * padded(dimension) : 0;
}
constexpr int64_t block_scratch(const Kernel& kernel, int64_t dimension, int64_t columns) {
    if (kernel.kind == Kind::mahalanobis) return pair_scratch(kernel, dimension);
    return (columns + kTileRows) * padded(dimension);
}

// In every body `kernel.tensor` has rows of padded(d) doubles, the padding zero.
namespace scalar {
template <typename T>
KeyBody<T> key_body(Kind kind);
}
#ifdef MSMA_X86_BODIES
namespace avx2 {
template <typename T>
KeyBody<T> key_body(Kind kind);
}
namespace avx512 {
template <typename T>
KeyBody<T> key_body(Kind kind);
}
#endif

}  // namespace msma
