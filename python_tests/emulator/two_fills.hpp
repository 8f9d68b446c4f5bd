// Finds reads of shared memory that nothing wrote.
#pragma once

#include <cstring>

#include "settings.hpp"

namespace msma::emulator {

// Whether run(), which launches and returns the outputs as a vector, gives the same bits whatever shared memory holds
// at first.
template <typename Run>
bool same_under_two_fills(const Run& run) {
    const unsigned char before = settings.fill;
    set_fill(0xff);  // NaNs, -1
    const auto first = run();
    set_fill(0x01);  // tiny numbers
    const auto second = run();
    set_fill(before);
    return first.size() == second.size() &&
           std::memcmp(first.data(), second.data(), first.size() * sizeof(first[0])) == 0;
}

}  // namespace msma::emulator
