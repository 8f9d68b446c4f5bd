// Memory on a cache line boundary; not initialised, so that pages never written cost nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace msma {

template <typename T>
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(int64_t size)
        : data_(static_cast<T*>(::operator new(static_cast<size_t>(size) * sizeof(T), std::align_val_t{64}))) {}

    T* get() const { return data_.get(); }
    T& operator[](int64_t i) const { return data_.get()[i]; }
    explicit operator bool() const { return data_ != nullptr; }

  private:
    struct Free {
        void operator()(T* p) const { ::operator delete(p, std::align_val_t{64}); }
    };
    std::unique_ptr<T, Free> data_;
};

}  // namespace msma
