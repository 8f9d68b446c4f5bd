// k nearest neighbours by the certified screen.
//
// Every row keeps a reservoir of the pairs that may still be among its k nearest: the k-th smallest upper bound
// distance + spread_i + spread_j is its certified radius tau, and pairs whose lower bound is above tau are left out,
// first by the comparison of whole tiles, then when a full reservoir is thinned out. What remains gets canonical keys
// in the order of the lower bounds until these rise above the k-th key: that is all that can matter.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "neighbor.hpp"
#include "screen.hpp"

namespace msma {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// What a row keeps of its pairs: upper and lower bounds (both without the row's own spread) and columns.
struct Reservoir {
    float *upper, *lower;
    int32_t* column;

    Reservoir(float* words, int64_t capacity)
        : upper(words), lower(words + capacity), column(reinterpret_cast<int32_t*>(words + 2 * capacity)) {}
};

// Reservoirs start small; rows with many candidates get more room, up to a share of the columns and of the memory.
class Reservoirs {
  public:
    Reservoirs(int64_t rows, int64_t columns, int64_t k, int threads)
        : first_((2 * k + 34 + 15) / 16 * 16),
          limit_(std::max<int64_t>(16 * k + 512, columns / 4)),
          room_(kGrowth * threads),
          slab_(rows * first_ * 3),
          grown_(static_cast<size_t>(rows)),
          count_(static_cast<size_t>(rows), 0),
          capacity_(static_cast<size_t>(rows), static_cast<int32_t>(first_)),
          full_(static_cast<size_t>(rows), static_cast<int32_t>(std::min<int64_t>(first_, k + kFresh))) {}

    Reservoir of(int64_t i) const {
        const Buffer<float>& own = grown_[static_cast<size_t>(i)];
        return own ? Reservoir(own.get(), capacity(i)) : Reservoir(slab_.get() + i * first_ * 3, first_);
    }
    int32_t& count(int64_t i) { return count_[static_cast<size_t>(i)]; }
    // Entries at which the row is thinned out again: a few new ones, so that its radius follows closely.
    int32_t& full(int64_t i) { return full_[static_cast<size_t>(i)]; }
    void refill(int64_t i) { full(i) = std::min(capacity(i), count(i) + kFresh); }
    int32_t capacity(int64_t i) const { return capacity_[static_cast<size_t>(i)]; }

    // Twice the room for row i; false where the row has too many candidates or the memory is used up.
    bool grow(int64_t i) {
        const int64_t wider = 2 * int64_t{capacity(i)};
        if (wider > limit_) return false;
        if (used_.fetch_add(wider) + wider > room_) {
            used_.fetch_sub(wider);
            return false;
        }
        Buffer<float> words(3 * wider);
        const Reservoir from = of(i), to(words.get(), wider);
        std::copy_n(from.upper, count(i), to.upper);
        std::copy_n(from.lower, count(i), to.lower);
        std::copy_n(from.column, count(i), to.column);
        if (grown_[static_cast<size_t>(i)]) used_.fetch_sub(capacity(i));
        grown_[static_cast<size_t>(i)] = std::move(words);
        capacity_[static_cast<size_t>(i)] = static_cast<int32_t>(wider);
        return true;
    }
    void drop(int64_t i) {
        if (grown_[static_cast<size_t>(i)]) used_.fetch_sub(capacity(i));
        grown_[static_cast<size_t>(i)] = Buffer<float>();
        capacity_[static_cast<size_t>(i)] = static_cast<int32_t>(first_);
        count(i) = 0;
    }

  private:
    static constexpr int32_t kFresh = 32;
    static constexpr int64_t kGrowth = (int64_t{32} << 20) / 12;  // entries in 32 MiB a thread

    int64_t first_, limit_, room_;
    std::atomic<int64_t> used_{0};
    Buffer<float> slab_;
    std::vector<Buffer<float>> grown_;
    std::vector<int32_t> count_, capacity_, full_;
};

// The bounds of a distance in a symmetric picture, and of -2 x.y where only the product is bounded.
template <typename T, bool product>
class Knn {
  public:
    Thresholds<product> thresholds;

    Knn(const Screened<T>& problem, int64_t k)
        : thresholds(problem.x_codes->view, problem.y_codes->view, kInfinity, kInfinity),
          problem_(problem),
          x_(problem.x_codes->view),
          y_(problem.y_codes->view),
          k_(k),
          body_(best_screen_body()),
          reservoirs_(x_.count, y_.count, k, problem.threads),
          lost_(static_cast<size_t>(x_.count), 0),
          workspace_(static_cast<size_t>(problem.threads)) {
        for (int64_t i = 0; i < x_.count; ++i) {
            if (!(x_.spread[i] < kInfinity)) give_up(i);
        }
    }

    void row_hit(int, int64_t i, int64_t j, int32_t sum) { add(i, j, i, j, sum); }
    void column_hit(int, int64_t i, int64_t j, int32_t sum) { add(j, i, i, j, sum); }
    void task_end(int) {}

    // A first radius for every row from a sample of the columns, without a reservoir: upper bounds fall into disjoint
    // bins, and the k-th smallest minimum of a bin is a bound that k columns keep.
    void seed(const TileProducts<T>& tile_products) {
        if constexpr (product) return;
        const int64_t bins = ceil_div(2 * k_, kPanel), panels = y_.panels();
        const int64_t sample = std::max<int64_t>({panels / 24, 8, 4 * bins});
        if (3 * sample > panels) return;
        const Buffer<float> room(problem_.threads * kPanel * kPanel * bins);
        parallel_for(x_.panels(), problem_.threads, [&](int64_t panel, int worker) {
            seed_panel(tile_products, panel, sample, bins, room.get() + worker * kPanel * kPanel * bins);
        });
    }

    // Canonical keys of what is left; see screened_knn.
    void finish(double* keys, int64_t* indices, int64_t* candidates) {
        const KeyBody<T> body = best_body<T>(problem_.kernel->kind);
        const int64_t room = pair_scratch(*problem_.kernel, problem_.x.dimension);
        const Buffer<double> scratch(room * problem_.threads + 1);
        constexpr int64_t step = 32;
        parallel_for(ceil_div(x_.count, step), problem_.threads, [&](int64_t task, int worker) {
            const Range rows = nth(task, step, x_.count);
            for (int64_t i = rows.begin; i < rows.end; ++i) {
                candidates[i] =
                    lost_[static_cast<size_t>(i)]
                        ? -1
                        : finish_row(worker, i, body, scratch.get() + worker * room, keys + i * k_, indices + i * k_);
            }
        });
    }

  private:
    struct Bounded {
        float lower;
        int32_t column;
        bool operator<(const Bounded& other) const {
            return lower < other.lower || (lower == other.lower && column < other.column);
        }
    };
    struct Workspace {
        std::vector<Bounded> bounded;
        std::vector<Neighbor> found;
        std::vector<int64_t> rows, columns;
        std::vector<double> keys;
    };

    void seed_panel(const TileProducts<T>& tile_products, int64_t panel, int64_t sample, int64_t bins, float* lowest) {
        alignas(64) int32_t products[kMostTileRows * kPanel];
        const TileUnit unit(tile_products.body);
        const int64_t first = panel * kPanel, rows = std::min(kPanel, x_.count - first), panels = y_.panels();
        const int64_t size = kPanel * bins;  // bins of one row: `bins` panels side by side
        std::fill_n(lowest, kPanel * size, kInfinity);
        for (int64_t s = 0; s < sample; ++s) {
            // Rows of one text lie together and are near each other: a self-search looks around itself first.
            const int64_t other = problem_.same ? (panel + s) % panels : s * panels / sample;
            const int64_t columns = std::min(kPanel, y_.count - other * kPanel);
            for (int64_t r = 0; r < rows; r += body_.tile_rows) {
                tile_products.multiply(first + r, other, products);
                uint64_t excluded[kMostTileRows] = {};
                for (int64_t t = 0; t < body_.tile_rows; ++t) {
                    excluded[t] =
                        problem_.rules.excluded(std::min(first + r + t, x_.count - 1), other * kPanel, columns);
                }
                // The bins of a strip's rows lie `size` apart: one panel's width at a time goes through a small tile.
                alignas(64) float tile[kMostTileRows * kPanel];
                for (int64_t t = 0; t < body_.tile_rows; ++t) {
                    std::copy_n(lowest + (r + t) * size + (s % bins) * kPanel, kPanel, tile + t * kPanel);
                }
                body_.lowest(thresholds.of_rows(first + r), thresholds.of_columns(other * kPanel, false), products,
                             excluded, tile);
                for (int64_t t = 0; t < body_.tile_rows; ++t) {
                    std::copy_n(tile + t * kPanel, kPanel, lowest + (r + t) * size + (s % bins) * kPanel);
                }
            }
        }
        for (int64_t r = 0; r < rows; ++r) {
            if (!lost_[static_cast<size_t>(first + r)]) tighten(first + r, body_.select(lowest + r * size, size, k_));
        }
    }

    // Pair (i, j) of the search, screened as (a, b).
    void add(int64_t i, int64_t j, int64_t a, int64_t b, int32_t sum) {
        if (lost_[static_cast<size_t>(i)] || !problem_.rules.admit(i, j)) return;
        float value, width;
        if constexpr (product) {
            value = -2.0f * x_.step[a] * y_.step[b] * static_cast<float>(sum);
            width = raised(2.0f * (x_.length[a] * y_.spread[b] + x_.spread[a] * y_.length[b]));
        } else {
            const float step = 2.0f * x_.step[a] * y_.step[b];
            const float square = x_.square[a] + y_.square[b] - step * static_cast<float>(sum);
            value = std::sqrt(std::max(0.0f, square));
            width = y_.spread[j];
        }
        const Reservoir reservoir = reservoirs_.of(i);
        int32_t& count = reservoirs_.count(i);
        reservoir.upper[count] = value + width;
        reservoir.lower[count] = value - width;
        reservoir.column[count] = static_cast<int32_t>(j);
        if (++count < reservoirs_.full(i)) return;
        thin_out(i);
        if (4 * count > 3 * reservoirs_.capacity(i) && !reservoirs_.grow(i)) return give_up(i);
        reservoirs_.refill(i);
    }

    // The radius of row i from its reservoir, and only the entries whose lower bound is not above it.
    void thin_out(int64_t i) {
        const Reservoir reservoir = reservoirs_.of(i);
        int32_t& count = reservoirs_.count(i);
        const int64_t whole = ceil_div(count, 16) * 16;
        std::fill(reservoir.upper + count, reservoir.upper + whole, kInfinity);
        tighten(i, body_.select(reservoir.upper, whole, k_));
        count = body_.keep(reservoir.upper, reservoir.lower, reservoir.column, count, thresholds.reach[i]);
    }

    // At least k admissible columns have an upper bound (without the row's spread) of at most `upper`.
    void tighten(int64_t i, float upper) {
        if constexpr (product) {
            if (upper < thresholds.reach[i]) thresholds.reach[i] = thresholds.outer[i] = upper;
        } else {
            // The row's spread once for the upper bound and once for the lower bounds it is compared with.
            const float reach = raised(raised(upper + x_.spread[i]) + x_.spread[i]);
            if (!(reach < thresholds.reach[i])) return;
            thresholds.reach[i] = reach;
            thresholds.outer[i] = raised(reach * reach) - x_.square[i];
        }
    }

    static float raised(float v) { return v + std::fabs(v) * 0x1p-20f; }

    void give_up(int64_t i) {
        lost_[static_cast<size_t>(i)] = 1;
        reservoirs_.drop(i);
        thresholds.reach[i] = 0.0f;
        thresholds.outer[i] = -kInfinity;
    }

    // A value that a lower bound must exceed for the pair to have a larger key than `key`.
    double screened_key(double key, int64_t i) const {
        const double scale = problem_.x_codes->scale;
        if constexpr (product) {
            const double t = scale * problem_.y_codes->scale * (2.0 * key + problem_.offset[i]);
            return t + std::fabs(t) * 0x1p-30;
        }
        return std::sqrt(problem_.factor * key) * scale * (1.0 + 0x1p-30) + static_cast<double>(x_.spread[i]);
    }

    int64_t finish_row(int worker, int64_t i, const KeyBody<T>& body, double* scratch, double* keys, int64_t* indices) {
        Workspace& work = workspace_[static_cast<size_t>(worker)];
        thin_out(i);
        const Reservoir reservoir = reservoirs_.of(i);
        const int32_t count = reservoirs_.count(i);
        work.bounded.clear();
        for (int32_t e = 0; e < count; ++e) work.bounded.push_back({reservoir.lower[e], reservoir.column[e]});
        std::sort(work.bounded.begin(), work.bounded.end());
        work.found.clear();
        const auto size = static_cast<int64_t>(work.bounded.size());
        int64_t done = 0;
        while (done < size) {
            int64_t batch = std::min<int64_t>(done == 0 ? std::max<int64_t>(k_, 8) : 8, size - done);
            if (done >= k_) {
                const auto kth = work.found.begin() + (k_ - 1);
                std::nth_element(work.found.begin(), kth, work.found.end());
                const double top = screened_key(kth->key, i);
                int64_t possible = 0;
                while (possible < batch &&
                       !(static_cast<double>(work.bounded[static_cast<size_t>(done + possible)].lower) > top)) {
                    ++possible;
                }
                if (possible == 0) break;
                batch = possible;
            }
            work.rows.assign(static_cast<size_t>(batch), i);
            work.columns.resize(static_cast<size_t>(batch));
            work.keys.resize(static_cast<size_t>(batch));
            for (int64_t b = 0; b < batch; ++b) {
                work.columns[static_cast<size_t>(b)] = work.bounded[static_cast<size_t>(done + b)].column;
            }
            body.pairs(*problem_.kernel, problem_.x, problem_.y, work.rows.data(), work.columns.data(), Range{0, batch},
                       scratch, work.keys.data());
            for (int64_t b = 0; b < batch; ++b) {
                work.found.push_back({work.keys[static_cast<size_t>(b)], work.columns[static_cast<size_t>(b)]});
            }
            done += batch;
        }
        write_nearest(work.found.data(), static_cast<int64_t>(work.found.size()), k_, keys, indices);
        return done;
    }

    const Screened<T>& problem_;
    const Codes &x_, &y_;
    int64_t k_;
    ScreenBody body_;
    Reservoirs reservoirs_;
    std::vector<char> lost_;
    std::vector<Workspace> workspace_;
};

}  // namespace

template <typename T>
void screened_knn(const Screened<T>& problem, int64_t k, double* keys, int64_t* indices, int64_t* candidates) {
    const DefaultFpEnvironment environment;
    const auto run = [&](auto policy) {
        const TileProducts<T> tile_products(problem);
        policy->seed(tile_products);
        sweep(problem, tile_products, *policy);
        policy->finish(keys, indices, candidates);
    };
    if (problem.kernel->kind == Kind::inner_product) {
        run(std::make_unique<Knn<T, true>>(problem, k));
    } else {
        run(std::make_unique<Knn<T, false>>(problem, k));
    }
}

template void screened_knn(const Screened<float>&, int64_t, double*, int64_t*, int64_t*);
template void screened_knn(const Screened<double>&, int64_t, double*, int64_t*, int64_t*);

}  // namespace msma
