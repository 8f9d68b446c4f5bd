#include "msma/scan.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "msma/cpu.hpp"
#include "parallel.hpp"
#include "scan_body.hpp"
#include "work.hpp"

namespace msma {
namespace {

constexpr int64_t kScanned = 256;  // rows of one task

}  // namespace

template <typename T>
ScanBody<T> best_scan_body() {
#ifdef MSMA_X86_BODIES
    if (at_least(InstructionSet::avx512)) return avx512::scan_body<T>();
    if (at_least(InstructionSet::avx2)) return avx2::scan_body<T>();
#endif
    return scalar::scan_body<T>();
}

template <typename T>
void column_ranges(const Rows<T>& rows, int threads, double* low, double* high) {
    const int64_t d = rows.dimension;
    const auto width = static_cast<size_t>(d);
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const ScanBody<T> body = best_scan_body<T>();
    struct Part {
        std::vector<T> low, high, poison;
    };
    std::vector<Part> parts(static_cast<size_t>(threads));
    parallel_for(ceil_div(rows.count, kScanned), threads, [&](int64_t task, int worker) {
        Part& part_of = parts[static_cast<size_t>(worker)];
        if (part_of.low.empty()) {
            part_of.low.assign(width, infinity);
            part_of.high.assign(width, -infinity);
            part_of.poison.assign(width, T{0});
        }
        body.ranges(part(rows, nth(task, kScanned, rows.count)), part_of.low.data(), part_of.high.data(),
                    part_of.poison.data());
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

template <typename T>
bool all_finite(const T* values, int64_t count, int threads) {
    const ScanBody<T> body = best_scan_body<T>();
    constexpr int64_t step = 1 << 16;
    std::atomic<bool> finite{true};
    parallel_for(ceil_div(count, step), worth_starting(count, 1, threads), [&](int64_t task, int) {
        const Range range = nth(task, step, count);
        if (finite && !body.finite(values + range.begin, range.size())) finite = false;
    });
    return finite;
}

template <typename T>
void column_medians(const Rows<T>& rows, int64_t step, int threads, double* medians) {
    const int64_t sampled = ceil_div(rows.count, step);
    constexpr int64_t columns = 16;  // a cache line of a float32 row at a time
    parallel_for(ceil_div(rows.dimension, columns), threads, [&](int64_t task, int) {
        const Range some = nth(task, columns, rows.dimension);
        std::vector<double> values(static_cast<size_t>(some.size() * sampled));
        for (int64_t s = 0; s < sampled; ++s) {
            const double norm = rows.norms ? rows.norms[s * step] : 1.0;
            for (int64_t j = some.begin; j < some.end; ++j) {
                const double value = static_cast<double>(rows.row(s * step)[j]) / norm;
                values[static_cast<size_t>((j - some.begin) * sampled + s)] = value - value == 0.0 ? value : 0.0;
            }
        }
        for (int64_t j = some.begin; j < some.end; ++j) {
            const auto first = values.begin() + (j - some.begin) * sampled, middle = first + sampled / 2;
            std::nth_element(first, middle, first + sampled);
            medians[j] = *middle;
        }
    });
}

template ScanBody<float> best_scan_body();
template ScanBody<double> best_scan_body();
template void column_ranges(const Rows<float>&, int, double*, double*);
template void column_ranges(const Rows<double>&, int, double*, double*);
template bool all_finite(const float*, int64_t, int);
template bool all_finite(const double*, int64_t, int);
template void column_medians(const Rows<float>&, int64_t, int, double*);
template void column_medians(const Rows<double>&, int64_t, int, double*);

}  // namespace msma
