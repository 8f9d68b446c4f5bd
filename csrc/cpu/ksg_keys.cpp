// Rows made ready for float32 differences, what that loses, and squares of values.
#include "ksg_keys.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "parallel.hpp"

namespace msma {
namespace {

constexpr double kUnit = 0x1p-24;
constexpr double kSumError = 13 * kUnit, kMaximumError = 2 * kUnit;  // of a root, with some room
// Below these no sum of squares, and no difference, leaves float32.
constexpr double kLargestSquared = 0x1p45, kLargestMaximum = 0x1p125;
// Where all coordinates are zero or larger, differences are multiples of 2^-63 and their squares normal numbers;
// else each of d squares may lose 2^-150, and a root sqrt(d) 2^-75.
constexpr double kSmallest = 0x1p-40, kSquareLoss = 0x1p-75;
constexpr double kSmallestLargest = 0x1p-50;
constexpr double kWorthRounding = 0x1p-12;  // of a typical distance; a choice of speed alone
constexpr int64_t kProbes = 31;

struct Extent {
    double largest = 0.0, smallest = std::numeric_limits<double>::infinity(), loss = 0.0;

    void take(const Extent& other) {
        // NaN, as infinity, must stay.
        if (!(other.largest <= largest)) largest = std::isnan(other.largest) ? HUGE_VAL : other.largest;
        smallest = std::min(smallest, other.smallest);
        if (!(other.loss <= loss)) loss = std::isnan(other.loss) ? HUGE_VAL : other.loss;
    }
};

float rounded_down(double v) {
    const auto near = static_cast<float>(v);
    return static_cast<double>(near) > v ? std::nextafterf(near, -HUGE_VALF) : near;
}
float rounded_up(double v) {
    const auto near = static_cast<float>(v);
    return static_cast<double>(near) < v ? std::nextafterf(near, HUGE_VALF) : near;
}

// The median of a few rows, coordinate by coordinate: float64 rows are rounded after it has been taken away. Any shift
// is right; one of the size of the data keeps the rounding small.
template <typename T>
std::vector<double> centre_of(const KsgRows<T>& rows) {
    const int64_t d = rows.dimension(), probes = std::min(rows.count(), kProbes);
    std::vector<double> centre(static_cast<size_t>(d), 0.0);
    if (sizeof(T) == sizeof(float)) return centre;
    std::vector<T> room(static_cast<size_t>(probes * d));
    std::vector<const T*> probe;
    for (int64_t t = 0; t < probes; ++t) probe.push_back(rows.row(t * rows.count() / probes, room.data() + t * d));
    std::vector<double> column(static_cast<size_t>(probes));
    for (int64_t k = 0; k < d; ++k) {
        for (int64_t t = 0; t < probes; ++t) {
            const double v = static_cast<double>(probe[static_cast<size_t>(t)][k]);
            column[static_cast<size_t>(t)] = std::isfinite(v) ? v : 0.0;
        }
        std::nth_element(column.begin(), column.begin() + probes / 2, column.end());
        centre[static_cast<size_t>(k)] = column[static_cast<size_t>(probes / 2)];
    }
    return centre;
}

// A group of rows, coordinate-major, as they are; see DistanceBody. What it tells of them unless `again`.
Extent pack_group(const DistanceBody& body, Kind, const KsgRows<float>& rows, Range group, const std::vector<double>&,
                  bool again, float* to) {
    const int64_t d = rows.dimension(), width = body.right_width;
    alignas(64) float square[kSquare * kSquare];
    for (int64_t k = 0; k < d; k += kSquare) {
        const Range some{k, std::min(d, k + kSquare)};
        for (int64_t r = 0; r < width; ++r) {
            float* const row = square + r * kSquare;
            if (r < group.size()) {
                rows.copy(group.begin + r, some, row);
            } else {
                std::fill_n(row, some.size(), 0.0f);
            }
        }
        body.mirror(square, width, some.size(), to + k * width, width, false);
    }
    Extent extent;
    for (int64_t t = 0; !again && t < d * width; ++t) {
        const auto size = static_cast<double>(std::fabs(to[t]));
        if (!(size <= extent.largest)) extent.largest = size;
        if (size > 0.0 && size < extent.smallest) extent.smallest = size;
    }
    return extent;
}

// The same of float64 rows, rounded once the centre has been taken away.
Extent pack_group(const DistanceBody& body, Kind kind, const KsgRows<double>& rows, Range group,
                  const std::vector<double>& centre, bool, float* to) {
    Extent extent;
    const int64_t d = rows.dimension(), width = body.right_width;
    std::vector<double> room(static_cast<size_t>(d));
    for (int64_t r = 0; r < width; ++r) {
        if (r >= group.size()) {
            for (int64_t k = 0; k < d; ++k) to[k * width + r] = 0.0f;
            continue;
        }
        const double* const values = rows.row(group.begin + r, room.data());
        double loss = 0.0;
        for (int64_t k = 0; k < d; ++k) {
            const double x = values[k], c = centre[static_cast<size_t>(k)], v = x - c;
            const float b = static_cast<float>(v);
            to[k * width + r] = b;
            const double size = std::fabs(static_cast<double>(b));
            if (!(size <= extent.largest)) extent.largest = size;
            if (size > 0.0 && size < extent.smallest) extent.smallest = size;
            // What the subtraction lost is a float64 number (Knuth), and so is what the rounding lost.
            const double back = v + c, lost = (x - back) + ((back - v) - c);
            const double off = std::fabs(v - static_cast<double>(b)) + std::fabs(lost);
            loss = kind == Kind::chebyshev ? std::max(loss, off) : loss + off * off;
            if (std::isnan(off)) loss = HUGE_VAL;
        }
        extent.take({extent.largest, extent.smallest, kind == Kind::chebyshev ? loss : std::sqrt(loss)});
    }
    return extent;
}

// The groups of one sample, and what that loses.
template <typename T>
Extent pack_sample(const DistanceBody& body, Kind kind, const KsgRows<T>& rows, const std::vector<double>& centre,
                   bool again, int threads, float* to) {
    const int64_t n = rows.count(), d = rows.dimension(), width = body.right_width, groups = ceil_div(n, width);
    std::vector<Extent> extents(static_cast<size_t>(groups));
    parallel_for(groups, worth_starting(n, d, threads), [&](int64_t g, int) {
        extents[static_cast<size_t>(g)] =
            pack_group(body, kind, rows, nth(g, width, n), centre, again, to + g * width * d);
    });
    Extent all;
    for (const Extent& extent : extents) all.take(extent);
    return all;
}

// The largest span of the columns whose differences may be rounded in float32.
float inexact_span(const float* packed, int64_t n, int64_t d, int64_t width, int threads) {
    constexpr float kShift = 0x1p23f;  // from here on all float32 numbers are integers, and adding it rounds to one
    std::vector<float> spans(static_cast<size_t>(d), 0.0f);
    parallel_for(d, worth_starting(n, d, threads), [&](int64_t k, int) {
        float least = HUGE_VALF, most = -HUGE_VALF;
        const auto each_group = [&](const auto& take) {
            for (int64_t g = 0; g * width < n; ++g) {
                take(packed + (g * d + k) * width, std::min(width, n - g * width));
            }
        };
        each_group([&](const float* values, int64_t count) {
            for (int64_t r = 0; r < count; ++r) {
                least = std::min(least, values[r]);
                most = std::max(most, values[r]);
            }
        });
        const double span = static_cast<double>(most) - static_cast<double>(least);
        if (span == 0.0) return;
        const double step = std::ldexp(1.0, std::ilogb(span) - 23);
        const auto inverse = static_cast<float>(1.0 / step);
        bool exact = step >= 0x1p-100 && step <= 0x1p100;
        if (exact) {
            each_group([&](const float* values, int64_t count) {
                int broken = 0;
                for (int64_t r = 0; r < count; ++r) {
                    const float steps = std::fabs(values[r] * inverse);
                    broken |= steps < kShift && (steps + kShift) - kShift != steps;
                }
                exact = exact && !broken;
            });
        }
        if (!exact) spans[static_cast<size_t>(k)] = rounded_up(span);
    });
    return *std::max_element(spans.begin(), spans.end());
}

// The root of a typical key.
template <typename T>
double typical_root(Kind kind, const KeyBody<T>& body, const KsgRows<T>& rows) {
    const int64_t n = rows.count(), probes = std::min(n, kProbes);
    std::vector<double> keys(static_cast<size_t>(probes));
    typename KsgRows<T>::Room room;
    for (int64_t t = 0; t < probes; ++t) {
        const int64_t left = t * n / kProbes % n, right = (left + n / 2 + t) % n;
        double& key = keys[static_cast<size_t>(t)];
        rows.keys(body, kind, left, &right, 1, room, &key);
        key = key >= 0.0 ? key : 0.0;
    }
    std::nth_element(keys.begin(), keys.begin() + static_cast<int64_t>(keys.size() / 2), keys.end());
    const double middle = keys[keys.size() / 2];
    return kind == Kind::chebyshev ? middle : std::sqrt(middle);
}

// The sign, the exponent and 19 bits of a key >= 0: the float32 number with these bits has the same order. NaN and inf
// are the largest of all codes, and finite.
float code_of(double key) {
    uint64_t bits;
    std::memcpy(&bits, &key, sizeof bits);
    const auto upper = static_cast<uint32_t>((bits & 0x7fffffffffffffffu) >> 33);
    float code;
    std::memcpy(&code, &upper, sizeof code);
    return code;
}

}  // namespace

template <typename T>
KsgKeys<T>::KsgKeys(Kind kind, const KsgSample* samples, int64_t count, int threads)
    : kind_(kind),
      samples_(samples, samples + count),
      body_(best_distance_body()),
      rows_body_(best_ksg_rows_body()),
      key_body_(best_body<T>(kind)) {
    direct_ = prepare_direct(threads);
    if (!direct_) packed_.clear();
}

template <typename T>
bool KsgKeys<T>::prepare_direct(int threads) {
    const bool squared = kind_ == Kind::sqeuclidean;
    const int64_t width = body_.right_width, padded = ceil_div(n(), width) * width;
    int64_t widest = 0, total = 0;
    float exact_from = 0.0f;
    for (const KsgRows<T>& rows : samples_) {
        widest = std::max(widest, rows.dimension());
        total += rows.dimension();
    }
    one_at_a_time_ = padded * total > kPacked;
    if (one_at_a_time_) packed_.emplace_back(padded * widest);
    for (int64_t s = 0; s < count(); ++s) {
        const KsgRows<T>& rows = sample(s);
        const int64_t d = rows.dimension();
        centres_.push_back(centre_of(rows));
        if (!one_at_a_time_) packed_.emplace_back(padded * d);
        const Extent all = pack_sample(body_, kind_, rows, centres_.back(), false, threads, packed(s));
        if (!(all.largest < (squared ? kLargestSquared : kLargestMaximum))) return false;
        if (all.largest > 0.0 && all.largest < kSmallestLargest) return false;
        double reach = 2.0 * all.loss * (1.0 + 0x1p-18);
        if (reach > 0.0 && !(reach < kWorthRounding * typical_root(kind_, key_body_, rows))) return false;
        if (squared && all.smallest < kSmallest) reach += std::sqrt(static_cast<double>(d)) * kSquareLoss;
        reach_ = std::max(reach_, reach);
        if (!squared && reach_ == 0.0)
            exact_from = std::max(exact_from, inexact_span(packed(s), n(), d, width, threads));
    }
    if (!squared && reach_ == 0.0) inexact_ = exact_from;
    relative_ = (squared ? kSumError : kMaximumError) + static_cast<double>(widest + 8) * 0x1p-53;
    return relative_ < 0x1p-18;
}

template <typename T>
void KsgKeys<T>::pack(int64_t s, int threads) {
    if (!direct_ || !one_at_a_time_) return;
    pack_sample(body_, kind_, sample(s), centres_[static_cast<size_t>(s)], true, threads, packed(s));
}

template <typename T>
KsgBand KsgKeys<T>::band(float value) const {
    if (!direct_ || (reach_ == 0.0 && (value == 0.0f || kind_ == Kind::chebyshev))) return {value, value};
    const auto v = static_cast<double>(value);
    const bool squared = kind_ == Kind::sqeuclidean;
    const double root = squared ? std::sqrt(v) : v;
    const double least = (root - reach_) / (1.0 + relative_), most = (root + reach_) / (1.0 - relative_);
    const double low = std::max(0.0, least * (1.0 - relative_) - reach_), high = most * (1.0 + relative_) + reach_;
    return {rounded_down(squared ? low * low : low), rounded_up(squared ? high * high : high)};
}

template <typename T>
typename KsgKeys<T>::Scratch KsgKeys<T>::scratch() const {
    int64_t widest = 0;
    for (const KsgRows<T>& rows : samples_) widest = std::max(widest, rows.dimension());
    Scratch made{{}, Buffer<float>(kSquare * kSquare), {}, {}};
    if (direct_) {
        made.left = Buffer<float>(kSquare * widest);
    } else {
        made.keys = Buffer<double>(kSquare * kSquare + block_scratch({kind_, 0, nullptr}, widest, kSquare));
        made.rows = Buffer<T>(2 * kSquare * widest);
    }
    return made;
}

template <typename T>
void KsgKeys<T>::pack_left(int64_t s, Range rows, Scratch& scratch) const {
    if (!direct_) return;
    const int64_t d = sample(s).dimension(), width = body_.right_width, left = body_.left_width;
    const float* const whole = packed(s);
    for (int64_t group = 0; group < rows.size(); group += left) {
        float* const to = scratch.left.get() + group * d;
        for (int64_t r = 0; r < left; ++r) {
            const int64_t row = rows.begin + group + r;
            if (row >= rows.end) {
                for (int64_t k = 0; k < d; ++k) to[k * left + r] = 0.0f;
                continue;
            }
            const float* const from = whole + row / width * width * d + row % width;
            for (int64_t k = 0; k < d; ++k) to[k * left + r] = from[k * width];
        }
    }
}

template <typename T>
void KsgKeys<T>::square(int64_t s, Range rows, Range columns, Scratch& scratch) const {
    const KsgRows<T>& points = sample(s);
    const int64_t d = points.dimension();
    if (direct_) {
        const auto kernel = kind_ == Kind::chebyshev ? rows_body_.chebyshev_square : body_.square;
        kernel(scratch.left.get(), packed(s) + columns.begin * d, d, rows.size(), columns.size(), scratch.values.get());
        return;
    }
    double* const keys = scratch.keys.get();
    T* const room = scratch.rows.get();
    key_body_.block({kind_, 0, nullptr}, points.block(rows, room), points.block(columns, room + kSquare * d),
                    {0, rows.size()}, {0, columns.size()}, keys + kSquare * kSquare, keys);
    for (int64_t r = 0; r < rows.size(); ++r) {
        for (int64_t c = 0; c < columns.size(); ++c) {
            scratch.values[r * kSquare + c] = code_of(keys[r * columns.size() + c]);
        }
    }
}

template class KsgKeys<float>;
template class KsgKeys<double>;

}  // namespace msma
