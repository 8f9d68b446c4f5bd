// Pages of memory. Under ThreadSanitizer a block's stacks and shared memory must not be the last block's: their threads
// are in no order, and a page given back and taken anew is without history.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <stdexcept>

#include "sanitizers.hpp"

namespace msma::emulator {

class Region {
  public:
    Region() = default;
    Region(const Region&) = delete;
    Region& operator=(const Region&) = delete;
    ~Region() { give_back(); }

    MSMA_UNWATCHED unsigned char* data() const { return data_; }
    MSMA_UNWATCHED size_t size() const { return size_; }

    // At least so many bytes; whether they are new.
    bool hold(size_t bytes) {
        if (bytes <= size_ && !kRaces) return false;
        give_back();
        void* found = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (found == MAP_FAILED) throw std::runtime_error("emulator: out of memory");
        data_ = static_cast<unsigned char*>(found);
        size_ = bytes;
        return true;
    }

  private:
    void give_back() {
        if (data_ == nullptr) return;
        unpoison(data_, size_);
        munmap(data_, size_);
        data_ = nullptr;
        size_ = 0;
    }

    unsigned char* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace msma::emulator
