// KSG counts against every pair's key, for the sanitizers: sizes around blocks, ties, labels, windows and a
// permutation, one thread and three.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "../cpu/ksg_sample.hpp"
#include "msma/cpu.hpp"
#include "msma/keys.hpp"
#include "msma/ksg_rows.hpp"

namespace {

using namespace msma;

constexpr int kKs[] = {1, 4};

// n_x + n_y + 10000 tied of every row and k of KSG1.
std::vector<int64_t> counted(const std::vector<double>& x, const std::vector<double>& y, int64_t n,
                             const KsgRule& rule) {
    std::vector<int64_t> out;
    for (int64_t i = 0; i < n; ++i) {
        std::vector<int64_t> columns;
        for (int64_t j = 0; j < n; ++j) {
            const bool excluded = std::abs(i - j) <= rule.window || (rule.groups && rule.groups[i] == rule.groups[j]);
            if (!excluded) columns.push_back(i * n + j);
        }
        std::vector<double> joint;
        for (const int64_t c : columns) joint.push_back(std::max(x[c], y[c]));
        std::sort(joint.begin(), joint.end());
        for (const int k : kKs) {
            const double eps = joint[k - 1];
            const auto below = [&](const std::vector<double>& keys) {
                return std::count_if(columns.begin(), columns.end(), [&](int64_t c) { return keys[c] < eps; });
            };
            const bool tied = std::upper_bound(joint.begin(), joint.end(), eps) - joint.begin() > k;
            out.push_back(below(x) + below(y) + (tied ? 10000 : 0));
        }
    }
    return out;
}

template <typename T>
bool agree(Kind kind, int64_t n, int64_t d, bool ties, bool labelled, int64_t window, int threads) {
    std::mt19937 generator(7);
    std::normal_distribution<double> normal;
    const auto made = [&](int64_t size) {
        std::vector<T> values(static_cast<size_t>(size));
        for (T& v : values) v = static_cast<T>(ties ? std::round(normal(generator)) : normal(generator));
        return values;
    };
    const std::vector<T> a = made(n * d), b = made(n * (d + 1));
    std::vector<int32_t> labels(static_cast<size_t>(n)), order(labels.size());
    for (int32_t& label : labels) label = static_cast<int32_t>(generator() % 9);
    std::iota(order.begin(), order.end(), 0);
    // The first sample in two parts, the second by the numbers of its rows, as they lie in another order.
    std::vector<int64_t> index(labels.size());
    std::iota(index.begin(), index.end(), int64_t{0});
    std::shuffle(index.begin(), index.end(), generator);
    std::vector<T> ordered;
    for (const int64_t i : index) ordered.insert(ordered.end(), b.data() + i * (d + 1), b.data() + (i + 1) * (d + 1));
    const Stored stored = sizeof(T) == sizeof(float) ? Stored::float32 : Stored::float64;
    const int64_t first = n / 3;
    const KsgSample samples[] = {{{{a.data(), first}, {a.data() + first * d, n - first}}, stored, nullptr, n, d},
                                 {{{b.data(), n}}, stored, index.data(), n, d + 1}};
    const Rows<T> rows[] = {{a.data(), nullptr, n, d}, {ordered.data(), nullptr, n, d + 1}};
    std::vector<double> x(static_cast<size_t>(n * n)), y(x.size());
    block_keys({kind, 0, nullptr}, rows[0], rows[0], 1, x.data());
    block_keys({kind, 0, nullptr}, rows[1], rows[1], 1, y.data());

    const KsgRule rule{labelled ? labels.data() : nullptr, nullptr, window};
    const KsgOptions options{kKs, 2, false, threads}, one{kKs + 1, 1, false, threads};
    std::vector<int64_t> n_x(static_cast<size_t>(2 * n)), n_y(n_x.size());
    const auto tied = std::make_unique<bool[]>(n_x.size());
    ksg_counts<T>(kind, samples, rule, options, n_x.data(), n_y.data(), tied.get());
    const std::vector<int64_t> expected = counted(x, y, n, rule);
    for (size_t t = 0; t < n_x.size(); ++t) {
        if (n_x[t] + n_y[t] + (tied[t] ? 10000 : 0) != expected[t]) return false;
    }

    // The identity among permutations gives the sum of the unpermuted pair, with v in place of digamma(v).
    std::vector<double> digamma(static_cast<size_t>(n + 2));
    std::iota(digamma.begin(), digamma.end(), 0.0);
    const double offset = 0.0;
    double total = 0.0;
    if (window) return true;
    const int64_t fewest =
        ksg_permutation_sums<T>(kind, samples, rule.groups, one, {&offset, digamma.data()}, order.data(), 1, &total);
    double wanted = 0.0;
    for (int64_t i = 0; i < n; ++i) {
        const auto same = std::count(labels.begin(), labels.end(), labels[static_cast<size_t>(i)]);
        wanted +=
            static_cast<double>(n - (labelled ? same : 1) + 1 - expected[static_cast<size_t>(2 * i + 1)] % 10000 - 2);
    }
    return fewest >= 4 && total == wanted;
}

// Every float16, by its definition.
bool halves_are_right() {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
        const int exponent = static_cast<int>(bits >> 10 & 31), digits = static_cast<int>(bits & 1023);
        const double size = exponent == 31 ? (digits ? NAN : INFINITY)
                                           : std::ldexp(exponent ? 1024 + digits : digits, std::max(exponent, 1) - 25);
        const double expected = bits & 0x8000 ? -size : size;
        const auto found = static_cast<double>(of_float16(static_cast<uint16_t>(bits)));
        const bool same = found == expected && std::signbit(found) == std::signbit(expected);
        if (!same && !(std::isnan(found) && std::isnan(expected))) return false;
    }
    return of_bfloat16(0xc040) == -3.0f;
}

}  // namespace

int main() {
    int wrong = halves_are_right() ? 0 : 1;
    for (const Kind kind : {Kind::sqeuclidean, Kind::chebyshev}) {
        for (const int64_t n : {60, 96, 97, 411}) {
            for (const int64_t d : {1, 9, 200}) {
                for (const bool ties : {false, true}) {
                    if (!agree<float>(kind, n, d, ties, false, 0, 3) || !agree<double>(kind, n, d, ties, true, 0, 1) ||
                        !agree<float>(kind, n, d, ties, true, 4, 1)) {
                        std::printf("kind %d, %d rows of %d: counts differ\n", static_cast<int>(kind),
                                    static_cast<int>(n), static_cast<int>(d));
                        ++wrong;
                    }
                }
            }
        }
    }
    std::printf("%s: %s\n", name_of(instruction_set()), wrong ? "FAILED" : "passed");
    return wrong ? 1 : 0;
}
