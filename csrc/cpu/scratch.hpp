// Doubles on a cache line boundary; not initialised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace msma {

class Scratch {
  public:
    explicit Scratch(int64_t size)
        : data_(static_cast<double*>(::operator new(static_cast<size_t>(size) * sizeof(double), kLine))) {}

    double* get() const { return data_.get(); }

  private:
    static constexpr std::align_val_t kLine{64};
    struct Free {
        void operator()(double* p) const { ::operator delete(p, kLine); }
    };
    std::unique_ptr<double, Free> data_;
};

}  // namespace msma
