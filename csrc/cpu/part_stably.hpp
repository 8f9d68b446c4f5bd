// Rows of a node of a space partition, parted in the order they had.
#pragma once

#include <algorithm>
#include <cstdint>

namespace msma {

// Those of list[0, size) for which goes_left(t, row) holds come first, both parts in their order; without a branch,
// which would be guessed wrong. right: room for `size` rows.
template <typename GoesLeft>
void part_stably(int32_t* list, int64_t size, int32_t* right, const GoesLeft& goes_left) {
    int64_t l = 0, r = 0;
    for (int64_t t = 0; t < size; ++t) {
        const int32_t row = list[t];
        const bool left = goes_left(t, row);
        list[l] = row;  // l <= t: nothing unread is lost
        right[r] = row;
        l += left;
        r += !left;
    }
    std::copy_n(right, r, list + l);
}

}  // namespace msma
