#include "msma/scan.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "parallel.hpp"
#include "work.hpp"

namespace msma {
namespace {

constexpr int64_t kScanned = 256;  // rows of one task

}  // namespace

template <typename T>
void column_ranges(const Rows<T>& rows, int threads, double* low, double* high) {
    const int64_t d = rows.dimension;
    const auto width = static_cast<size_t>(d);
    constexpr T infinity = std::numeric_limits<T>::infinity();
    struct Part {
        std::vector<T> low, high, poison;
    };
    std::vector<Part> parts(static_cast<size_t>(threads));
    parallel_for(ceil_div(rows.count, kScanned), threads, [&](int64_t task, int worker) {
        Part& part = parts[static_cast<size_t>(worker)];
        if (part.low.empty()) {
            part.low.assign(width, infinity);
            part.high.assign(width, -infinity);
            part.poison.assign(width, T{0});
        }
        T *least = part.low.data(), *most = part.high.data(), *poison = part.poison.data();
        const Range range = nth(task, kScanned, rows.count);
        for (int64_t i = range.begin; i < range.end; ++i) {
            const T* x = rows.row(i);
            for (int64_t j = 0; j < d; ++j) {
                least[j] = x[j] < least[j] ? x[j] : least[j];
                most[j] = x[j] > most[j] ? x[j] : most[j];
                poison[j] += x[j] * T{0};  // NaN from then on after a NaN or an infinity
            }
        }
    });
    for (int64_t j = 0; j < d; ++j) {
        low[j] = std::numeric_limits<double>::infinity();
        high[j] = -low[j];
    }
    for (const Part& part : parts) {
        if (part.low.empty()) continue;
        for (size_t j = 0; j < width; ++j) {
            low[j] = std::min(low[j], static_cast<double>(part.low[j]));
            high[j] = std::max(high[j], static_cast<double>(part.high[j]));
        }
    }
    for (const Part& part : parts) {
        if (part.low.empty()) continue;
        for (size_t j = 0; j < width; ++j) {
            if (part.poison[j] != part.poison[j]) low[j] = high[j] = std::numeric_limits<double>::quiet_NaN();
        }
    }
}

template void column_ranges(const Rows<float>&, int, double*, double*);
template void column_ranges(const Rows<double>&, int, double*, double*);

}  // namespace msma
