// The distances over awkward shapes, strides and scales, for the sanitizers (rows end where their allocation ends):
// within 1e-6 of a plain float64 sum, symmetric, the same for one thread and three.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <utility>
#include <vector>

#include "msma/cpu.hpp"
#include "msma/pairwise_distances.hpp"

namespace {

using namespace msma;

// `batch` sets of rows a stride apart; the last row ends with the allocation.
template <typename T>
struct Sets {
    std::vector<T> values;
    Points<T> points;

    Sets(int64_t batch, int64_t n, int64_t d, int64_t stride, double scale, unsigned seed)
        : values(static_cast<size_t>(((batch * n) - 1) * stride + d)),
          points{nullptr, nullptr, batch, n, d, n * stride, stride} {
        std::mt19937 generator(seed);
        std::normal_distribution<double> normal;
        for (T& v : values) v = static_cast<T>(normal(generator) * scale);
        points.values = values.data();
    }
};

template <typename T>
bool near(const Points<T>& x, const Points<T>& y, const std::vector<T>& out) {
    for (int64_t b = 0, t = 0; b < x.batch; ++b) {
        for (int64_t i = 0; i < x.count; ++i) {
            for (int64_t j = 0; j < y.count; ++j, ++t) {
                const T* left = x.set(b).values + i * x.stride;
                const T* right = y.set(b).values + j * y.stride;
                double sum = 0.0;
                for (int64_t k = 0; k < x.dimension; ++k) {
                    const double a = static_cast<double>(left[k]) - static_cast<double>(right[k]);
                    sum += a * a;
                }
                const double truth = std::sqrt(sum);
                if (!(std::fabs(static_cast<double>(out[t]) - truth) <= 1e-6 * truth + 1e-45)) return false;
            }
        }
    }
    return true;
}

void run(const Points<float>& x, const Points<float>& y, bool self, int threads, float* out) {
    euclidean_distances(x, y, self, true, threads, out);
}

void run(const Points<double>& x, const Points<double>& y, bool self, int threads, double* out) {
    key_distances(Kernel{Kind::sqeuclidean, 0, nullptr}, x, y, self, Scale{true, 1.0}, threads, out);
}

template <typename T>
bool agree(int64_t batch, int64_t n, int64_t m, int64_t d, double scale) {
    const Sets<T> x(batch, n, d, d + 3, scale, 1), y(batch, m, d, d, scale, 2);
    std::vector<T> cross(static_cast<size_t>(batch * n * m)), threaded(cross.size());
    run(x.points, y.points, false, 1, cross.data());
    run(x.points, y.points, false, 3, threaded.data());
    std::vector<T> self(static_cast<size_t>(batch * n * n)), whole(self.size());
    run(x.points, x.points, true, 3, self.data());
    run(x.points, x.points, false, 1, whole.data());
    return cross == threaded && self == whole && near(x.points, y.points, cross) && near(x.points, x.points, self);
}

}  // namespace

int main() {
    int wrong = 0;
    for (const auto& [n, m] : {std::pair{1, 1}, {3, 1}, {5, 97}, {96, 33}, {130, 195}}) {
        for (const int64_t d : {1, 15, 16, 17, 193, 400}) {
            for (const double scale : {1.0, 1e-25, 1e25}) {
                for (const int64_t batch : {1, 3}) {
                    if (agree<float>(batch, n, m, d, scale) && agree<double>(batch, n, m, d, scale)) continue;
                    std::printf("%d of %d x %d x %d, scale %g: distances differ\n", int(batch), n, m, int(d), scale);
                    ++wrong;
                }
            }
        }
    }
    std::printf("%s: %s\n", name_of(instruction_set()), wrong ? "FAILED" : "passed");
    return wrong ? 1 : 0;
}
