// From the arguments of a launcher to a kernel's: the kind as a constant, rows of either dtype as one type.
#pragma once

#include <stdexcept>
#include <string>
#include <type_traits>

#include "keys.cuh"
#include "launch.cuh"

namespace msma::device {

template <Kind kKind>
struct Constant {
    static constexpr Kind kind = kKind;
};

// run(Constant<kind>{}) for the kinds that have kernels.
template <typename Run>
void with_kind(Kind kind, Run run) {
    switch (kind) {
        case Kind::sqeuclidean:
            return run(Constant<Kind::sqeuclidean>{});
        case Kind::manhattan:
            return run(Constant<Kind::manhattan>{});
        case Kind::chebyshev:
            return run(Constant<Kind::chebyshev>{});
        case Kind::minkowski:
            return run(Constant<Kind::minkowski>{});
        case Kind::inner_product:
            return run(Constant<Kind::inner_product>{});
        case Kind::cosine:
            return run(Constant<Kind::cosine>{});
        default:
            throw std::runtime_error("kind: expected one that has a CUDA kernel, got mahalanobis");
    }
}

template <typename T>
Side side_of(const Rows<T>& rows) {
    const int64_t dimension = rows.dimension;
    if (dimension < 1 || dimension > INT32_MAX) {
        throw std::runtime_error("dimension: expected 1 to 2^31 - 1, got " + std::to_string(dimension));
    }
    return Side{rows.values, rows.norms, rows.count, static_cast<int>(dimension), std::is_same<T, float>::value};
}

inline void check_most(const char* name, int64_t value, int64_t most) {
    if (value < 1 || value > most) {
        throw std::runtime_error(std::string(name) + ": expected 1 to " + std::to_string(most) + ", got " +
                                 std::to_string(value));
    }
}

inline int64_t blocks_of(int64_t count, int64_t unit) { return (count + unit - 1) / unit; }

inline Stream stream_of(cuda::StreamHandle handle) { return reinterpret_cast<Stream>(handle); }

}  // namespace msma::device
