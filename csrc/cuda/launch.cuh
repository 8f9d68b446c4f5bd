// How a launcher (csrc/cuda/*.cu) starts a kernel: 64-bit counts checked against the grid's limits, every CUDA call
// checked.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#ifndef __CUDACC__
#include "emulated_launch.hpp"
#else

#include <cuda_runtime.h>

namespace msma::device {

using Stream = cudaStream_t;

inline void check(cudaError_t code, const char* what) {
    if (code != cudaSuccess) {
        throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(code));
    }
}

// Blocks of a grid's first (up to 2^31 - 1) and second (65535) dimension, `threads` of a block, bytes of shared memory.
struct Grid {
    int64_t x;
    int64_t y;
    int threads;
    int64_t shared;
};

template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const Grid& grid, Stream stream, Arguments... arguments) {
    if (grid.x <= 0 || grid.y <= 0) {
        return;
    }
    if (grid.x > 2147483647 || grid.y > 65535) {
        throw std::runtime_error(std::string(name) + ": expected a grid of at most 2147483647 x 65535 blocks, got " +
                                 std::to_string(grid.x) + " x " + std::to_string(grid.y));
    }
    if (grid.shared > 48 * 1024) {
        check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(grid.shared)),
              name);
    }
    const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y));
    // clang-format off
    kernel<<<blocks, grid.threads, static_cast<size_t>(grid.shared), stream>>>(static_cast<Parameters>(arguments)...);
    // clang-format on
    check(cudaGetLastError(), name);
}

}  // namespace msma::device
#endif
