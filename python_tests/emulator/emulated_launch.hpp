// csrc/cuda/launch.cuh on the emulator: a launch has ended when it returns, and what went wrong in its kernel is thrown
// from it.
#pragma once

#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

#include "emulated_device.hpp"
#include "scheduler.hpp"

namespace msma::device {

using Stream = void*;

struct Grid {
    int64_t x;
    int64_t y;
    int threads;
    int64_t shared;
};

template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const Grid& grid, Stream, Arguments... arguments) {
    if (grid.x <= 0 || grid.y <= 0) {
        return;
    }
    if (grid.x > 2147483647 || grid.y > 65535) {
        throw std::runtime_error(std::string(name) + ": expected a grid of at most 2147483647 x 65535 blocks, got " +
                                 std::to_string(grid.x) + " x " + std::to_string(grid.y));
    }
    if (grid.threads < kWarp || grid.threads > 1024 || grid.threads % kWarp != 0) {
        throw std::runtime_error(std::string(name) + ": expected a multiple of 32 threads, at most 1024, got " +
                                 std::to_string(grid.threads));
    }
    constexpr int64_t kMostShared = 227 * 1024;  // of a block, compute capability 9.0
    if (grid.shared < 0 || grid.shared > kMostShared) {
        throw std::runtime_error(std::string(name) + ": expected at most " + std::to_string(kMostShared) +
                                 " bytes of shared memory, got " + std::to_string(grid.shared));
    }
    static std::mutex one_at_a_time;
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    using Call = std::pair<void (*)(Parameters...), std::tuple<Parameters...>>;
    Call call(kernel, std::tuple<Parameters...>(static_cast<Parameters>(arguments)...));
    const auto run = [](void* at) {
        const Call& of = *static_cast<Call*>(at);
        std::apply(of.first, of.second);
    };
    try {
        emulator::run_launch({run, &call}, grid.x, grid.y, grid.threads, grid.shared);
    } catch (const std::runtime_error& error) {
        throw std::runtime_error(std::string(name) + ": " + error.what());
    }
}

}  // namespace msma::device
