// A point with its key, and the order of neighbours: by (key, index).
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace msma {

struct Neighbor {
    double key;
    int64_t index;
    // NaN lies above everything, so that the order is one for any input.
    bool operator<(const Neighbor& other) const {
        if (key < other.key || other.key < key) return key < other.key;
        if ((key != key) != (other.key != other.key)) return other.key != other.key;
        return index < other.index;
    }
};

// Sorts the neighbours found and writes the first k of them; inf and -1 where there are fewer.
inline void write_nearest(Neighbor* found, int64_t count, int64_t k, double* keys, int64_t* indices) {
    std::sort(found, found + count);
    for (int64_t r = 0; r < k; ++r) {
        keys[r] = r < count ? found[r].key : std::numeric_limits<double>::infinity();
        indices[r] = r < count ? found[r].index : -1;
    }
}

}  // namespace msma
