// The Fisher metric over awkward shapes, strides and weight types, for the sanitizers (rows end where their allocation
// ends): near a plain float64 sum, the same bits for one thread and three.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "msma/cpu.hpp"
#include "msma/fisher.hpp"

namespace {

using namespace msma;

std::vector<float> normals(int64_t count, unsigned seed, float scale) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& v : values) v = normal(generator);
    return values;
}

std::vector<uint16_t> bfloats(std::vector<float>& values) {
    std::vector<uint16_t> bits;
    for (float& v : values) {
        uint32_t whole;
        std::memcpy(&whole, &v, sizeof whole);
        whole &= 0xffff0000u;
        std::memcpy(&v, &whole, sizeof whole);
        bits.push_back(static_cast<uint16_t>(whole >> 16));
    }
    return bits;
}

struct Problem {
    int64_t n, V, d, h_stride, w_stride;
    std::vector<float> h, w, bias, v, shares, other;
    std::vector<uint16_t> narrow;

    Problem(int64_t n, int64_t V, int64_t d, int64_t gap)
        : n(n),
          V(V),
          d(d),
          h_stride(d + gap),
          w_stride(d + 2 * gap),
          h(normals((n - 1) * h_stride + d, 1, 1.0f)),
          w(normals((V - 1) * w_stride + d, 2, 0.3f)),
          bias(normals(V, 3, 1.0f)),
          v(normals(n * 2 * d, 4, 1.0f)),
          shares(normals(n, 5, 1.0f)),
          other(normals(3 * d, 6, 1.0f)),
          narrow(bfloats(w)) {
        std::copy_n(h.data(), d, other.data());  // a pair at distance zero, and a close one
        std::copy_n(h.data(), d, other.data() + d);
        other[static_cast<size_t>(d)] += 1e-4f;
    }

    // All results, one after the other; first the traces.
    std::vector<float> everything(WeightType type, int threads) const {
        const void* const rows =
            type == WeightType::float32 ? static_cast<const void*>(w.data()) : static_cast<const void*>(narrow.data());
        const TokenHead head{rows, type, V, d, w_stride, bias.data()};
        const HiddenRows x{h.data(), n, h_stride}, y{other.data(), 3, d};
        std::vector<float> all;
        const auto keep = [&](int64_t size, const auto& op) {
            std::vector<float> out(static_cast<size_t>(size));
            op(out.data());
            all.insert(all.end(), out.begin(), out.end());
        };
        keep(n, [&](float* out) { logit_fisher_trace(x, head, threads, out); });
        keep(n * d, [&](float* out) { logit_fisher_diag(x, head, threads, out); });
        keep(2 * n * d, [&](float* out) { logit_fisher_vp(x, head, v.data(), 2, threads, out); });
        keep(n, [&](float* out) { logit_fisher_quadratic(x, head, v.data(), threads, out); });
        keep(d * d, [&](float* out) { logit_fisher_mean(x, head, nullptr, threads, out); });
        keep(d * d, [&](float* out) { logit_fisher_mean(x, head, shares.data(), threads, out); });
        keep(n * n, [&](float* out) { fisher_rao_distances(x, head, nullptr, n * n, threads, out); });
        keep(n * 3, [&](float* out) { fisher_rao_distances(x, head, &y, n * 3, threads, out); });
        return all;
    }

    double trace(int64_t i) const {
        std::vector<double> p(static_cast<size_t>(V)), mean(static_cast<size_t>(d));
        double total = 0.0, found = 0.0;
        for (int64_t t = 0; t < V; ++t) {
            double logit = static_cast<double>(bias[static_cast<size_t>(t)]);
            for (int64_t k = 0; k < d; ++k) logit += weight(t, k) * static_cast<double>(h[i * h_stride + k]);
            total += p[static_cast<size_t>(t)] = std::exp(logit);
        }
        for (int64_t t = 0; t < V; ++t) {
            for (int64_t k = 0; k < d; ++k)
                mean[static_cast<size_t>(k)] += p[static_cast<size_t>(t)] / total * weight(t, k);
        }
        for (int64_t t = 0; t < V; ++t) {
            for (int64_t k = 0; k < d; ++k) {
                const double off = weight(t, k) - mean[static_cast<size_t>(k)];
                found += p[static_cast<size_t>(t)] / total * off * off;
            }
        }
        return found;
    }

    double weight(int64_t t, int64_t k) const { return static_cast<double>(w[static_cast<size_t>(t * w_stride + k)]); }
};

bool agree(int64_t n, int64_t V, int64_t d, int64_t gap) {
    const Problem problem(n, V, d, gap);
    const std::vector<float> one = problem.everything(WeightType::float32, 1);
    if (one != problem.everything(WeightType::float32, 3)) return false;
    if (one != problem.everything(WeightType::bfloat16, 3)) return false;
    problem.everything(WeightType::float16, 2);
    for (int64_t i = 0; i < n; ++i) {
        const double truth = problem.trace(i);
        if (!(std::fabs(static_cast<double>(one[static_cast<size_t>(i)]) - truth) <= 1e-5 * truth + 1e-30))
            return false;
    }
    return true;
}

}  // namespace

int main() {
    int wrong = 0;
    for (const auto& [n, V] : {std::pair{1, 1}, {3, 2}, {17, 119}, {33, 121}, {70, 400}}) {
        for (const int64_t d : {1, 15, 16, 65, 150}) {
            for (const int64_t gap : {0, 3}) {
                if (agree(n, V, d, gap)) continue;
                std::printf("%d x %d x %d, gap %d: results differ\n", n, V, int(d), int(gap));
                ++wrong;
            }
        }
    }
    std::printf("%s: %s\n", name_of(instruction_set()), wrong ? "FAILED" : "passed");
    return wrong ? 1 : 0;
}
