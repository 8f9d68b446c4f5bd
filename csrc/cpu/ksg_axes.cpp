// KSG of samples in few dimensions: radii by the joint partition, counts by sorted axes or a marginal's own partition.
//
// A one-dimensional marginal is counted between two places of its sorted axis. Rounding is monotone, so the canonical
// key itself, with the sign of the difference, is monotone along the axis and may be asked in a binary search. Rows of
// the same label are counted among themselves in the same way and taken off, and so are rows within the window.
// A strict comparison with eps is a closed one with the next number below it.
#include "msma/ksg.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "excluded.hpp"
#include "ksg_axes.hpp"
#include "msma/cpu.hpp"
#include "msma/tree.hpp"
#include "parallel.hpp"
#include "work.hpp"

namespace msma {
namespace {

constexpr int64_t kTaskBlocks = 32;     // blocks of 8 rows
constexpr int64_t kThreadRows = 1024;   // that make a thread worth its start
constexpr int64_t kTermRows = 1 << 15;  // the same for the terms alone

JointBody best_joint_body() {
#ifdef MSMA_X86_BODIES
    if (at_least(InstructionSet::avx512)) return avx512::joint_body();
    if (at_least(InstructionSet::avx2)) return avx2::joint_body();
#endif
    return scalar::joint_body();
}

int threads_for(int64_t rows, int64_t each, int threads) {
    return static_cast<int>(std::clamp<int64_t>(rows / each, 1, threads));
}

// The next number below eps >= 0; below 0 there is no key.
double below(double eps) {
    if (eps == 0.0) return -1.0;
    uint64_t bits;
    std::memcpy(&bits, &eps, sizeof bits);
    --bits;
    std::memcpy(&eps, &bits, sizeof bits);
    return eps;
}

// The canonical key of d <= 3 coordinates.
double key_of(Kind kind, const double* a, const double* b, int64_t d) {
    double term[kLowDimension] = {};
    for (int64_t j = 0; j < d; ++j) {
        const double size = std::fabs(a[j] - b[j]);
        term[j] = kind == Kind::chebyshev ? size : size * size;
    }
    if (kind == Kind::chebyshev) return std::max(std::max(term[0], term[2]), term[1]);
    return (term[0] + term[2]) + term[1];
}

// Whether the key of a signed difference is at most t; a negative one stands for a value on the near side.
template <Kind kind>
bool reaches(double difference, double t) {
    return (kind == Kind::chebyshev ? difference : difference * std::fabs(difference)) <= t;
}

// How many of the ascending values (n,), n >= 1, have a key of at most t >= 0 to `at`. No branch depends on the values.
template <Kind kind>
int64_t count_on_axis(const double* values, int64_t n, double at, double t) {
    int64_t low = 0, high = 0;
    const auto before_low = [&](int64_t place) { return int64_t{!reaches<kind>(at - values[place], t)}; };
    const auto before_high = [&](int64_t place) { return int64_t{reaches<kind>(values[place] - at, t)}; };
    int64_t left = n;
    for (int64_t half; left > 1; left -= half) {
        half = left / 2;
        low += half & -before_low(low + half - 1);
        high += half & -before_high(high + half - 1);
    }
    return (high + before_high(high)) - (low + before_low(low));
}

int64_t count_on_axis(Kind kind, const double* values, int64_t n, double at, double t) {
    if (kind == Kind::chebyshev) return count_on_axis<Kind::chebyshev>(values, n, at, t);
    return count_on_axis<Kind::sqeuclidean>(values, n, at, t);
}

// One marginal as its counts see it.
struct Side {
    const Sample* sample;
    const double* grouped;  // see Excluded, null without labels
    const TreeCounter* partition;
    bool axis() const { return sample->rows.dimension == 1; }
};

// Admissible rows of a one-dimensional side with a key of at most t.
int64_t count_side(const Side& side, const Excluded& excluded, const LowKsg& asked, int64_t row, double t) {
    if (t < 0.0) return 0;
    const double at = side.sample->rows.values[row];
    int64_t count = count_on_axis(asked.kind, side.sample->axes[0].values.get(), side.sample->rows.count, at, t);
    if (side.grouped) {
        const Range group = excluded.group_of(row);
        count -= count_on_axis(asked.kind, side.grouped + group.begin, group.size(), at, t);  // the row itself too
    } else {
        --count;
    }
    if (asked.window) {
        excluded.near_rows(row,
                           [&](int64_t j) { count -= key_of(asked.kind, side.sample->rows.values + j, &at, 1) <= t; });
    }
    return count;
}

// A thread's room for the search.
struct Room {
    Buffer<double> kept, keys;
    Buffer<int64_t> indices;
    std::vector<double> reach_x, reach_y;  // (K,) closed limits of one row
    std::vector<char> tied;
};

class Pair {
  public:
    Pair(const Side& x, const Side& y, const Excluded& excluded, const LowKsg& asked)
        : x_(x), y_(y), excluded_(excluded), asked_(asked), n_(x.sample->rows.count) {
        most_ = *std::max_element(asked.ks, asked.ks + asked.count);
        wanted_ = most_ + 1;  // the next one tells whether the k-th is shared
    }

    void run(const JointBody& body, int threads, const LowCounts& out) const {
        const bool swapped = x_.sample->rows.dimension > y_.sample->rows.dimension;  // the joint key is symmetric
        const JointTree tree(*(swapped ? y_ : x_).sample, *(swapped ? x_ : y_).sample, asked_.kind, asked_.groups,
                             asked_.window, threads);
        Buffer<double> limits_x, limits_y;  // (K, n) where a marginal has its own partition
        if (!x_.axis()) limits_x = Buffer<double>(n_ * asked_.count);
        if (!y_.axis()) limits_y = Buffer<double>(n_ * asked_.count);
        std::vector<Room> rooms(static_cast<size_t>(threads));
        const int helpers = threads_for(n_, kThreadRows, threads);
        parallel_for(ceil_div(tree.view.blocks, kTaskBlocks), helpers, [&](int64_t task, int worker) {
            const Range blocks = nth(task, kTaskBlocks, tree.view.blocks);
            search(body, tree.view, blocks, rooms[static_cast<size_t>(worker)], [&](int64_t row, const Room& room) {
                for (int64_t c = 0; c < asked_.count; ++c) {
                    const int64_t place = row * asked_.count + c;
                    out.tied[place] = room.tied[static_cast<size_t>(c)] != 0;
                    note(x_, limits_x, row, c, room.reach_x, out.n_x);
                    note(y_, limits_y, row, c, room.reach_y, out.n_y);
                }
            });
        });
        if (!x_.axis()) count_partition(x_, limits_x, threads, out.n_x);
        if (!y_.axis()) count_partition(y_, limits_y, threads, out.n_y);
        terms(threads, out);
    }

  private:
    bool registers() const { return !asked_.closed && wanted_ <= kKeptKeys; }

    // Calls done(row, room) with the limits of each row of the blocks.
    template <typename Done>
    void search(const JointBody& body, const JointView& view, Range blocks, Room& room, const Done& done) const {
        room.reach_x.resize(static_cast<size_t>(asked_.count));
        room.reach_y.resize(static_cast<size_t>(asked_.count));
        room.tied.resize(static_cast<size_t>(asked_.count));
        const Range points{blocks.begin * kJointBlock, std::min(blocks.end * kJointBlock, view.count)};
        if (registers()) {
            if (!room.kept) room.kept = Buffer<double>(kTaskBlocks * kKeptKeys * kJointBlock);
            body.smallest(view, blocks, static_cast<int>(wanted_), room.kept.get());
            for (int64_t p = points.begin; p < points.end; ++p) {
                const int64_t block = p / kJointBlock - blocks.begin;
                limit(room.kept.get() + block * kKeptKeys * kJointBlock + p % kJointBlock, kJointBlock, room);
                done(view.index[p], room);
            }
            return;
        }
        if (!room.keys) {
            room.keys = Buffer<double>(wanted_);
            room.indices = Buffer<int64_t>(wanted_);
        }
        for (int64_t p = points.begin; p < points.end; ++p) {
            body.nearest(view, p, wanted_, room.keys.get(), room.indices.get());
            limit(room.keys.get(), 1, room);
            if (asked_.closed) reach(view.index[p], room);
            done(view.index[p], room);
        }
    }

    // KSG1: the limits, from ascending keys `stride` apart.
    void limit(const double* keys, int64_t stride, Room& room) const {
        for (int64_t c = 0; c < asked_.count; ++c) {
            const double eps = keys[(asked_.ks[c] - 1) * stride];
            const auto at = static_cast<size_t>(c);
            room.tied[at] = keys[asked_.ks[c] * stride] == eps;
            room.reach_x[at] = room.reach_y[at] = below(eps);
        }
    }

    // KSG2: the limits, from the neighbours.
    void reach(int64_t row, Room& room) const {
        const auto farthest = [&](const Side& side, int64_t k) {
            const Rows<double>& rows = side.sample->rows;
            double most = 0.0;
            for (int64_t r = 0; r < k && room.indices[r] >= 0; ++r) {
                most = std::max(most, key_of(asked_.kind, rows.row(row), rows.row(room.indices[r]), rows.dimension));
            }
            return most;
        };
        for (int64_t c = 0; c < asked_.count; ++c) {
            room.reach_x[static_cast<size_t>(c)] = farthest(x_, asked_.ks[c]);
            room.reach_y[static_cast<size_t>(c)] = farthest(y_, asked_.ks[c]);
        }
    }

    void note(const Side& side, const Buffer<double>& limits, int64_t row, int64_t c, const std::vector<double>& reach,
              int64_t* counts) const {
        const double t = reach[static_cast<size_t>(c)];
        if (side.axis()) {
            counts[row * asked_.count + c] = count_side(side, excluded_, asked_, row, t);
        } else {
            limits[c * n_ + row] = t;
        }
    }

    void count_partition(const Side& side, const Buffer<double>& limits, int threads, int64_t* counts) const {
        const Buffer<int64_t> found(n_);
        for (int64_t c = 0; c < asked_.count; ++c) {
            side.partition->count(limits.get() + c * n_, threads, found.get());
            for (int64_t i = 0; i < n_; ++i) counts[i * asked_.count + c] = found[i];
        }
    }

    void terms(int threads, const LowCounts& out) const {
        const int64_t shift = asked_.closed ? 0 : 1;
        parallel_for(ceil_div(n_, kTermRows), threads, [&](int64_t task, int) {
            const Range rows = nth(task, kTermRows, n_);
            for (int64_t i = rows.begin; i < rows.end; ++i) {
                for (int64_t c = 0; c < asked_.count; ++c) {
                    const int64_t place = i * asked_.count + c, k = asked_.ks[c];
                    double term = asked_.psi[k] + asked_.psi[out.neighbors[i]];
                    if (asked_.closed) term -= 1.0 / static_cast<double>(k);
                    out.local[place] = term - asked_.psi[out.n_x[place] + shift] - asked_.psi[out.n_y[place] + shift];
                }
            }
        });
    }

    const Side x_, y_;
    const Excluded& excluded_;
    const LowKsg& asked_;
    int64_t n_, most_, wanted_;
};

// What the counts of a sample need, made once for all its pairs: its axis by labels, or its partition.
class Prepared {
  public:
    Prepared(const Sample& sample, const Excluded& excluded, const LowKsg& asked) : sample_(sample) {
        if (sample.rows.dimension == 1) {
            grouped_ = excluded.grouped(sample.axes[0]);
            return;
        }
        partition_.reset(new TreeCounter(
            {{asked.kind, 0, nullptr}, sample.rows, nullptr, asked.groups, asked.groups, asked.window, asked.threads}));
    }

    Side side() const { return {&sample_, grouped_.get(), partition_.get()}; }

  private:
    const Sample& sample_;
    Buffer<double> grouped_;
    std::unique_ptr<TreeCounter> partition_;
};

std::vector<Prepared> prepared(const std::vector<Sample>& samples, const Excluded& excluded, const LowKsg& asked) {
    std::vector<Prepared> made;
    made.reserve(samples.size());
    for (const Sample& sample : samples) made.emplace_back(sample, excluded, asked);
    return made;
}

bool all_tame(const std::vector<Sample>& samples) {
    return std::all_of(samples.begin(), samples.end(), [](const Sample& sample) { return sample.tame(); });
}

// The mean of the terms of one k, in runs of 256: an order of its own.
double mean_of(const double* local, int64_t n, int64_t stride) {
    double total = 0.0;
    for (int64_t begin = 0; begin < n; begin += 256) {
        double sum = 0.0;
        for (int64_t i = begin; i < std::min(n, begin + 256); ++i) sum += local[i * stride];
        total += sum;
    }
    return total / static_cast<double>(n);
}

}  // namespace

bool ksg_low(const Rows<double>& x, const Rows<double>& y, const LowKsg& asked, const LowCounts& out) {
    const Rows<double> both[] = {x, y};
    const std::vector<Sample> samples = sorted_samples(both, 2, asked.threads);
    if (!all_tame(samples)) return false;
    const Excluded excluded(x.count, asked.groups, asked.window);
    excluded.numbers(out.neighbors);
    const std::vector<Prepared> sides = prepared(samples, excluded, asked);
    Pair(sides[0].side(), sides[1].side(), excluded, asked).run(best_joint_body(), asked.threads, out);
    return true;
}

bool ksg_low_matrix(const Rows<double>* left, const Rows<double>* right, int64_t layers, const LowKsg& asked,
                    double* means) {
    const std::vector<Sample> lefts = sorted_samples(left, layers, asked.threads);
    if (!all_tame(lefts)) return false;
    const std::vector<Sample> others = right ? sorted_samples(right, layers, asked.threads) : std::vector<Sample>();
    const int64_t n = left[0].count;
    const Excluded excluded(n, asked.groups, asked.window);
    std::vector<int64_t> neighbors(static_cast<size_t>(n));
    excluded.numbers(neighbors.data());
    const std::vector<Prepared> sides = prepared(lefts, excluded, asked), partners = prepared(others, excluded, asked);
    std::vector<std::pair<int64_t, int64_t>> pairs;
    for (int64_t a = 0; a < layers; ++a) {
        for (int64_t b = a; b < layers; ++b) pairs.emplace_back(a, b);
    }
    struct Answer {
        std::vector<double> local;
        std::vector<int64_t> n_x, n_y;
        std::unique_ptr<bool[]> tied;
    };
    std::vector<Answer> answers(static_cast<size_t>(asked.threads));
    const JointBody body = best_joint_body();
    const auto size = static_cast<size_t>(n * asked.count);
    parallel_for(static_cast<int64_t>(pairs.size()), asked.threads, [&](int64_t task, int worker) {
        const auto [a, b] = pairs[static_cast<size_t>(task)];
        Answer& answer = answers[static_cast<size_t>(worker)];
        answer.local.resize(size);
        answer.n_x.resize(size);
        answer.n_y.resize(size);
        if (!answer.tied) answer.tied.reset(new bool[size]);
        const auto l = static_cast<size_t>(a), r = static_cast<size_t>(b);
        Pair(sides[l].side(), (right ? partners : sides)[r].side(), excluded, asked)
            .run(body, 1,
                 {answer.local.data(), answer.n_x.data(), answer.n_y.data(), answer.tied.get(), neighbors.data()});
        for (int64_t c = 0; c < asked.count; ++c) {
            const double mean = mean_of(answer.local.data() + c, n, asked.count);
            means[(a * layers + b) * asked.count + c] = means[(b * layers + a) * asked.count + c] = mean;
        }
    });
    return true;
}

}  // namespace msma
