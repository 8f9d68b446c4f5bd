// What one compiled body offers to scan.cpp and units.cpp: single passes over rows.
#pragma once

#include <cstdint>

#include "msma/keys.hpp"

namespace msma {

template <typename T>
struct ScanBody {
    // Lowers low (d,) and raises high (d,) by the values of the rows; poison (d,) becomes NaN where one is not finite.
    void (*ranges)(const Rows<T>& rows, T* low, T* high, T* poison);
    // Whether all values are finite.
    bool (*finite)(const T* values, int64_t count);
    // hashes[i] = sum of weights[j] times the folded bits of x_j, -0.0 taken as 0.0: equal rows have equal hashes.
    void (*hash)(const Rows<T>& rows, const uint64_t* weights, uint64_t* hashes);
};

namespace scalar {
template <typename T>
ScanBody<T> scan_body();
}
#ifdef MSMA_X86_BODIES
namespace avx2 {
template <typename T>
ScanBody<T> scan_body();
}
namespace avx512 {
template <typename T>
ScanBody<T> scan_body();
}
#endif

template <typename T>
ScanBody<T> best_scan_body();

}  // namespace msma
