// Pseudo-random numbers of schedules and roundings: SplitMix64 (Steele, Lea, Flood 2014).
#pragma once

#include <cstdint>

#include "sanitizers.hpp"

namespace msma::emulator {

class Random {
  public:
    void seed(uint64_t seed) { state_ = seed * 0x2545f4914f6cdd1dull + 0x6a09e667f3bcc909ull; }

    MSMA_UNWATCHED uint64_t next() {
        uint64_t z = state_ += 0x9e3779b97f4a7c15ull;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        return z ^ (z >> 31);
    }

    // 0 .. count - 1, count below 2^32
    MSMA_UNWATCHED uint32_t below(uint32_t count) { return static_cast<uint32_t>(((next() >> 32) * count) >> 32); }

  private:
    uint64_t state_ = 0;
};

}  // namespace msma::emulator
