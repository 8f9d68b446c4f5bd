// A look at a few rows of a search before it begins: which codes serve it, and whether they pay.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "best_body.hpp"
#include "buffer.hpp"
#include "msma/direct.hpp"
#include "sketch_sweep.hpp"
#include "sketches.hpp"
#include "work.hpp"

namespace msma {

// reach of sketch.hpp for a radius in steps.
inline float reach_of(const SketchPlan& plan, double radius, float spread) {
    return static_cast<float>((radius + static_cast<double>(spread)) * (1.0 + plan.slack) * (1.0 + 0x1p-22));
}

// A few strips of rows with the keys up to which pairs matter to them: from these the codes are chosen, and by these it
// is known beforehand whether the screen pays.
constexpr int64_t kProbes = 4, kProbeSheets = 512;
struct Probe {
    int64_t first;  // row of the strip
    Range columns;  // in whole sheets; around the row, because rows of one text lie together and are near each other
    double keys[kSketchStrip];
};

template <typename T>
std::vector<Probe> probes_of(const Direct<T>& problem) {
    const int64_t strips = problem.x.count / kSketchStrip, sheets = ceil_div(problem.y.count, kSheet);
    const int64_t width = std::min(sheets, kProbeSheets);
    std::vector<Probe> probes;
    for (int64_t s = 0; s < std::min(kProbes, strips); ++s) {
        const int64_t row = (2 * s + 1) * strips / (2 * kProbes) * kSketchStrip;
        const int64_t begin = std::clamp<int64_t>(row / kSheet - width / 2, 0, sheets - width);
        probes.push_back({row, {begin * kSheet, std::min((begin + width) * kSheet, problem.y.count)}, {}});
    }
    return probes;
}

// The key of the k-th nearest admissible column of a probe's rows, inf where there are fewer.
template <typename T>
void probe_nearest(const Direct<T>& problem, int64_t k, Probe& probe) {
    const KeyBody<T> body = best_body<T>(problem.kernel->kind);
    const int64_t d = problem.x.dimension, width = panel_rows(d);
    const Buffer<double> scratch(block_scratch(*problem.kernel, d, width) + kSketchStrip * width);
    double* const keys = scratch.get() + block_scratch(*problem.kernel, d, width);
    std::vector<double> admissible[kSketchStrip];
    const Rows<T> left = part(problem.x, {probe.first, probe.first + kSketchStrip});
    for (int64_t c = probe.columns.begin; c < probe.columns.end; c += width) {
        const Range columns{c, std::min(c + width, probe.columns.end)};
        const Rows<T> right = part(problem.y, columns);
        body.block(*problem.kernel, left, right, {0, kSketchStrip}, {0, right.count}, scratch.get(), keys);
        for (int64_t r = 0; r < kSketchStrip; ++r) {
            for (int64_t j = columns.begin; j < columns.end; ++j) {
                const double key = keys[r * right.count + (j - c)];
                if (!std::isnan(key) && problem.rules.admit(probe.first + r, j)) admissible[r].push_back(key);
            }
        }
    }
    for (int64_t r = 0; r < kSketchStrip; ++r) {
        std::vector<double>& found = admissible[r];
        probe.keys[r] = std::numeric_limits<double>::infinity();
        if (static_cast<int64_t>(found.size()) < k) continue;
        std::nth_element(found.begin(), found.begin() + (k - 1), found.end());
        probe.keys[r] = found[static_cast<size_t>(k - 1)];
    }
}

// The plan of a search, its sketches, and whether they are of use.
template <typename T>
class Sketches {
  public:
    Sketches(const Direct<T>& problem, const std::vector<Probe>& probes)
        : plan(plan_sketches(*problem.kernel, problem.x, problem.y, problem.same, typical(problem, probes))) {
        if (plan.step == 0.0) return;
        right_ = sketch(plan, problem.y, problem.threads);
        if (!problem.same) left_ = sketch(plan, problem.x, problem.threads);
        pair_ = std::make_unique<SketchPair>(SketchPair{plan, problem.same ? right_.view : left_.view, right_.view});
    }

    const SketchPlan plan;
    bool usable() const { return pair_ != nullptr; }
    const SketchPair& pair() const { return *pair_; }

    // The part of a row's pairs that the sketches leave in question, not exceeded by three quarters of the probes'
    // rows: a few rows that lie far out do not decide. `settled(i, j, value)`: without a key.
    template <typename Settled>
    double in_question(const std::vector<Probe>& probes, const Settled& settled) const {
        const SketchBody body = best_sketch_body(plan);
        const Sketch &x = pair_->x, &y = pair_->y;
        alignas(64) float values[kSketchStrip * kSheet];
        std::vector<double> parts;
        for (const Probe& probe : probes) {
            float reach[kSketchStrip];
            int64_t open[kSketchStrip] = {};
            for (int64_t r = 0; r < kSketchStrip; ++r) {
                reach[r] = reach_of(plan, plan.radius_above(probe.keys[r]), x.spread[probe.first + r]);
            }
            for (int64_t c = probe.columns.begin; c < probe.columns.end; c += kSheet) {
                const Cuts cuts{reach, x.spread + probe.first, nullptr, y.spread + c, false};
                body.values(x.row(probe.first), y.sheet(c / kSheet), y.groups, cuts, values);
                uint32_t to_row[kSketchStrip], to_column[kSketchStrip];
                body.judge(cuts, values, to_row, to_column);
                for (int64_t r = 0; r < kSketchStrip; ++r) {
                    for_bits(to_row[r], [&](int64_t place) {
                        const int64_t i = probe.first + r, j = std::min(c + place, y.count - 1);
                        open[r] += !settled(i, j, values[r * kSheet + place]);
                    });
                }
            }
            for (const int64_t count : open) {
                parts.push_back(static_cast<double>(count) / static_cast<double>(probe.columns.size()));
            }
        }
        std::sort(parts.begin(), parts.end());
        parts.resize(parts.size() - parts.size() / 8);
        return std::accumulate(parts.begin(), parts.end(), 0.0) / static_cast<double>(parts.size());
    }

  private:
    static double typical(const Direct<T>& problem, const std::vector<Probe>& probes) {
        std::vector<double> radii;
        const double power = problem.kernel->kind == Kind::minkowski ? 1.0 / problem.kernel->p : 1.0;
        for (const Probe& probe : probes) {
            for (const double key : probe.keys) {
                if (key > 0.0 && std::isfinite(key)) radii.push_back(std::pow(key, power));
            }
        }
        if (radii.empty()) return 0.0;
        const auto middle = radii.begin() + static_cast<int64_t>(radii.size()) / 2;
        std::nth_element(radii.begin(), middle, radii.end());
        return *middle;
    }

    OwnedSketch left_, right_;
    std::unique_ptr<SketchPair> pair_;
};

}  // namespace msma
