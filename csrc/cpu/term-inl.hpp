// One step of the canonical keys over Lanes: the term of a coordinate and its place in an accumulator.
#pragma once

#include "lanes.hpp"
#include "msma/keys.hpp"

namespace msma {
namespace MSMA_ISA {
namespace {

// The seven kinds need five loops: cosine and mahalanobis are built on the product. `odd` is a constant once
// the loops over accumulators are unrolled; see subtract.
template <Kind kind>
inline Lanes term(Lanes x, Lanes y, [[maybe_unused]] int p, [[maybe_unused]] bool odd) {
    if constexpr (kind == Kind::inner_product) {
        return multiply(x, y);
    } else if constexpr (kind == Kind::sqeuclidean) {
        const Lanes a = subtract(x, y, odd);
        return multiply(a, a);
    } else if constexpr (kind == Kind::manhattan) {
        return absolute(subtract(x, y, odd));
    } else if constexpr (kind == Kind::chebyshev) {
        return absolute(subtract(x, y));
    } else {
        const Lanes size = absolute(subtract(x, y));
        Lanes power = size;
        for (int factor = 1; factor < p; ++factor) power = multiply(power, size);
        return power;
    }
}

template <Kind kind>
inline Lanes gather(Lanes accumulator, Lanes value) {
    return kind == Kind::chebyshev ? maximum(accumulator, value) : add(accumulator, value);
}

}  // namespace
}  // namespace MSMA_ISA
}  // namespace msma
