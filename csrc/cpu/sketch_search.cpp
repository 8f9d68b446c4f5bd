// Pairs that the sketches leave in question get their canonical keys; nothing else decides.
//
// knn: a row gathers such pairs, and from time to time the nearest of them by their lower bounds are given keys, which
// makes the radius of the row smaller and drops others. radius_count: pairs whose upper bound is within the threshold
// are counted without a key.
#include "sketch_search.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "nearest.hpp"
#include "screen.hpp"
#include "sketch_probe.hpp"
#include "sketch_sweep.hpp"

namespace msma {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Keys of pairs of rows of a problem, given in batches.
template <typename T>
class Pairs {
  public:
    explicit Pairs(const Direct<T>& problem) : problem_(problem), body_(best_body<T>(problem.kernel->kind)) {}

    void clear() {
        rows.clear();
        columns.clear();
    }
    void add(int64_t i, int64_t j) {
        rows.push_back(i);
        columns.push_back(j);
    }
    void compute() {
        keys.resize(rows.size());
        body_.pairs(*problem_.kernel, problem_.x, problem_.y, rows.data(), columns.data(), {0, size()}, nullptr,
                    keys.data());
    }
    int64_t size() const { return static_cast<int64_t>(rows.size()); }

    std::vector<int64_t> rows, columns;
    std::vector<double> keys;

  private:
    const Direct<T>& problem_;
    KeyBody<T> body_;
};

// Fewer pairs are given their keys in less time than the codes are chosen in; more codes could sum beyond 2^24.
constexpr int64_t kLeastPairs = int64_t{1} << 19, kMostDimension = 50000;
// A key of a single pair takes some five times as long as one of a tile that serves both sides.
constexpr double kMostInQuestion = 0.12;

template <typename T>
bool served(const Direct<T>& problem) {
    const Kind kind = problem.kernel->kind;
    if (kind != Kind::manhattan && kind != Kind::chebyshev && kind != Kind::minkowski) return false;
    const int64_t n = problem.x.count, m = problem.y.count;
    return n >= kProbes * kSketchStrip && m >= 2 * kSheet && n * m >= kLeastPairs &&
           problem.x.dimension <= kMostDimension && m <= std::numeric_limits<int32_t>::max();
}

template <typename T>
class Knn {
  public:
    float* reach;

    Knn(const Direct<T>& problem, const SketchPair& pair, int64_t k, int64_t block, double* keys, int64_t* indices,
        int64_t* candidates)
        : reach_(pair.x.sheets() * kSheet),
          problem_(problem),
          pair_(pair),
          k_(k),
          block_rows_(block * kSheet),
          screen_(best_screen_body()),
          nearest_(slots(), k),
          lower_(slots() * kCapacity),
          column_(slots() * kCapacity),
          waiting_(static_cast<size_t>(slots()), 0),
          rounded_(problem.threads * rounded_room()),
          keys_(keys),
          indices_(indices),
          candidates_(candidates) {
        reach = reach_.get();
        std::fill_n(reach, problem.x.count, kInfinity);
        // Nothing matters to rows of padding.
        std::fill(reach + problem.x.count, reach + pair.x.sheets() * kSheet, -kInfinity);
        std::fill_n(candidates, problem.x.count, 0);
        for (int t = 0; t < problem.threads; ++t) pairs_.emplace_back(problem);
    }

    void hit(int worker, int64_t i, int64_t j, int64_t a, int64_t b, float value) {
        if (!problem_.rules.admit(i, j)) return;
        const int64_t at = slot(worker, i);
        int32_t& count = waiting_[static_cast<size_t>(at)];
        const float spread = i == a ? pair_.y.spread[b] : pair_.x.spread[a];
        const float root = pair_.plan.p == 1 ? value : static_cast<float>(pair_.plan.root(static_cast<double>(value)));
        lower_[at * kCapacity + count] = std::max(root - spread, 0.0f);
        column_[at * kCapacity + count++] = static_cast<int32_t>(j);
        if (count == kCapacity) settle(worker, i, at, kWait);
    }

    void task_end(int worker, Range rows) {
        if (!problem_.same) finish(worker, rows);
    }

    // The answers of these rows, when all pairs have been judged.
    void finish(int worker, Range rows) {
        for (int64_t i = rows.begin; i < rows.end; ++i) {
            const int64_t at = slot(worker, i);
            settle(worker, i, at, 0);
            nearest_.take(at, keys_ + i * k_, indices_ + i * k_);
        }
    }

  private:
    static constexpr int64_t kCapacity = 112, kWait = 48, kBatch = 16;

    int64_t slots() const { return problem_.same ? problem_.x.count : block_rows_ * problem_.threads; }
    int64_t rounded_room() const { return ceil_div(nearest_.capacity(), 16) * 16; }
    int64_t slot(int worker, int64_t i) const { return problem_.same ? i : worker * block_rows_ + i % block_rows_; }

    // A value that at least k of the first `count` do not exceed, close to the k-th smallest. `values` has room for
    // whole sixteens.
    float select(float* values, int64_t count, int64_t k) const {
        const int64_t whole = ceil_div(count, 16) * 16;
        std::fill(values + count, values + whole, kInfinity);
        return screen_.select(values, whole, k);
    }

    // Keys for the nearest that wait, by their lower bounds, until at most `left` wait that may still matter.
    void settle(int worker, int64_t i, int64_t at, int64_t left) {
        float* const lower = lower_.get() + at * kCapacity;
        int32_t* const column = column_.get() + at * kCapacity;
        int32_t& count = waiting_[static_cast<size_t>(at)];
        Pairs<T>& pairs = pairs_[static_cast<size_t>(worker)];
        for (int64_t batch = k_;; batch = kBatch) {
            int32_t kept = 0;
            for (int32_t e = 0; e < count; ++e) {
                const float bound = lower[e];
                lower[kept] = bound;
                column[kept] = column[e];
                kept += !(bound > reach[i]);
            }
            count = kept;
            if (count == 0 || (batch == kBatch && count <= left)) return;
            const float top = batch < count ? select(lower, count, batch) : kInfinity;
            // No branch, which would be guessed wrong for every pair taken; one place more than can be taken is
            // written.
            pairs.columns.resize(static_cast<size_t>(batch + 1));
            int64_t taken = 0;
            kept = 0;
            for (int32_t e = 0; e < count; ++e) {
                const float bound = lower[e];
                const int32_t j = column[e];
                const bool take = !(bound > top) & (taken < batch);
                pairs.columns[static_cast<size_t>(taken)] = j;
                taken += take;
                lower[kept] = bound;
                column[kept] = j;
                kept += !take;
            }
            count = kept;
            pairs.columns.resize(static_cast<size_t>(taken));
            pairs.rows.assign(static_cast<size_t>(taken), i);
            pairs.compute();
            candidates_[i] += pairs.size();
            for (int64_t t = 0; t < pairs.size(); ++t) {
                const auto p = static_cast<size_t>(t);
                nearest_.add(at, pairs.keys[p], pairs.columns[p]);
            }
            const double radius = radius_of(worker, at);
            reach[i] = reach_of(pair_.plan, pair_.plan.radius_above(radius), pair_.x.spread[i]);
        }
    }

    // A key that at least k of the nearest do not exceed, as the k-th where float32 can tell.
    double radius_of(int worker, int64_t at) {
        const int64_t count = nearest_.count(at);
        if (count < k_) return nearest_.radius[static_cast<size_t>(at)];
        const Neighbor* const entries = nearest_.entries(at);
        float* const rounded = rounded_.get() + worker * rounded_room();
        for (int64_t e = 0; e < count; ++e) {
            // NaN and what float32 cannot hold become inf, which is not counted.
            const double above = entries[e].key * (1.0 + 0x1p-22);
            rounded[e] = above < 0x1p127 ? std::max(static_cast<float>(above), 0x1p-126f) : kInfinity;
        }
        const float top = select(rounded, count, k_);
        if (top == kInfinity) nearest_.tighten(at);
        return std::min(static_cast<double>(top), nearest_.radius[static_cast<size_t>(at)]);
    }

    const Buffer<float> reach_;
    const Direct<T>& problem_;
    const SketchPair& pair_;
    const int64_t k_, block_rows_;
    const ScreenBody screen_;
    Nearest nearest_;
    // What waits for a key, kCapacity places a row: lower bounds, without the row's own spread, and columns.
    const Buffer<float> lower_;
    const Buffer<int32_t> column_;
    std::vector<int32_t> waiting_;
    const Buffer<float> rounded_;
    std::vector<Pairs<T>> pairs_;
    double* keys_;
    int64_t *indices_, *candidates_;
};

// Reservoirs of all rows at once pay, and have room, where k is small.
constexpr int64_t kMostNeighbours = 512;

template <typename T>
class Count {
  public:
    float* reach;

    Count(const Direct<T>& problem, const SketchPair& pair, const double* threshold, int64_t* counts)
        : reach_(pair.x.sheets() * kSheet), problem_(problem), pair_(pair), threshold_(threshold), counts_(counts) {
        reach = reach_.get();
        std::fill_n(counts, problem.x.count, 0);
        for (int64_t i = 0; i < problem.x.count; ++i) {
            reach[i] = threshold[i] < 0.0 ? -kInfinity
                                          : reach_of(pair.plan, pair.plan.radius_above(threshold[i]), pair.x.spread[i]);
        }
        std::fill(reach + problem.x.count, reach + pair.x.sheets() * kSheet, -kInfinity);
        for (int t = 0; t < problem.threads; ++t) pairs_.emplace_back(problem);
    }

    void hit(int worker, int64_t i, int64_t j, int64_t a, int64_t b, float value) {
        if (!problem_.rules.admit(i, j)) return;
        if (within(pair_, threshold_[i], a, b, value)) {
            ++counts_[i];
            return;
        }
        Pairs<T>& open = pairs_[static_cast<size_t>(worker)];
        open.add(i, j);
        if (open.size() == kFlush) flush(open);
    }

    void task_end(int worker, Range) { flush(pairs_[static_cast<size_t>(worker)]); }

    // Whether the upper bound of a pair proves its key to be at most `threshold`.
    static bool within(const SketchPair& pair, double threshold, int64_t a, int64_t b, float value) {
        const double outer = static_cast<double>(pair.x.outer[a]) + static_cast<double>(pair.y.outer[b]);
        const double room = pair.plan.radius_below(threshold) * (1.0 - pair.plan.slack) - outer;
        return room > 0.0 && static_cast<double>(value) < pair.plan.power(room);
    }

  private:
    static constexpr int64_t kFlush = 1024;

    void flush(Pairs<T>& open) {
        open.compute();
        for (int64_t t = 0; t < open.size(); ++t) {
            const int64_t i = open.rows[static_cast<size_t>(t)];
            counts_[i] += open.keys[static_cast<size_t>(t)] <= threshold_[i];
        }
        open.clear();
    }

    const Buffer<float> reach_;
    const Direct<T>& problem_;
    const SketchPair& pair_;
    const double* threshold_;
    int64_t* counts_;
    std::vector<Pairs<T>> pairs_;
};

}  // namespace

template <typename T>
bool sketched_knn(const Direct<T>& problem, int64_t k, double* keys, int64_t* indices, int64_t* candidates) {
    if (!served(problem) || k > kMostNeighbours || 16 * k > problem.y.count) return false;
    const DefaultFpEnvironment environment;
    std::vector<Probe> probes = probes_of(problem);
    parallel_for(static_cast<int64_t>(probes.size()), problem.threads,
                 [&](int64_t p, int) { probe_nearest(problem, k, probes[static_cast<size_t>(p)]); });
    const Sketches<T> sketches(problem, probes);
    if (!sketches.usable()) return false;
    const auto never = [](int64_t, int64_t, float) { return false; };
    if (!problem.adversary && sketches.in_question(probes, never) > kMostInQuestion) return false;
    const int64_t block = sheets_of_block(sketches.pair().x, problem.threads);
    Knn<T> policy(problem, sketches.pair(), k, block, keys, indices, candidates);
    sweep_sketches(problem, sketches.pair(), block, policy);
    if (!problem.same) return true;
    constexpr int64_t step = 32;
    parallel_for(ceil_div(problem.x.count, step), problem.threads,
                 [&](int64_t task, int worker) { policy.finish(worker, nth(task, step, problem.x.count)); });
    return true;
}

template <typename T>
bool sketched_count(const Direct<T>& problem, const double* threshold, int64_t* counts) {
    if (!served(problem)) return false;
    const DefaultFpEnvironment environment;
    std::vector<Probe> probes = probes_of(problem);
    for (Probe& probe : probes) std::copy_n(threshold + probe.first, kSketchStrip, probe.keys);
    const Sketches<T> sketches(problem, probes);
    if (!sketches.usable()) return false;
    const auto within = [&](int64_t i, int64_t j, float value) {
        return Count<T>::within(sketches.pair(), threshold[i], i, j, value);
    };
    if (!problem.adversary && sketches.in_question(probes, within) > kMostInQuestion) return false;
    Count<T> policy(problem, sketches.pair(), threshold, counts);
    sweep_sketches(problem, sketches.pair(), sheets_of_block(sketches.pair().x, problem.threads), policy);
    return true;
}

template bool sketched_knn(const Direct<float>&, int64_t, double*, int64_t*, int64_t*);
template bool sketched_knn(const Direct<double>&, int64_t, double*, int64_t*, int64_t*);
template bool sketched_count(const Direct<float>&, const double*, int64_t*);
template bool sketched_count(const Direct<double>&, const double*, int64_t*);

}  // namespace msma
