// Uninitialised arrays on cache line boundaries, so that no vector load crosses a line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace msma {

template <typename T>
class Aligned {
  public:
    Aligned() = default;
    explicit Aligned(int64_t size)
        : data_(static_cast<T*>(::operator new(static_cast<size_t>(size) * sizeof(T), kLine))) {}

    T* get() const { return data_.get(); }
    T& operator[](int64_t at) const { return data_.get()[at]; }

  private:
    static constexpr std::align_val_t kLine{64};
    struct Free {
        void operator()(T* p) const { ::operator delete(p, kLine); }
    };
    std::unique_ptr<T, Free> data_;
};

}  // namespace msma
