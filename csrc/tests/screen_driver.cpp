// The certified screen against every pair's key, for processors without a tile unit and for the sanitizers: the
// products of the AMX body against plain sums, and whole searches by the body in use (MSMA_FAST_CPU), on awkward sizes.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "../cpu/planted_product.hpp"
#include "emulated_tiles.hpp"
#include "msma/cpu.hpp"
#include "msma/keys.hpp"
#include "msma/screen.hpp"

namespace {

using namespace msma;
using Pair = std::pair<double, int64_t>;

int wrong = 0;

void expect(bool right, const char* what) {
    if (right) return;
    std::printf("%s\n", what);
    ++wrong;
}

template <typename T>
std::vector<T> normal(int64_t n, int64_t d, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<double> draw;
    std::vector<T> values(static_cast<size_t>(n * d));
    for (T& v : values) v = static_cast<T>(draw(generator));
    return values;
}

struct Shape {
    int64_t n, m, d;  // m = 0: a self-search
};

template <typename T>
class Case {
  public:
    Case(Kind kind, Shape shape, bool fine, int threads)
        : kernel_{kind, 0, nullptr},
          same_(shape.m == 0 && kind != Kind::inner_product),
          x_values_(normal<T>(shape.n, shape.d, 1)),
          y_values_(shape.m ? normal<T>(shape.m, shape.d, 2) : x_values_),
          x_{x_values_.data(), nullptr, shape.n, shape.d},
          y_{y_values_.data(), nullptr, shape.m ? shape.m : shape.n, shape.d},
          keys_(static_cast<size_t>(x_.count * y_.count)),
          offset_(static_cast<size_t>(x_.count), 0.0),
          fine_(fine),
          threads_(threads) {
        if (!shape.m) {
            for (int64_t i = 0; i < shape.n; ++i) own_.push_back(i);
        }
        for (int64_t i = 0; i < x_.count; ++i) row_labels_.push_back(static_cast<int32_t>(i % 5));
        for (int64_t j = 0; j < y_.count; ++j) column_labels_.push_back(static_cast<int32_t>(j % 7));
        block_keys(kernel_, x_, y_, threads, keys_.data());
        x_codes_ = rounded(x_);
        y_codes_ = same_ ? x_codes_ : rounded(y_);
    }

    // Whether knn and counts are those of every pair's key.
    bool agrees(int64_t k, bool labelled, int64_t window) {
        const Rules rules{own_.empty() ? nullptr : own_.data(), nullptr, labelled ? row_labels_.data() : nullptr,
                          labelled ? column_labels_.data() : nullptr, window};
        const Screened<T> problem{&kernel_,
                                  x_,
                                  same_ ? x_ : y_,
                                  x_codes_.get(),
                                  y_codes_.get(),
                                  same_,
                                  1.0,
                                  kernel_.kind == Kind::inner_product ? offset_.data() : nullptr,
                                  rules,
                                  nullptr,
                                  threads_};
        const auto n = static_cast<size_t>(x_.count);
        std::vector<double> keys(n * static_cast<size_t>(k)), thresholds(n);
        std::vector<int64_t> indices(keys.size()), candidates(n), counts(n);
        screened_knn(problem, k, keys.data(), indices.data(), candidates.data());
        int64_t certified = 0;
        bool right = true;
        for (int64_t i = 0; i < x_.count; ++i) {
            std::vector<Pair> near = nearest(rules, i);
            thresholds[i] = near.empty() ? 0.0 : near[near.size() / 3].first;
            near.resize(static_cast<size_t>(k), Pair{std::numeric_limits<double>::infinity(), -1});
            if (candidates[i] < 0) continue;
            ++certified;
            for (int64_t r = 0; r < k; ++r) right &= Pair{keys[i * k + r], indices[i * k + r]} == near[r];
        }
        screened_count(problem, thresholds.data(), counts.data());
        for (int64_t i = 0; i < x_.count; ++i) {
            int64_t within = 0;
            for (const Pair& pair : nearest(rules, i)) within += pair.first <= thresholds[i];
            right &= counts[i] == within;
        }
        return right && 10 * certified >= 9 * x_.count;
    }

  private:
    // The picture of a metric without a shift; see msma_fast/backends/native_search.py.
    CodesPointer rounded(const Rows<T>& rows) const {
        double largest = 0.0;
        for (int64_t v = 0; v < rows.count * rows.dimension; ++v) {
            largest = std::max(largest, std::fabs(static_cast<double>(rows.values[v])));
        }
        const auto d = static_cast<double>(rows.dimension);
        const bool product = kernel_.kind == Kind::inner_product;
        const std::vector<double> shift(static_cast<size_t>(rows.dimension), 0.0),
            extra(static_cast<size_t>(rows.count), product ? (d + 16.0) * 0x1p-50 * std::sqrt(d) * largest : 0.0);
        const double loss = product ? 0.0 : std::sqrt((d + 16.0) * 0x1p-50);
        return encode(rows, {shift.data(), 0x1p24, loss, 0.0, extra.data()}, fine_, threads_);
    }

    // The admissible columns of row i, ascending by (key, index).
    std::vector<Pair> nearest(const Rules& rules, int64_t i) const {
        std::vector<Pair> found;
        for (int64_t j = 0; j < y_.count; ++j) {
            if (rules.admit(i, j)) found.emplace_back(keys_[static_cast<size_t>(i * y_.count + j)], j);
        }
        std::sort(found.begin(), found.end());
        return found;
    }

    Kernel kernel_;
    bool same_;
    std::vector<T> x_values_, y_values_;
    Rows<T> x_, y_;
    std::vector<double> keys_, offset_;
    std::vector<int64_t> own_;
    std::vector<int32_t> row_labels_, column_labels_;
    CodesPointer x_codes_, y_codes_;
    bool fine_;
    int threads_;
};

void check_products() {
    for (const int64_t d : {1, 3, 4, 63, 64, 65, 100, 128, 129, 576, 1000}) {
        const std::string fault = fault_of(amx::screen_body(), d);
        expect(fault.empty(), fault.c_str());
    }
    ScreenBody broken = amx::screen_body();
    broken.multiply = [](const int32_t* strip, const int32_t* panel, int64_t groups, const int32_t* sums,
                         int32_t* out) {
        amx::screen_body().multiply(strip, panel, groups, sums, out);
        ++out[15 * kPanel + 47];
    };
    expect(!fault_of(broken, 100).empty(), "a wrong product passes the check");
}

template <typename T>
void check_searches(Kind kind) {
    for (const int64_t d : {1, 3, 63, 65, 100, 576}) {
        for (const Shape& shape :
             {Shape{1, 1, d}, {5, 49, d}, {49, 16, d}, {97, 145, d}, {2, 0, d}, {17, 0, d}, {48, 0, d}, {131, 0, d}}) {
            for (const int threads : {1, 3}) {
                Case<T> searched(kind, shape, threads == 1, threads);
                const bool right = searched.agrees(1, false, 0) && searched.agrees(5, true, 2);
                if (!right) std::printf("%d x %d, d = %d: ", int(shape.n), int(shape.m), int(d));
                expect(right, "a search differs from every pair's key");
            }
        }
    }
    // Enough panels for radii from a sample.
    for (const Shape& shape : {Shape{1301, 0, 20}, {130, 1301, 70}}) {
        expect(Case<T>(kind, shape, false, 3).agrees(7, false, 0) && Case<T>(kind, shape, true, 3).agrees(7, false, 0),
               "a search of many columns differs from every pair's key");
    }
}

}  // namespace

int main() {
    check_products();
    check_searches<float>(Kind::sqeuclidean);
    check_searches<double>(Kind::sqeuclidean);
    check_searches<float>(Kind::inner_product);
    expect(*amx_fault() == '\0', amx_fault());
    expect(!emulated::tiles().in_use(), "the caller's thread still holds tiles");
    std::printf("%s: %s\n", name_of(instruction_set()), wrong ? "FAILED" : "passed");
    return wrong ? 1 : 0;
}
