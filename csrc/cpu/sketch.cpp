// Chooses the codes of a search and rounds rows to them.
//
// Codes are computed in float64: u = (x - low) / step is within 2^-50 |u| of the exact one. Codes end at kMostCode, so
// what is not clipped to the same end moves by less than kMostCode 2^-50 in a code, of which every spread and outer
// has some more. The loss of a code is then measured, |q - v|, whichever way it was rounded.
#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "best_body.hpp"
#include "msma/cpu.hpp"
#include "parallel.hpp"
#include "sketches.hpp"
#include "work.hpp"

namespace msma {

SketchBody best_sketch_body(const SketchPlan& plan) {
#ifdef MSMA_X86_BODIES
    if (instruction_set() == InstructionSet::avx512) return avx512::sketch_body(plan.kind, plan.p, plan.floats);
    if (instruction_set() == InstructionSet::avx2) return avx2::sketch_body(plan.kind, plan.p, plan.floats);
#endif
    return scalar::sketch_body(plan.kind, plan.p, plan.floats);
}

namespace {

constexpr double kByte = 255.0;
constexpr double kMostSegments = 32.0;
constexpr double kMostCode = 0x1p21;  // above all segments of a coordinate, and above every limit of floats
constexpr double kCodeLoss = kMostCode * 0x1p-49;
constexpr int64_t kSample = 512;  // rows that the codes are chosen from
// Steps outside could overflow or lose u to underflow.
constexpr double kLeastStep = 0x1p-900, kMostStep = 0x1p900;

// Where most of the finite values of each coordinate lie; a few huge ones do not count.
struct Widths {
    std::vector<double> low, width;
};

template <typename T>
bool is_finite(const T* row, int64_t d) {
    return std::all_of(row, row + d, [](T v) { return std::isfinite(v); });
}

template <typename T>
void take_sample(const Rows<T>& rows, int64_t wanted, std::vector<const T*>& sample) {
    const int64_t count = std::min(rows.count, wanted);
    for (int64_t s = 0; s < count; ++s) {
        const T* const row = rows.row(s * rows.count / count);
        if (is_finite(row, rows.dimension)) sample.push_back(row);
    }
}

template <typename T>
Widths widths_of(const Rows<T>& x, const Rows<T>& y, bool same) {
    std::vector<const T*> sample;
    take_sample(y, same ? kSample : kSample / 2, sample);
    if (!same) take_sample(x, kSample / 2, sample);
    const int64_t d = y.dimension;
    const auto count = static_cast<int64_t>(sample.size()), aside = count / 100;
    Widths found;
    if (sample.empty()) return found;
    std::vector<T> values(sample.size());
    for (int64_t j = 0; j < d; ++j) {
        for (size_t s = 0; s < sample.size(); ++s) values[s] = sample[s][j];
        const auto begin = values.begin();
        std::nth_element(begin, begin + aside, values.end());
        const auto low = static_cast<double>(begin[aside]);
        std::nth_element(begin, begin + (count - 1 - aside), values.end());
        const double most = static_cast<double>(begin[count - 1 - aside]), margin = most / 8.0 - low / 8.0;
        found.low.push_back(low - margin);
        found.width.push_back((most - low) + 2.0 * margin);
    }
    return found;
}

// Bytes that a coordinate of this width gets; a little too wide is no reason for one more.
double segments(double width, double step) {
    return std::clamp(std::ceil(width / (kByte * step) - 0.15), 1.0, kMostSegments);
}

double bytes_needed(const Widths& widths, double step) {
    double total = 0.0;
    for (const double width : widths.width) total += segments(width, step);
    return total;
}

// The finest step whose codes are at most `budget`.
double step_within(const Widths& widths, double widest, double budget) {
    double coarse = widest / kByte, fine = coarse * 0x1p-12;
    for (int round = 0; round < 24; ++round) {
        const double middle = std::sqrt(coarse) * std::sqrt(fine);
        (bytes_needed(widths, middle) > budget ? fine : coarse) = middle;
    }
    return coarse;
}

// Differences are summed: many coordinates share the loss, and steps are as fine as a few more codes than coordinates
// allow. Of a coordinate that even the most bytes do not cover coarser steps, which lose a few percent of a radius,
// show more.
double step_of_sums(const Widths& widths, double widest, double radius) {
    const auto d = static_cast<double>(widths.width.size());
    const double finest = step_within(widths, widest, 1.25 * d + 4.0);
    return std::max(finest, std::min(widest / (kByte * kMostSegments), radius / (8.0 * d)));
}

// A largest difference is only seen up to one byte of steps: radii must lie well below. Where one byte takes the whole
// width of every coordinate in steps that are fine enough, that is best.
constexpr double kMostRadii = 16.0;  // of the widest coordinate, beyond which bytes see too little of what lies far
double step_of_largest(const Widths& widths, double widest, double radius) {
    if (widest / kByte <= radius / 24.0) return widest / kByte;
    const auto d = static_cast<double>(widths.width.size());
    return std::max(radius / 100.0, step_within(widths, widest, 2.0 * d + 128.0));
}

// Coordinates from the widest to the narrowest.
std::vector<int64_t> by_width(const Widths& widths) {
    std::vector<int64_t> order(widths.width.size());
    std::iota(order.begin(), order.end(), int64_t{0});
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
        return widths.width[static_cast<size_t>(a)] > widths.width[static_cast<size_t>(b)];
    });
    return order;
}

void plan_bytes(const Widths& widths, double widest, double radius, SketchPlan& plan) {
    plan.step =
        plan.kind == Kind::chebyshev ? step_of_largest(widths, widest, radius) : step_of_sums(widths, widest, radius);
    for (const int64_t j : by_width(widths)) {
        const double count = segments(widths.width[static_cast<size_t>(j)], plan.step);
        // The bytes lie around the middle of the width.
        const double middle = widths.low[static_cast<size_t>(j)] + widths.width[static_cast<size_t>(j)] / 2.0;
        plan.segmented = plan.segmented || count > 1.0;
        for (double s = 0.0; s < count; s += 1.0) {
            plan.coordinate.push_back(j);
            plan.low.push_back(middle - count * kByte / 2.0 * plan.step);
            plan.first.push_back(kByte * s);
            plan.bottom.push_back(s == 0.0 ? 1.0 : 0.0);
            plan.top.push_back(s == count - 1.0 ? 1.0 : 0.0);
        }
    }
}

void plan_floats(const Widths& widths, double widest, SketchPlan& plan) {
    const auto d = static_cast<int64_t>(widths.width.size());
    // d (2 limit)^p stays below 2^126.
    const double digits = std::floor((126.0 - std::ceil(std::log2(static_cast<double>(d)))) / plan.p) - 1.0;
    plan.limit = static_cast<float>(std::exp2(std::min(digits, 20.0)));
    plan.step = widest / static_cast<double>(plan.limit);
    for (const int64_t j : by_width(widths)) {
        plan.coordinate.push_back(j);
        plan.low.push_back(widths.low[static_cast<size_t>(j)] + widths.width[static_cast<size_t>(j)] / 2.0);
        plan.first.push_back(0.0);
    }
}

constexpr double kHuge = 1e300;  // no code is as large, and it times zero is zero

// Rows of one sheet as codes, one after the other, and what is lost of each.
class Rounder {
  public:
    Rounder(const SketchPlan& plan, const Sketch& to)
        : plan_(plan),
          to_(to),
          inverse_(1.0 / plan.step),
          u_(plan.coordinate.size()),
          inside_(u_.size()),
          outside_(u_.size()),
          bytes_(static_cast<size_t>(to.groups * kSheetGroup), 0) {}

    template <typename T>
    void round(const T* row, int64_t i) {
        const size_t codes = u_.size();
        for (size_t c = 0; c < codes; ++c) u_[c] = static_cast<double>(row[plan_.coordinate[c]]);
        if (!(sum(u_, 0.0) == 0.0)) {  // not finite: the codes stay zero
            to_.spread[i] = to_.outer[i] = std::numeric_limits<float>::infinity();
            return;
        }
        for (size_t c = 0; c < codes; ++c) {
            u_[c] = std::clamp((u_[c] - plan_.low[c]) * inverse_ - plan_.first[c], -kHuge, kHuge);
        }
        const Loss lost = plan_.floats ? to_floats(i) : to_bytes(i);
        // Below the last of these differences the powers may underflow in float32.
        const double more = kCodeLoss * static_cast<double>(codes) + (plan_.floats ? std::exp2(-100.0 / plan_.p) : 0.0);
        to_.spread[i] = rounded_up((lost.inside + more) * (1.0 + plan_.slack));
        to_.outer[i] = plan_.kind == Kind::chebyshev && plan_.segmented
                           ? std::numeric_limits<float>::infinity()
                           : rounded_up((lost.outside + more) * (1.0 + plan_.slack));
    }

  private:
    struct Loss {
        double inside, outside;
    };

    static float rounded_up(double v) { return static_cast<float>(v * (1.0 + 0x1p-22)); }

    Loss to_bytes(int64_t i) {
        const auto codes = static_cast<int64_t>(u_.size());
        // Plain loops over plain pointers, which compilers turn into vectors; bytes apart, since they may be anything.
        const double *const u = u_.data(), *const bottom = plan_.bottom.data(), *const top = plan_.top.data();
        double *const inside = inside_.data(), *const outside = outside_.data();
        for (int64_t c = 0; c < codes; ++c) {
            const double raised = u[c] < 0.0 ? 0.0 : u[c], v = kByte < raised ? kByte : raised;
            const double loss = std::fabs(static_cast<double>(static_cast<int32_t>(v + 0.5)) - v);
            inside[c] = loss;
            outside[c] = loss + (raised - u[c]) * bottom[c] + (raised - v) * top[c];
        }
        for (int64_t c = 0; c < codes; ++c) {
            const double raised = u[c] < 0.0 ? 0.0 : u[c], v = kByte < raised ? kByte : raised;
            bytes_[static_cast<size_t>(c)] = static_cast<unsigned char>(static_cast<int32_t>(v + 0.5));
        }
        unsigned char* const row = to_.row(i);
        for (int64_t g = 0; g < to_.groups; ++g) {
            std::memcpy(row + g * to_.group_bytes, bytes_.data() + g * kSheetGroup, kSheetGroup);
        }
        return {norm(inside_), norm(outside_)};
    }

    Loss to_floats(int64_t i) {
        const auto limit = static_cast<double>(plan_.limit);
        unsigned char* const row = to_.row(i);
        for (size_t c = 0; c < u_.size(); ++c) {
            const double u = u_[c], v = std::clamp(u, -limit, limit);
            const auto code = static_cast<float>(v);
            std::memcpy(row + static_cast<int64_t>(c) * to_.group_bytes, &code, sizeof code);
            inside_[c] = plan_.power(std::fabs(static_cast<double>(code) - v));
            outside_[c] = plan_.power(std::fabs(static_cast<double>(code) - u));
        }
        return {norm(inside_), norm(outside_)};
    }

    // Of the powers of what is lost of each code.
    double norm(const std::vector<double>& powers) const {
        if (plan_.kind == Kind::chebyshev) return *std::max_element(powers.begin(), powers.end());
        return plan_.root(sum(powers));
    }

    // Of values times a factor. Four sums at once, because one waits for itself.
    static double sum(const std::vector<double>& values, double factor = 1.0) {
        double part[4] = {};
        size_t c = 0;
        for (; c + 4 <= values.size(); c += 4) {
            for (size_t l = 0; l < 4; ++l) part[l] += values[c + l] * factor;
        }
        for (; c < values.size(); ++c) part[0] += values[c] * factor;
        return (part[0] + part[1]) + (part[2] + part[3]);
    }

    const SketchPlan& plan_;
    const Sketch& to_;
    const double inverse_;
    std::vector<double> u_, inside_, outside_;
    std::vector<unsigned char> bytes_;
};

}  // namespace

template <typename T>
SketchPlan plan_sketches(const Kernel& kernel, const Rows<T>& x, const Rows<T>& y, bool same, double radius) {
    SketchPlan plan{kernel.kind, kernel.kind == Kind::minkowski ? kernel.p : 1, kernel.kind == Kind::minkowski};
    const Widths widths = widths_of(x, y, same);
    if (widths.width.empty()) return plan;
    const double widest = *std::max_element(widths.width.begin(), widths.width.end());
    const auto usable = [](double v) { return v >= kLeastStep && v <= kMostStep; };
    if (!usable(widest) || !usable(radius)) return plan;
    if (plan.kind == Kind::chebyshev) plan.floats = widest > kMostRadii * radius;
    if (plan.floats) {
        plan_floats(widths, widest, plan);
    } else {
        plan_bytes(widths, widest, radius, plan);
    }
    plan.slack = std::ldexp(static_cast<double>(plan.floats ? plan.codes() + 4 * plan.p + 8 : 2), -23);
    plan.key_loss = std::ldexp(static_cast<double>(plan.codes() + 64), -51);
    return plan;
}

template <typename T>
OwnedSketch sketch(const SketchPlan& plan, const Rows<T>& rows, int threads) {
    OwnedSketch owned;
    Sketch& view = owned.view;
    const int64_t codes = plan.codes(), group = plan.floats ? 1 : kSheetGroup;
    view.count = rows.count;
    view.groups = ceil_div(codes, group);
    view.group_bytes = kSheet * (plan.floats ? static_cast<int64_t>(sizeof(float)) : kSheetGroup);
    const int64_t sheet_bytes = view.groups * view.group_bytes, padded_rows = view.sheets() * kSheet;
    owned.codes = Buffer<unsigned char>(view.sheets() * sheet_bytes);
    owned.floats = Buffer<float>(2 * padded_rows);
    view.packed = owned.codes.get();
    view.spread = owned.floats.get();
    view.outer = view.spread + padded_rows;
    parallel_for(view.sheets(), threads, [&](int64_t s, int) {
        std::fill_n(view.sheet(s), sheet_bytes, static_cast<unsigned char>(0));
        std::fill_n(view.spread + s * kSheet, kSheet, 0.0f);  // of padding, of which no bit is looked at
        std::fill_n(view.outer + s * kSheet, kSheet, 0.0f);
        Rounder rounder(plan, view);
        const Range rows_of_sheet = nth(s, kSheet, rows.count);
        for (int64_t i = rows_of_sheet.begin; i < rows_of_sheet.end; ++i) rounder.round(rows.row(i), i);
    });
    return owned;
}

template SketchPlan plan_sketches(const Kernel&, const Rows<float>&, const Rows<float>&, bool, double);
template SketchPlan plan_sketches(const Kernel&, const Rows<double>&, const Rows<double>&, bool, double);
template OwnedSketch sketch(const SketchPlan&, const Rows<float>&, int);
template OwnedSketch sketch(const SketchPlan&, const Rows<double>&, int);

}  // namespace msma
