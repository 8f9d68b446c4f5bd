// Every kind and type over awkward shapes, for the sanitizers (rows end where their allocation ends);
// block_keys and pair_keys must agree to the bit, for one thread and three.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <stdexcept>
#include <vector>

#include "../cpu/parallel.hpp"
#include "msma/cpu.hpp"
#include "msma/keys.hpp"

namespace {

using namespace msma;

bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

template <typename T>
struct Points {
    std::vector<T> values;
    std::vector<double> norms;
    int64_t count, dimension;

    Points(int64_t n, int64_t d, unsigned seed) : values(static_cast<size_t>(n * d)), count(n), dimension(d) {
        std::mt19937 generator(seed);
        std::normal_distribution<double> normal;
        for (T& v : values) v = static_cast<T>(normal(generator));
        if (!values.empty()) values[0] = static_cast<T>(1e-310);  // subnormal as a double, zero as a float
        for (int64_t r = 0; r < n; ++r) {
            double square = 0.0;
            for (int64_t k = 0; k < d; ++k) square += double(values[r * d + k]) * double(values[r * d + k]);
            norms.push_back(std::sqrt(square + 1e-3));
        }
    }
    Rows<T> rows() const { return {values.data(), norms.data(), count, dimension}; }
};

template <typename T>
bool agree(Kind kind, int64_t n, int64_t m, int64_t d) {
    const Points<T> x(n, d, 1), y(m, d, 2);
    std::vector<double> tensor(static_cast<size_t>(d * d), 0.25);
    for (int64_t k = 0; k < d; ++k) tensor[k * d + k] = static_cast<double>(d);
    const Kernel kernel{kind, 3, tensor.data()};
    std::vector<int64_t> i, j;
    for (int64_t r = 0; r < n; ++r) {
        for (int64_t c = 0; c < m; ++c) {
            i.push_back(r);
            j.push_back(c);
        }
    }
    const auto pairs = static_cast<int64_t>(i.size());
    std::vector<double> block(i.size()), threaded(i.size()), single(i.size());
    block_keys(kernel, x.rows(), y.rows(), 1, block.data());
    block_keys(kernel, x.rows(), y.rows(), 3, threaded.data());
    pair_keys(kernel, x.rows(), y.rows(), i.data(), j.data(), pairs, 3, single.data());
    return same_bits(block, threaded) && same_bits(block, single);
}

bool exceptions_come_back() {
    try {
        parallel_for(100, 3, [](int64_t task, int) {
            if (task == 57) throw std::runtime_error("planted");
        });
    } catch (const std::runtime_error&) {
        return true;
    }
    return false;
}

}  // namespace

int main() {
    int wrong = exceptions_come_back() ? 0 : 1;
    for (const Kind kind : {Kind::sqeuclidean, Kind::manhattan, Kind::chebyshev, Kind::minkowski, Kind::inner_product,
                            Kind::cosine, Kind::mahalanobis}) {
        for (const int64_t d : {1, 3, 7, 8, 9, 16, 17, 64, 100}) {
            for (const auto& [n, m] : {std::pair{0, 3}, {1, 1}, {3, 1}, {5, 7}, {33, 70}, {130, 517}}) {
                if (kind == Kind::mahalanobis && int64_t{n} * m * d * d > 30'000'000) continue;
                if (!agree<float>(kind, n, m, d) || !agree<double>(kind, n, m, d)) {
                    std::printf("kind %d, shape %d x %d x %d: keys differ\n", static_cast<int>(kind), n, m, int(d));
                    ++wrong;
                }
            }
        }
    }
    std::printf("%s: %s\n", name_of(instruction_set()), wrong ? "FAILED" : "passed");
    return wrong ? 1 : 0;
}
