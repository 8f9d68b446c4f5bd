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

    Count(const Screened<T>& problem, const double* threshold, int64_t* counts)
        : thresholds(problem.x_codes->view, problem.y_codes->view, 0.0f, -std::numeric_limits<float>::infinity()),
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

    void row_hit(int worker, int64_t i, int64_t j, int32_t sum) { decide(worker, i, j, i, j, sum); }
    void column_hit(int worker, int64_t i, int64_t j, int32_t sum) { decide(worker, j, i, i, j, sum); }
    void pair_hit(int worker, int64_t i, int64_t j, int32_t sum) {
        const bool to_row = problem_.rules.admit(i, j), to_column = problem_.rules.admit(j, i);
        if (!to_row && !to_column) return;
        const Verdict verdict = verdict_of(i, i, j, sum);
        if (verdict == Verdict::beyond) return;
        if (verdict == Verdict::within) {
            counts_[i] += to_row;
            counts_[j] += to_column;
            return;
        }
        ask(worker, to_row ? i : j, to_row ? j : i, to_row && to_column);
    }
    void task_end(int worker) { flush(worker); }

  private:
    enum class Verdict { beyond, within, undecided };
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

    // Pair (i, j) of the search, screened as (a, b).
    void decide(int worker, int64_t i, int64_t j, int64_t a, int64_t b, int32_t sum) {
        if (!problem_.rules.admit(i, j)) return;
        const Verdict verdict = verdict_of(i, a, b, sum);
        if (verdict == Verdict::within) ++counts_[i];
        if (verdict == Verdict::undecided) ask(worker, i, j, false);
    }

    // Of a pair screened as (a, b), by the radius of row i.
    Verdict verdict_of(int64_t i, int64_t a, int64_t b, int32_t sum) const {
        const double radius = radius_[static_cast<size_t>(i)];
        if constexpr (product) {
            const double step = static_cast<double>(x_.step[a]) * static_cast<double>(y_.step[b]);
            const double value = -2.0 * step * static_cast<double>(sum);
            const double width = 2.0 * (static_cast<double>(x_.length[a]) * static_cast<double>(y_.spread[b]) +
                                        static_cast<double>(x_.spread[a]) * static_cast<double>(y_.length[b]));
            const double slack = std::fabs(radius) * 0x1p-30;
            if (value - width > radius + slack) return Verdict::beyond;
            if (value + width < radius - slack) return Verdict::within;
        } else {
            // Squares are compared: a root for every hit took as long as the rest of it.
            const double width = static_cast<double>(x_.spread[a]) + static_cast<double>(y_.spread[b]);
            const double square = screened_square(x_, y_, a, b, sum), slack = (radius + width) * 0x1p-30;
            const double outer = radius + width + slack, inner = radius - width - slack;
            if (square > outer * outer) return Verdict::beyond;
            if (inner > 0.0 && square < inner * inner) return Verdict::within;
        }
        return Verdict::undecided;
    }

    void ask(int worker, int64_t i, int64_t j, bool mirrored) {
        Undecided& open = undecided_[static_cast<size_t>(worker)];
        open.rows.push_back(i);
        open.columns.push_back(j);
        open.mirrored.push_back(mirrored);
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
    if (problem.kernel->kind == Kind::inner_product) {
        Count<T, true> policy(problem, threshold, counts);
        sweep(problem, policy);
    } else {
        const int64_t n = problem.x.count;
        const bool mirrored =
            problem.same && std::all_of(threshold, threshold + n, [&](double t) { return t == threshold[0]; });
        Count<T, false> policy(problem, threshold, counts);
        if (mirrored) {
            sweep<true>(problem, policy);
        } else {
            sweep(problem, policy);
        }
    }
}

template void screened_count(const Screened<float>&, const double*, int64_t*);
template void screened_count(const Screened<double>&, const double*, int64_t*);

}  // namespace msma
