// What the drivers share: scratch memory, and how work is cut into tasks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "body.hpp"

namespace msma {

// Values of T on a cache line boundary; not initialised.
template <typename T>
class Scratch {
  public:
    explicit Scratch(int64_t size)
        : data_(static_cast<T*>(::operator new(static_cast<size_t>(size) * sizeof(T), kLine))) {}

    T* get() const { return data_.get(); }

  private:
    static constexpr std::align_val_t kLine{64};
    struct Free {
        void operator()(T* p) const { ::operator delete(p, kLine); }
    };
    std::unique_ptr<T, Free> data_;
};

// Coordinates read for one pair, and how many make a thread worth its start (some 50 microseconds of work).
constexpr int64_t cost_of_pair(const Kernel& kernel, int64_t d) { return kernel.kind == Kind::mahalanobis ? d * d : d; }
constexpr int64_t kThreadCost = int64_t{1} << 19;

inline int worth_starting(int64_t pairs, int64_t cost, int threads) {
    const double work = static_cast<double>(pairs) * static_cast<double>(cost);
    return static_cast<int>(std::clamp(work / static_cast<double>(kThreadCost), 1.0, static_cast<double>(threads)));
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline Range nth(int64_t task, int64_t step, int64_t total) {
    return {task * step, std::min(total, (task + 1) * step)};
}

constexpr int64_t kPanelDoubles = 48 * 1024;  // 384 KiB of promoted y rows, within any second-level cache
inline int64_t panel_rows(int64_t d) { return std::clamp<int64_t>(kPanelDoubles / padded(d), 16, 512); }

}  // namespace msma
