// The searches of the direct metrics against every pair's key, for the sanitizers: sizes that the screen serves and
// that it does not, self and cross, ties, labels and windows, rows that are not finite, one thread and three.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "msma/cpu.hpp"
#include "msma/direct.hpp"

namespace {

using namespace msma;
using Pair = std::pair<double, int64_t>;

struct Shape {
    int64_t n, m, d;
};

template <typename T>
bool agree(Kind kind, Shape shape, bool ties, bool wide, int64_t window, int threads) {
    std::mt19937 generator(7);
    std::normal_distribution<double> normal;
    std::vector<T> values(static_cast<size_t>(std::max(shape.n, shape.m) * shape.d));
    for (T& v : values) v = static_cast<T>(ties ? std::rint(2.0 * normal(generator)) : normal(generator));
    if (wide) {
        for (size_t v = 0; v < values.size(); v += static_cast<size_t>(shape.d)) values[v] *= 1000;
        values[1] = std::numeric_limits<T>::quiet_NaN();
    }
    std::vector<int32_t> labels(static_cast<size_t>(std::max(shape.n, shape.m)));
    for (int32_t& label : labels) label = static_cast<int32_t>(generator() % 5);
    std::vector<int64_t> own(labels.size());
    for (size_t i = 0; i < own.size(); ++i) own[i] = static_cast<int64_t>(i);
    const Rows<T> x{values.data(), nullptr, shape.n, shape.d}, y{values.data(), nullptr, shape.m, shape.d};
    const Kernel kernel{kind, 3, nullptr};
    const int32_t* label = ties ? labels.data() : nullptr;
    const Rules rules{own.data(), nullptr, label, label, window};
    const Direct<T> problem{&kernel, x, y, shape.n == shape.m, rules, nullptr, threads};

    const int64_t k = 6;
    std::vector<std::vector<Pair>> found(static_cast<size_t>(shape.n));
    std::vector<double> keys(static_cast<size_t>(shape.n * k)), every(static_cast<size_t>(shape.n * shape.m));
    std::vector<int64_t> indices(keys.size()), candidates(found.size()), counts(found.size());
    direct_knn(problem, k, keys.data(), indices.data(), candidates.data());
    block_keys(kernel, x, y, 1, every.data());
    std::vector<double> thresholds(static_cast<size_t>(shape.n));
    for (int64_t i = 0; i < shape.n; ++i) {
        std::vector<Pair>& row = found[static_cast<size_t>(i)];
        for (int64_t j = 0; j < shape.m; ++j) {
            const double key = every[static_cast<size_t>(i * shape.m + j)];
            if (rules.admit(i, j) && !std::isnan(key)) row.emplace_back(key, j);
        }
        std::sort(row.begin(), row.end());
        thresholds[static_cast<size_t>(i)] = row.empty() ? 1.0 : row[row.size() / 9].first;
    }
    direct_count(problem, thresholds.data(), counts.data());
    for (int64_t i = 0; i < shape.n; ++i) {
        const std::vector<Pair>& row = found[static_cast<size_t>(i)];
        const double limit = thresholds[static_cast<size_t>(i)];
        const auto inside = std::count_if(row.begin(), row.end(), [limit](const Pair& p) { return p.first <= limit; });
        if (counts[static_cast<size_t>(i)] != inside) return false;
        for (int64_t r = 0; r < std::min<int64_t>(k, static_cast<int64_t>(row.size())); ++r) {
            const auto at = static_cast<size_t>(i * k + r);
            if (Pair{keys[at], indices[at]} != row[static_cast<size_t>(r)]) return false;
        }
    }
    return true;
}

}  // namespace

int main() {
    int wrong = 0;
    for (const Kind kind : {Kind::manhattan, Kind::chebyshev, Kind::minkowski}) {
        for (const Shape shape : {Shape{60, 60, 5}, Shape{739, 739, 1}, Shape{739, 739, 13}, Shape{811, 811, 150},
                                  Shape{733, 1009, 21}, Shape{1009, 733, 21}}) {
            for (const bool ties : {false, true}) {
                for (const bool wide : {false, true}) {
                    if (!agree<float>(kind, shape, ties, wide, 2, 1) || !agree<double>(kind, shape, ties, wide, 0, 3)) {
                        std::printf("kind %d, shape %d x %d x %d: answers differ\n", static_cast<int>(kind),
                                    static_cast<int>(shape.n), static_cast<int>(shape.m), static_cast<int>(shape.d));
                        ++wrong;
                    }
                }
            }
        }
    }
    std::printf("%s: %s\n", name_of(instruction_set()), wrong ? "FAILED" : "passed");
    return wrong ? 1 : 0;
}
