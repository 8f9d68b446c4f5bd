// The space partition against every pair's key, for the sanitizers: widths, sizes around blocks and leaves, ties,
// labels and windows, one thread and three.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "msma/cpu.hpp"
#include "msma/keys.hpp"
#include "msma/tree.hpp"

namespace {

using namespace msma;
using Pair = std::pair<double, int64_t>;

template <typename T>
bool agree(Kind kind, int64_t n, int64_t d, bool ties, bool labelled, int64_t window, int threads) {
    std::mt19937 generator(7);
    std::normal_distribution<double> normal;
    std::vector<T> values(static_cast<size_t>(n * d));
    for (T& v : values) v = static_cast<T>(ties ? static_cast<int>(normal(generator)) : normal(generator));
    std::vector<int32_t> labels(static_cast<size_t>(n));
    for (int32_t& label : labels) label = static_cast<int32_t>(generator() % 5);
    const Rows<T> rows{values.data(), nullptr, n, d};
    const Kernel kernel{kind, 3, nullptr};
    const int32_t* groups = labelled ? labels.data() : nullptr;
    const TreeProblem<T> problem{kernel, rows, nullptr, groups, groups, window, threads};

    const int64_t k = std::min<int64_t>(n, 6);
    std::vector<double> keys(static_cast<size_t>(n * k)), every(static_cast<size_t>(n * n));
    std::vector<int64_t> indices(keys.size()), candidates(labels.size()), counts(labels.size()), own(labels.size());
    tree_knn(problem, k, keys.data(), indices.data(), candidates.data());
    std::vector<double> thresholds(labels.size(), 1.5);
    tree_count(problem, thresholds.data(), counts.data());
    for (size_t i = 0; i < thresholds.size(); ++i) thresholds[i] = static_cast<double>(i % 5);
    tree_count(problem, thresholds.data(), own.data());
    block_keys(kernel, rows, rows, 1, every.data());
    for (int64_t i = 0; i < n; ++i) {
        std::vector<Pair> found;
        for (int64_t j = 0; j < n; ++j) {
            const bool excluded = std::abs(i - j) <= window || (labelled && labels[i] == labels[j]);
            if (!excluded) found.emplace_back(every[i * n + j], j);
        }
        std::sort(found.begin(), found.end());
        const auto within = [&](double limit) {
            return std::count_if(found.begin(), found.end(), [&](const Pair& pair) { return pair.first <= limit; });
        };
        if (counts[i] != within(1.5) || own[i] != within(thresholds[i])) return false;
        found.resize(static_cast<size_t>(k), Pair{std::numeric_limits<double>::infinity(), -1});
        for (int64_t r = 0; r < k; ++r) {
            if (Pair{keys[i * k + r], indices[i * k + r]} != found[r]) return false;
        }
    }
    return true;
}

}  // namespace

int main() {
    int wrong = 0;
    for (const Kind kind : {Kind::sqeuclidean, Kind::manhattan, Kind::chebyshev, Kind::minkowski}) {
        for (const int64_t d : {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16}) {
            for (const int64_t n : {1, 7, 8, 33, 257, 700}) {
                for (const bool ties : {false, true}) {
                    const int64_t window = d % 3;
                    const bool labelled = d % 2 == 1;
                    if (!agree<float>(kind, n, d, ties, labelled, window, 1) ||
                        !agree<double>(kind, n, d, ties, labelled, window, 3)) {
                        std::printf("kind %d, shape %d x %d: answers differ\n", static_cast<int>(kind), int(n), int(d));
                        ++wrong;
                    }
                }
            }
        }
    }
    wrong += !agree<float>(Kind::sqeuclidean, 5000, 3, false, true, 2, 3);
    std::printf("%s: %s\n", name_of(instruction_set()), wrong ? "FAILED" : "passed");
    return wrong ? 1 : 0;
}
