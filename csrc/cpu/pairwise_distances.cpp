// Cuts the (n, m) result into bands of rows, each a task, and decides which pairs float32 can serve.
#include "msma/pairwise_distances.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "best_body.hpp"
#include "buffer.hpp"
#include "distance_body.hpp"
#include "parallel.hpp"
#include "work.hpp"

namespace msma {
namespace {

int64_t round_up(int64_t value, int64_t step) { return ceil_div(value, step) * step; }

// Fresh memory costs a page fault for every 4 KiB it is first written at, a tenth of the time of a large result; pages
// of 2 MiB all but remove that. Only advice: a refusal changes nothing.
constexpr int64_t kHugePage = int64_t{1} << 21, kLargeResult = 16 * kHugePage;
void advise_huge_pages([[maybe_unused]] void* values, [[maybe_unused]] int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (bytes < kLargeResult) return;
    const auto begin = round_up(static_cast<int64_t>(reinterpret_cast<intptr_t>(values)), kHugePage);
    const auto end = (static_cast<int64_t>(reinterpret_cast<intptr_t>(values)) + bytes) / kHugePage * kHugePage;
    if (end > begin) madvise(reinterpret_cast<void*>(begin), static_cast<size_t>(end - begin), MADV_HUGEPAGE);
#endif
}

// Calls set(b, threads) for every set of a batch: large sets one after the other on all threads, small ones side by
// side.
template <typename Set>
void for_sets(int64_t batch, int64_t pairs, int64_t cost, int threads, const Set& set) {
    const int within = worth_starting(pairs, cost, threads);
    if (within > 1 || batch == 1) {
        for (int64_t b = 0; b < batch; ++b) set(b, within);
    } else {
        const int workers = worth_starting(pairs * batch, cost, threads);
        parallel_for(batch, workers, [&](int64_t b, int) { set(b, 1); });
    }
}

// -- canonical keys
// ----------------------------------------------------------------------------------------------------

constexpr int64_t kBandRows = 128;

void scale_keys(double* keys, int64_t count, Scale scale, void (*roots)(double*, int64_t)) {
    if (!scale.root) return;
    roots(keys, count);
    if (scale.divisor == 1.0) return;
    for (int64_t k = 0; k < count; ++k) keys[k] /= scale.divisor;
}

// The rows as the bodies want them: where they lie when contiguous, else copied to `copies`.
template <typename T>
Rows<T> contiguous(const Points<T>& points, Range rows, T* copies) {
    const double* norms = points.norms ? points.norms + rows.begin : nullptr;
    const T* values = points.values + rows.begin * points.stride;
    if (points.stride == points.dimension) return {values, norms, rows.size(), points.dimension};
    for (int64_t r = 0; r < rows.size(); ++r) {
        std::copy_n(values + r * points.stride, points.dimension, copies + r * points.dimension);
    }
    return {copies, norms, rows.size(), points.dimension};
}

template <typename T, typename Out>
void key_set(const Kernel& kernel, const Points<T>& x, const Points<T>& y, bool self, Scale scale, int threads,
             Out* out) {
    const int64_t n = x.count, m = y.count, d = x.dimension;
    const KeyBody<T> body = best_body<T>(kernel.kind);
    const auto roots = best_distance_body().double_roots;
    const int64_t columns = std::min(m, panel_rows(d)), band = std::min(n, kBandRows);
    const int64_t panels = ceil_div(m, columns), room = block_scratch(kernel, d, columns);
    const Buffer<double> scratch((room + band * columns) * threads);
    const bool copies = x.stride != d || y.stride != d;
    const int64_t copied = copies ? (band + columns) * d : 0;
    const Buffer<T> copy(copied * threads);
    parallel_for(ceil_div(n, band) * panels, threads, [&](int64_t task, int worker) {
        const Range rows = nth(task / panels, band, n);
        Range right = nth(task % panels, columns, m);
        if (self) right.begin = std::max(right.begin, rows.begin);
        if (right.size() <= 0) return;
        double* const work = scratch.get() + worker * (room + band * columns);
        double* const keys = work + room;
        T* const copied_rows = copy.get() + worker * copied;
        const Rows<T> left_rows = contiguous(x, rows, copied_rows);
        const Rows<T> right_rows = contiguous(y, right, copied_rows + (copies ? band * d : 0));
        const int64_t wide = right.size();
        body.block(kernel, left_rows, right_rows, {0, rows.size()}, {0, wide}, work, keys);
        scale_keys(keys, rows.size() * wide, scale, roots);
        for (int64_t r = 0; r < rows.size(); ++r) {
            Out* const to = out + (rows.begin + r) * m + right.begin;
            for (int64_t c = 0; c < wide; ++c) to[c] = static_cast<Out>(keys[r * wide + c]);
        }
        if (!self) return;
        for (int64_t c = std::max(right.begin, rows.end) - right.begin; c < wide; ++c) {
            Out* const to = out + (right.begin + c) * m + rows.begin;
            for (int64_t r = 0; r < rows.size(); ++r) to[r] = static_cast<Out>(keys[r * wide + c]);
        }
    });
}

// -- float32
// -----------------------------------------------------------------------------------------------------------

// The largest and the smallest nonzero |v|; infinity and NaN count as larger than all.
struct Magnitudes {
    uint32_t largest = 0, smallest = std::numeric_limits<uint32_t>::max();

    void take(const float* values, int64_t count) {
        uint32_t most = largest, below_least = smallest - 1;
        for (int64_t k = 0; k < count; ++k) {
            uint32_t bits;
            std::memcpy(&bits, values + k, sizeof bits);
            bits &= 0x7fffffffu;
            most = std::max(most, bits);
            below_least = std::min(below_least, bits - 1);  // zero wraps round to the largest
        }
        largest = most;
        smallest = below_least + 1;
    }
};

uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

Magnitudes magnitudes(const Points<float>& points) {
    Magnitudes all;
    for (int64_t r = 0; r < points.count; ++r) all.take(points.values + r * points.stride, points.dimension);
    return all;
}

// Below 2^45 no sum of squares overflows. Above 2^-40 differences are multiples of 2^-63 and their squares are normal
// numbers or zero; where smaller values occur, d of them lose at most d 2^-150, which a sum of d 2^-119 does not
// notice.
constexpr float kLargest = 0x1p45f, kSmallest = 0x1p-40f, kSmallestLargest = 0x1p-50f;
constexpr double kSmallSquare = 0x1p-119;

// Packs `rows` in groups of `width`; see DistanceBody.
void pack(const Points<float>& points, Range rows, int64_t width, float* to) {
    constexpr int64_t kLine = 16;  // coordinates of one cache line, read from all rows of the group before the next
    const int64_t d = points.dimension;
    for (int64_t first = rows.begin; first < rows.end; first += width, to += width * d) {
        const int64_t count = std::min(width, rows.end - first);
        const float* const values = points.values + first * points.stride;
        for (int64_t begin = 0; begin < d; begin += kLine) {
            const int64_t end = std::min(d, begin + kLine);
            for (int64_t k = begin; k < end; ++k) {
                for (int64_t r = 0; r < count; ++r) to[k * width + r] = values[r * points.stride + k];
                for (int64_t r = count; r < width; ++r) to[k * width + r] = 0.0f;
            }
        }
    }
}

class Direct {
  public:
    Direct(const Points<float>& x, const Points<float>& y, bool self, bool root, double low, float* out)
        : x_(x),
          y_(y),
          self_(self),
          root_(root),
          low_(static_cast<float>(low)),
          out_(out),
          body_(best_distance_body()),
          pairs_(best_body<float>(Kind::sqeuclidean).pairs) {}

    void run(int threads) const {
        const int64_t n = x_.count, m = y_.count, d = x_.dimension;
        const int64_t span = std::clamp(kPacked / d / kSquare * kSquare, kSquare, round_up(m, kSquare));
        const int64_t left_room = round_up(std::min(n, kSquare), body_.left_width) * d;
        const Buffer<float> right(round_up(std::min(m, span), body_.right_width) * d), left(left_room * threads),
            sums(kSquare * kSquare * threads);
        for (int64_t first = 0; first < m; first += span) {
            const Range columns{first, std::min(m, first + span)};
            parallel_for(ceil_div(columns.size(), kSquare), threads, [&](int64_t task, int) {
                const Range part = nth(task, kSquare, columns.size());
                pack(y_, {first + part.begin, first + part.end}, body_.right_width, right.get() + part.begin * d);
            });
            // Few bands: each is shared by several tasks, so that all threads have work.
            const int64_t bands = ceil_div(n, kSquare), squares = ceil_div(columns.size(), kSquare);
            const int64_t shares =
                threads == 1 ? 1 : std::clamp<int64_t>(ceil_div(kTasks * threads, bands), 1, squares);
            const int64_t share = ceil_div(squares, shares) * kSquare;
            parallel_for(bands * shares, threads, [&](int64_t task, int worker) {
                const Range rows = nth(task / shares, kSquare, n);
                Range part{first + task % shares * share, std::min(columns.end, first + (task % shares + 1) * share)};
                if (self_) part.begin = std::max(part.begin, rows.begin);
                if (part.size() <= 0) return;
                float* const packed = left.get() + worker * left_room;
                pack(x_, rows, body_.left_width, packed);
                band(rows, part, packed, right.get() + (part.begin - first) * d,
                     sums.get() + worker * kSquare * kSquare);
            });
        }
    }

  private:
    static constexpr int64_t kPacked = int64_t{1} << 23;  // floats of packed y rows at a time: 32 MiB
    static constexpr int64_t kTasks = 8;                  // for each thread, so that threads end together
    // A smaller result is likely to be read from the caches next.
    static constexpr int64_t kStream = int64_t{1} << 21;

    void band(Range rows, Range columns, const float* left, const float* right, float* sums) const {
        const int64_t m = y_.count, d = x_.dimension;
        const bool stream = x_.count * m >= kStream;
        for (int64_t c = columns.begin; c < columns.end; c += kSquare) {
            const int64_t wide = std::min(kSquare, columns.end - c);
            body_.square(left, right + (c - columns.begin) * d, d, rows.size(), wide, sums);
            for (int64_t r = 0; r < rows.size(); ++r) finish(rows.begin + r, {c, c + wide}, sums + r * kSquare);
            body_.copy(sums, rows.size(), wide, out_ + rows.begin * m + c, m, stream);
            if (self_ && c >= rows.end) body_.mirror(sums, rows.size(), wide, out_ + c * m + rows.begin, m, stream);
        }
    }

    // Sums to distances; those too small to trust are computed again as canonical keys.
    void finish(int64_t row, Range columns, float* sums) const {
        const auto small = [this](float sum) { return sum < low_; };
        if (low_ == 0.0f || std::none_of(sums, sums + columns.size(), small)) {
            if (root_) body_.roots(sums, columns.size());
            return;
        }
        for (int64_t c = 0; c < columns.size(); ++c) {
            if (small(sums[c])) {
                const double key = canonical(row, columns.begin + c);
                sums[c] = static_cast<float>(root_ ? std::sqrt(key) : key);
            } else if (root_) {
                sums[c] = std::sqrt(sums[c]);
            }
        }
    }

    double canonical(int64_t row, int64_t column) const {
        const Rows<float> x{x_.values + row * x_.stride, nullptr, 1, x_.dimension};
        const Rows<float> y{y_.values + column * y_.stride, nullptr, 1, x_.dimension};
        const int64_t zero = 0;
        double key;
        pairs_({Kind::sqeuclidean, 0, nullptr}, x, y, &zero, &zero, {0, 1}, nullptr, &key);
        return key;
    }

    const Points<float>&x_, &y_;
    const bool self_, root_;
    const float low_;
    float* const out_;
    const DistanceBody body_;
    const decltype(KeyBody<float>::pairs) pairs_;
};

void direct_set(const Points<float>& x, const Points<float>& y, bool self, bool root, int threads, float* out) {
    Magnitudes sizes = magnitudes(x);
    if (!self) {
        const Magnitudes others = magnitudes(y);
        sizes = {std::max(sizes.largest, others.largest), std::min(sizes.smallest, others.smallest)};
    }
    if (sizes.largest >= bits_of(kLargest) || sizes.largest < bits_of(kSmallestLargest)) {
        key_set(Kernel{Kind::sqeuclidean, 0, nullptr}, x, y, self, Scale{root, 1.0}, threads, out);
        return;
    }
    const double low = sizes.smallest < bits_of(kSmallest) ? kSmallSquare * static_cast<double>(x.dimension) : 0.0;
    Direct(x, y, self, root, low, out).run(threads);
}

}  // namespace

void euclidean_distances(const Points<float>& x, const Points<float>& y, bool self, bool root, int threads,
                         float* out) {
    const int64_t pairs = x.count * y.count;
    if (pairs == 0) return;
    advise_huge_pages(out, x.batch * pairs * static_cast<int64_t>(sizeof(float)));
    for_sets(x.batch, pairs, x.dimension, threads,
             [&](int64_t b, int within) { direct_set(x.set(b), y.set(b), self, root, within, out + b * pairs); });
}

template <typename T, typename Out>
void key_distances(const Kernel& kernel, const Points<T>& x, const Points<T>& y, bool self, Scale scale, int threads,
                   Out* out) {
    const int64_t pairs = x.count * y.count;
    if (pairs == 0) return;
    advise_huge_pages(out, x.batch * pairs * static_cast<int64_t>(sizeof(Out)));
    const PaddedKernel whole(kernel, x.dimension);
    for_sets(x.batch, pairs, cost_of_pair(kernel, x.dimension), threads, [&](int64_t b, int within) {
        key_set(whole.get(), x.set(b), y.set(b), self, scale, within, out + b * pairs);
    });
}

template void key_distances(const Kernel&, const Points<float>&, const Points<float>&, bool, Scale, int, float*);
template void key_distances(const Kernel&, const Points<double>&, const Points<double>&, bool, Scale, int, float*);
template void key_distances(const Kernel&, const Points<double>&, const Points<double>&, bool, Scale, int, double*);

}  // namespace msma
