// A block's shared memory. Whatever is taken lies between red zones of its own, exactly as long as asked for:
// AddressSanitizer finds accesses beyond it, and without it changed red zones tell of writes.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "fiber.hpp"
#include "region.hpp"
#include "settings.hpp"

namespace msma::emulator {

constexpr int kTakes = 64;
constexpr int64_t kRedZone = 512;
constexpr unsigned char kRed = 0xa5;

class Arena {
  public:
    // For the next block of a launch with so many bytes of shared memory.
    void begin(int64_t given) {
        given_ = given;
        takes_ = 0;
        bytes_ = given + (kTakes + 1) * kRedZone;
        const bool fresh = memory_.hold(static_cast<size_t>(bytes_));
        unpoison(memory_.data(), memory_.size());
        paint(memory_.data(), fresh ? bytes_ : painted_, kRed);
        poison(memory_.data(), memory_.size());
        painted_ = 0;
    }

    // A thread's take number `index`, of so many bytes, after `before` bytes.
    MSMA_UNWATCHED void* take(int index, int64_t bytes, int64_t before) {
        const int self = machine.running->thread;
        if (bytes < 0 || before + bytes > given_) {
            fail("shared memory: thread %d takes %lld bytes after %lld, the launch gives %lld", self,
                 static_cast<long long>(bytes), static_cast<long long>(before), static_cast<long long>(given_));
        }
        if (index >= kTakes) fail("shared memory: thread %d takes more than %d times", self, kTakes);
        if (index == takes_) {  // the first thread here
            unsigned char* at = index == 0 ? memory_.data() + kRedZone : end_of(index - 1) + kRedZone;
            took_[index] = {at, bytes, self};
            ++takes_;
            unpoison(at, static_cast<size_t>(bytes));
            paint(at, bytes, settings.fill);
            painted_ = end_of(index) + kRedZone - memory_.data();
        }
        if (took_[index].bytes != bytes) {
            fail("shared memory: thread %d takes %lld bytes where thread %d took %lld, as take %d", self,
                 static_cast<long long>(bytes), took_[index].thread, static_cast<long long>(took_[index].bytes), index);
        }
        return took_[index].at;
    }

    // Whether these bytes lie in what was taken at once.
    MSMA_UNWATCHED bool holds(const void* at, int64_t bytes) const {
        const unsigned char* first = static_cast<const unsigned char*>(at);
        for (int i = 0; i < takes_; ++i) {
            if (first >= took_[i].at && first + bytes <= took_[i].at + took_[i].bytes) return true;
        }
        return false;
    }

    // At a block's end: the red zones as they were. AddressSanitizer has watched them itself.
    MSMA_UNWATCHED void check_red_zones() const {
        if (kAddresses) return;
        const unsigned char* at = memory_.data();
        for (int i = 0; i <= takes_; ++i) {
            const unsigned char* stop = i < takes_ ? took_[i].at : memory_.data() + painted_;
            for (; at < stop; ++at) {
                if (*at == kRed) continue;
                const std::string where = i == 0 ? std::to_string(stop - at) + " bytes before the first take"
                                                 : std::to_string(at - (took_[i - 1].at + took_[i - 1].bytes)) +
                                                       " bytes after the end of take " + std::to_string(i - 1);
                throw std::runtime_error("shared memory: written beyond what was taken, " + where);
            }
            if (i < takes_) at = took_[i].at + took_[i].bytes;
        }
    }

  private:
    struct Take {
        unsigned char* at;
        int64_t bytes;
        int thread;
    };

    MSMA_UNWATCHED unsigned char* end_of(int index) const {
        return took_[index].at + (took_[index].bytes + 15) / 16 * 16;
    }

    // volatile: else the compiler may call memset, which is watched.
    MSMA_UNWATCHED static void paint(unsigned char* at, int64_t bytes, unsigned char value) {
        const uint64_t word = 0x0101010101010101ull * value;
        int64_t i = 0;
        for (; i + 8 <= bytes; i += 8) *reinterpret_cast<volatile uint64_t*>(at + i) = word;
        for (; i < bytes; ++i) *static_cast<volatile unsigned char*>(at + i) = value;
    }

    Region memory_;
    int64_t given_ = 0;
    int64_t bytes_ = 0;
    int64_t painted_ = 0;  // of the last block: the bytes from the start that it may have changed
    int takes_ = 0;
    Take took_[kTakes];
};

inline Arena arena;

}  // namespace msma::emulator

namespace msma::device {

class Shared {
  public:
    Shared() : at_(0), takes_(0) {}
    template <typename T>
    T* take(int count) {
        static_assert(alignof(T) <= 16, "shared memory is aligned to 16 bytes");
        const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
        void* found = emulator::arena.take(takes_, bytes, at_);
        at_ += (bytes + 15) / 16 * 16;
        ++takes_;
        return static_cast<T*>(found);
    }

  private:
    int64_t at_;
    int takes_;
};

}  // namespace msma::device
