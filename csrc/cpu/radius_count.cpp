// How many columns have a key at most a row's threshold, by the certified screen: pairs whose bounds lie on one side of
// the threshold are counted or left out, and only the others are given canonical keys. In a self-search with one
// threshold a pair is judged, and given a key, once for both its rows.
#include <algorithm>
#include <cmath>
#include <limits>

#include "screen.hpp"

namespace msma {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr int64_t kFlush = 1024;  // undecided pairs given keys together

template <typename T, bool product>
class Count {
  public:
    Thresholds<product> thresholds;
    const bool mirrored;  // one radius for both rows of a pair

    Count(const Screened<T>& problem, const double* threshold, int64_t* counts)
        : thresholds(problem.x_codes->view, problem.y_codes->view, 0.0f, -std::numeric_limits<float>::infinity()),
          mirrored(problem.same &&
                   std::all_of(threshold, threshold + problem.x.count, [&](double t) { return t == threshold[0]; })),
          problem_(problem),
          x_(problem.x_codes->view),
          y_(problem.y_codes->view),
          threshold_(threshold),
          counts_(counts),
          body_(best_body<T>(problem.kernel->kind)),
          room_(pair_scratch(*problem.kernel, problem.x.dimension)),
          scratch_(room_ * problem.threads + 1),
          radius_(static_cast<size_t>(x_.count)),
          undecided_(static_cast<size_t>(problem.threads)) {
        for (int64_t i = 0; i < x_.count; ++i) {
            counts_[i] = 0;
            mark(i);
        }
    }

    void take(int worker, Origin at, const int32_t* products, const Hits& hits, bool both) {
        for (int32_t h = 0; h < hits.count; ++h) {
            const int32_t r = hits.place[h] >> 8, c = hits.place[h] & 0xff;
            const int64_t i = at.row + r, j = at.column + c;
            const auto value = static_cast<double>(thresholds.value(i, j, products[r * kPanel + c]));
            const double off = width(i, j);
            const bool to_row = problem_.rules.admit(i, j), to_column = both && problem_.rules.admit(j, i);
            if (mirrored && to_row && to_column) {
                decide(worker, i, j, value, off, true);
            } else {
                if (to_row) decide(worker, i, j, value, off, false);
                if (to_column) decide(worker, j, i, value, off, false);
            }
        }
    }
    void task_end(int worker) { flush(worker); }

  private:
    struct Undecided {
        std::vector<int64_t> rows, columns;
        std::vector<char> mirrored;  // 1 where the pair counts for its column too
        std::vector<double> keys;
    };

    // The radius of row i in the screen's units, and its marks.
    void mark(int64_t i) {
        const double key = threshold_[i], scale = problem_.x_codes->scale;
        double& radius = radius_[static_cast<size_t>(i)];
        if constexpr (product) {
            radius = key == kInfinite ? kInfinite : scale * problem_.y_codes->scale * (2.0 * key + problem_.offset[i]);
            thresholds.outer[i] = static_cast<float>(radius + std::fabs(radius) * 0x1p-20);
        } else {
            radius = key < 0.0 ? -1.0 : std::sqrt(problem_.factor * key) * scale;
            if (radius < 0.0) return;  // nothing lies within
            const double reach = (radius + static_cast<double>(x_.spread[i])) * (1.0 + 0x1p-20);
            thresholds.reach[i] = static_cast<float>(reach);
            thresholds.outer[i] = static_cast<float>(reach * reach * (1.0 + 0x1p-20)) - x_.square[i];
        }
    }

    // The bound of what a pair's screened value may be off.
    double width(int64_t i, int64_t j) const {
        const double near = static_cast<double>(x_.spread[i]), far = static_cast<double>(y_.spread[j]);
        if constexpr (!product) return near + far;
        return 2.0 * (static_cast<double>(x_.length[i]) * far + near * static_cast<double>(y_.length[j]));
    }

    // An admissible pair by the radius of row i, for both rows at once where `twice`.
    void decide(int worker, int64_t i, int64_t j, double value, double width, bool twice) {
        const double radius = radius_[static_cast<size_t>(i)], slack = std::fabs(radius) * 0x1p-30;
        if (value - width > radius + slack) return;
        if (value + width < radius - slack) {
            ++counts_[i];
            counts_[j] += twice;
            return;
        }
        Undecided& open = undecided_[static_cast<size_t>(worker)];
        open.rows.push_back(i);
        open.columns.push_back(j);
        open.mirrored.push_back(twice);
        if (static_cast<int64_t>(open.rows.size()) >= kFlush) flush(worker);
    }

    void flush(int worker) {
        Undecided& open = undecided_[static_cast<size_t>(worker)];
        const size_t pairs = open.rows.size();
        if (pairs == 0) return;
        open.keys.resize(pairs);
        body_.pairs(*problem_.kernel, problem_.x, problem_.y, open.rows.data(), open.columns.data(),
                    Range{0, static_cast<int64_t>(pairs)}, scratch_.get() + worker * room_, open.keys.data());
        for (size_t t = 0; t < pairs; ++t) {
            const bool within = open.keys[t] <= threshold_[open.rows[t]];
            counts_[open.rows[t]] += within;
            if (open.mirrored[t]) counts_[open.columns[t]] += within;
        }
        open.rows.clear();
        open.columns.clear();
        open.mirrored.clear();
    }

    const Screened<T>& problem_;
    const Codes &x_, &y_;
    const double* threshold_;
    int64_t* counts_;
    KeyBody<T> body_;
    int64_t room_;
    Buffer<double> scratch_;
    std::vector<double> radius_;
    std::vector<Undecided> undecided_;
};

}  // namespace

template <typename T>
void screened_count(const Screened<T>& problem, const double* threshold, int64_t* counts) {
    const DefaultFpEnvironment environment;
    const TileProducts<T> tile_products(problem);
    if (problem.kernel->kind == Kind::inner_product) {
        Count<T, true> policy(problem, threshold, counts);
        sweep(problem, tile_products, policy);
    } else {
        Count<T, false> policy(problem, threshold, counts);
        sweep(problem, tile_products, policy);
    }
}

template void screened_count(const Screened<float>&, const double*, int64_t*);
template void screened_count(const Screened<double>&, const double*, int64_t*);

}  // namespace msma
