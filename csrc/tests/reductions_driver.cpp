// Every reduction over awkward shapes, for the sanitizers: three threads must give the bits of one, and every
// pair must be counted once.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "msma/reductions.hpp"

namespace {

using namespace msma;

std::vector<double> points(int64_t n, int64_t d, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal;
    std::vector<double> values(static_cast<size_t>(n * d));
    for (double& v : values) v = normal(generator);
    return values;
}

Rows<double> rows_of(const std::vector<double>& values, int64_t d) {
    return {values.data(), nullptr, static_cast<int64_t>(values.size()) / d, d};
}

// All results of one problem, one after the other.
std::vector<double> everything(int64_t n, int64_t m, int64_t d, int threads) {
    const std::vector<double> a = points(n, d, 1), b = points(m, d, 2), c = points(n, 3, 3);
    const Rows<double> x = rows_of(a, d), y = rows_of(b, d), z = rows_of(c, 3);
    const double scales[] = {0.5, 0.01}, weights[] = {1.0, -2.0}, thresholds[] = {0.5, 4.0, 9.0};
    std::vector<double> found;
    const auto keep = [&found](const std::vector<double>& part) {
        found.insert(found.end(), part.begin(), part.end());
    };
    std::vector<double> to_x(a.size()), to_y(b.size()), to_z(c.size()), sums(3), rows_a(n), rows_b(n);
    sums[0] = stress(x, z, threads, to_x.data(), to_z.data());
    keep(sums), keep(to_x), keep(to_z);
    centered_products(x, {Form::distance, 1.0, 0.3}, z, {Form::gaussian, 0.1, 0.2}, threads, sums.data(), rows_a.data(),
                      rows_b.data());
    keep(sums), keep(rows_a), keep(rows_b);
    for (const Rows<double>* other : {static_cast<const Rows<double>*>(nullptr), &y}) {
        gaussian_kernel_sums(x, other, scales, 2, threads, sums.data());
        gaussian_kernel_gradients(x, other, scales, weights, 2, threads, to_x.data(), to_y.data());
        keep(sums), keep(to_x), keep(to_y);
        int64_t counts[4];
        count_keys({Kind::sqeuclidean, 0, nullptr}, x, other, {nullptr, 0}, thresholds, 3, threads, counts);
        const int64_t pairs = counts[0] + counts[1] + counts[2] + counts[3];
        if (pairs != (other ? n * m : n * (n - 1) / 2)) std::printf("%d pairs counted\n", static_cast<int>(pairs));
        keep({counts, counts + 4});
        found.push_back(pairs == (other ? n * m : n * (n - 1) / 2) ? 0.0 : NAN);
    }
    return found;
}

}  // namespace

int main() {
    int wrong = 0;
    for (const int64_t d : {1, 8, 37}) {
        for (const auto& [n, m] : {std::pair<int64_t, int64_t>{1, 1}, {2, 130}, {129, 5}, {257, 300}, {520, 64}}) {
            const std::vector<double> one = everything(n, m, d, 1), three = everything(n, m, d, 3);
            if (std::memcmp(one.data(), three.data(), one.size() * sizeof(double)) != 0) {
                std::printf("shape %d, %d x %d: threads differ\n", int(n), int(m), int(d));
                ++wrong;
            }
            for (const double v : one) wrong += v != v;
        }
    }
    std::printf("reductions: %s\n", wrong ? "FAILED" : "passed");
    return wrong ? 1 : 0;
}
