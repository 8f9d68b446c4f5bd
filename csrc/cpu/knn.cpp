// k nearest neighbours by the certified screen.
//
// Every row keeps a reservoir of the pairs that may still be among its k nearest: the k-th smallest upper bound
// distance + spread_i + spread_j is its certified radius tau, and pairs whose lower bound is above tau are left out,
// first by the comparison of whole tiles, then when a full reservoir is thinned out. A small k has its upper bounds
// kept in order, so that tau follows every pair. What remains gets canonical keys as long as its lower bounds do not
// rise above the k-th key: that is all that can matter.
#include <algorithm>
#include <cmath>
#include <limits>

#include "neighbor.hpp"
#include "reservoirs.hpp"
#include "screen.hpp"

namespace msma {
namespace {

// The bounds of a distance in a symmetric picture, and of -2 x.y where only the product is bounded.
template <typename T, bool product>
class Knn {
  public:
    Thresholds<product> thresholds;
    static constexpr bool mirrored = false;

    Knn(const Screened<T>& problem, int64_t k)
        : thresholds(problem.x_codes->view, problem.y_codes->view, kInfinity, kInfinity),
          problem_(problem),
          x_(problem.x_codes->view),
          y_(problem.y_codes->view),
          k_(k),
          body_(best_screen_body()),
          reservoirs_(x_.count, y_.count, k, problem.threads),
          uppers_(x_.count, k),
          workspace_(static_cast<size_t>(problem.threads)) {
        for (int64_t i = 0; i < x_.count; ++i) {
            if (!(x_.spread[i] < kInfinity)) give_up(i);
        }
    }

    // Bounds of all the hits first, without a branch on whether they still matter: many are guessed wrong.
    void take(int worker, Origin at, const int32_t* products, const Hits& hits, bool both) {
        Bounded pairs[2 * kMostTileRows * kPanel + 2];
        int32_t count = 0;
        const auto note = [&](int64_t i, int64_t j, float value) {
            const float apart = width(i, j), lower = value - apart;
            pairs[count] = {static_cast<int32_t>(i), static_cast<int32_t>(j), lower, value + apart};
            count += !(lower > thresholds.reach[i]);
            fetch(i);
        };
        for (int32_t h = 0; h < hits.count; ++h) {
            const int32_t r = hits.place[h] >> 8, c = hits.place[h] & 0xff;
            const int64_t i = at.row + r, j = at.column + c;
            const float value = thresholds.value(i, j, products[r * kPanel + c]);
            note(i, j, value);
            if (both) note(j, i, value);
        }
        for (int32_t p = 0; p < count; ++p) add(worker, pairs[p]);
    }
    void task_end(int) {}

    // A first radius for every row from a sample of the columns, without a reservoir: upper bounds fall into disjoint
    // bins, and the k-th smallest minimum of a bin is a bound that k columns keep.
    void seed(const TileProducts<T>& tile_products) {
        if constexpr (product) return;
        const int64_t bins = ceil_div(2 * k_, kPanel), panels = y_.panels();
        const int64_t sample = std::max<int64_t>({panels / 48, 4, 4 * bins});
        if (3 * sample > panels) return;
        seeded_ = true;
        const Buffer<float> room(problem_.threads * kPanel * kPanel * bins);
        parallel_for(x_.panels(), problem_.threads, [&](int64_t panel, int worker) {
            seed_panel(tile_products, panel, sample, bins, room.get() + worker * kPanel * kPanel * bins);
        });
    }

    // Whether codes this coarse can hardly leave anything out: most pairs of a sample matter by the first radii.
    bool hopeless(const TileProducts<T>& tile_products) const {
        if (x_.low || !seeded_) return false;
        constexpr int64_t strips = 16, panels = 8;
        alignas(64) int32_t products[kMostTileRows * kPanel];
        const TileUnit unit(tile_products.body);
        int64_t looked_at = 0, open = 0;
        for (int64_t s = 0; s < strips; ++s) {
            const int64_t row = s * (x_.count / strips) / body_.tile_rows * body_.tile_rows;
            for (int64_t p = 0; p < panels; ++p) {
                const int64_t panel = p * y_.panels() / panels;
                const TileSize size{std::min<int64_t>(body_.tile_rows, x_.count - row),
                                    std::min(kPanel, y_.count - panel * kPanel)};
                Hits hits;
                tile_products.multiply(row, panel, products);
                thresholds.judge(row, panel * kPanel, products, false, size, hits);
                looked_at += size.rows * size.columns;
                open += hits.count;
            }
        }
        return 2 * open > looked_at;
    }

    // Canonical keys of what is left; see screened_knn. Some rows at once: their pairs make long lists.
    void finish(double* keys, int64_t* indices, int64_t* candidates) {
        const KeyBody<T> body = best_body<T>(problem_.kernel->kind);
        const int64_t room = pair_scratch(*problem_.kernel, problem_.x.dimension);
        const Buffer<double> scratch(room * problem_.threads + 1);
        constexpr int64_t step = 32;
        parallel_for(ceil_div(x_.count, step), problem_.threads, [&](int64_t task, int worker) {
            const Range rows = nth(task, step, x_.count);
            Workspace& work = workspace_[static_cast<size_t>(worker)];
            const auto give_keys = [&](Pairs& pairs) {
                pairs.keys.resize(pairs.rows.size());
                body.pairs(*problem_.kernel, problem_.x, problem_.y, pairs.rows.data(), pairs.columns.data(),
                           Range{0, static_cast<int64_t>(pairs.rows.size())}, scratch.get() + worker * room,
                           pairs.keys.data());
            };
            work.first.clear();
            for (int64_t i = rows.begin; i < rows.end; ++i) {
                candidates[i] = lost(i) ? -1 : nearest_first(worker, i);
                for (int64_t e = 0; e < candidates[i]; ++e) work.first.add(i, reservoirs_.of(i).entries[e].column);
            }
            give_keys(work.first);
            work.rest.clear();
            const double* known = work.first.keys.data();
            for (int64_t i = rows.begin; i < rows.end; ++i) {
                if (candidates[i] < 0) continue;
                const int64_t done = candidates[i];
                candidates[i] = leave_out(i, known, done);
                for (int64_t e = done; e < candidates[i]; ++e) work.rest.add(i, reservoirs_.of(i).entries[e].column);
                known += done;
            }
            give_keys(work.rest);
            size_t first = 0, rest = 0;
            for (int64_t i = rows.begin; i < rows.end; ++i) {
                if (candidates[i] < 0) continue;
                work.found.clear();
                work.first.take(i, first, work.found);
                work.rest.take(i, rest, work.found);
                write_nearest(work.found.data(), candidates[i], k_, keys + i * k_, indices + i * k_);
            }
        });
    }

  private:
    struct Bounded {
        int32_t i, j;
        float lower, upper;
    };
    struct Pairs {
        std::vector<int64_t> rows, columns;
        std::vector<double> keys;

        void clear() {
            rows.clear();
            columns.clear();
        }
        void add(int64_t row, int64_t column) {
            rows.push_back(row);
            columns.push_back(column);
        }
        // The pairs of `row`, which begin at `next`.
        void take(int64_t row, size_t& next, std::vector<Neighbor>& found) const {
            for (; next < rows.size() && rows[next] == row; ++next) found.push_back({keys[next], columns[next]});
        }
    };
    struct Workspace {
        std::vector<float> uppers;
        std::vector<Entry> others;
        Pairs first, rest;
        std::vector<Neighbor> found;
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
            if (!lost(first + r)) tighten(first + r, body_.select(lowest + r * size, size, k_));
        }
    }

    // What the bounds of a pair lie apart from its value, without the row's own spread.
    float width(int64_t i, int64_t j) const {
        if constexpr (!product) return y_.spread[j];
        return raised(2.0f * (x_.length[i] * y_.spread[j] + x_.spread[i] * y_.length[j]));
    }

    // What `add` will touch.
    void fetch(int64_t i) {
        const Reservoirs::Row& row = reservoirs_.of(i);
        __builtin_prefetch(row.entries + row.count, 1);
        uppers_.fetch(i);
    }

    void add(int worker, const Bounded& pair) {
        const int64_t i = pair.i;
        Reservoirs::Row& row = reservoirs_.of(i);
        if (!row.entries || !problem_.rules.admit(i, pair.j)) return;
        row.entries[row.count] = {pair.lower, pair.j};
        if (uppers_.kept()) tighten(i, uppers_.with(i, pair.upper, body_));
        if (++row.count < row.capacity) return;
        thin_out(worker, i);
        if (8 * row.count > 7 * row.capacity && !reservoirs_.grow(i)) give_up(i);
    }

    bool lost(int64_t i) const { return !reservoirs_.of(i).entries; }

    // Only the entries whose lower bound is not above the radius of the row, which is brought up to date first.
    void thin_out(int worker, int64_t i) {
        Reservoirs::Row& row = reservoirs_.of(i);
        Entry* entries = row.entries;
        const int32_t count = row.count;
        if (!uppers_.kept()) {
            std::vector<float>& uppers = workspace_[static_cast<size_t>(worker)].uppers;
            uppers.assign(static_cast<size_t>(ceil_div(count, 16) * 16 + 16), kInfinity);
            float* aligned = uppers.data() + (16 - reinterpret_cast<uintptr_t>(uppers.data()) / 4 % 16) % 16;
            for (int32_t e = 0; e < count; ++e) {
                aligned[e] = entries[e].lower + 2.0f * width(i, entries[e].column);
            }
            tighten(i, body_.select(aligned, ceil_div(count, 16) * 16, k_));
        }
        const float reach = thresholds.reach[i];
        int32_t kept = 0;
        for (int32_t e = 0; e < count; ++e) {
            const Entry entry = entries[e];
            entries[kept] = entry;
            kept += !(entry.lower > reach);
        }
        row.count = kept;
    }

    // At least k admissible columns have an upper bound (without the row's spread) of at most `upper`.
    void tighten(int64_t i, float upper) {
        float &reach = thresholds.reach[i], &outer = thresholds.outer[i];
        if constexpr (product) {
            reach = outer = std::min(upper, reach);
        } else {
            // The row's spread once for the upper bound and once for the lower bounds it is compared with. No branch:
            // every second pair would be guessed wrong.
            reach = std::min(raised(raised(upper + x_.spread[i]) + x_.spread[i]), reach);
            outer = raised(reach * reach) - x_.square[i];
        }
    }

    static float raised(float v) { return v + std::fabs(v) * 0x1p-20f; }

    void give_up(int64_t i) {
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

    // Puts the entries that are given keys at once to the front of row i and returns their number: at least k, whose
    // keys spare the others theirs, or all of them where there are hardly more.
    int64_t nearest_first(int worker, int64_t i) {
        thin_out(worker, i);
        const Reservoirs::Row& row = reservoirs_.of(i);
        if (row.count <= k_ + kSpared) return row.count;
        if (!uppers_.kept()) {
            std::nth_element(row.entries, row.entries + k_ - 1, row.entries + row.count);
            return k_;
        }
        // Those whose upper bounds are the k smallest, give or take a rounding.
        const float top = raised(uppers_.largest(i));
        std::vector<Entry>& others = workspace_[static_cast<size_t>(worker)].others;
        others.resize(static_cast<size_t>(row.count));
        int64_t chosen = 0, left = 0;
        for (int32_t e = 0; e < row.count; ++e) {
            const Entry entry = row.entries[e];
            const bool near = entry.lower + 2.0f * width(i, entry.column) <= top;
            row.entries[chosen] = entry;
            others[static_cast<size_t>(left)] = entry;
            chosen += near;
            left += !near;
        }
        std::copy_n(others.data(), left, row.entries + chosen);
        return chosen;
    }

    // Drops what cannot be among the k nearest of row i, given the keys of its first `done` entries; the entries left.
    int64_t leave_out(int64_t i, const double* keys, int64_t done) {
        Entry* entries = reservoirs_.of(i).entries;
        const int64_t count = reservoirs_.of(i).count;
        if (done < k_ || done == count) return count;
        const double top = screened_key(*std::max_element(keys, keys + done), i);
        const auto above = [top](const Entry& entry) { return static_cast<double>(entry.lower) > top; };
        return std::remove_if(entries + done, entries + count, above) - entries;
    }

    static constexpr int64_t kSpared = 4;  // so few keys cost less than telling which of them can be left out

    const Screened<T>& problem_;
    const Codes &x_, &y_;
    int64_t k_;
    bool seeded_ = false;
    ScreenBody body_;
    Reservoirs reservoirs_;
    Uppers uppers_;
    std::vector<Workspace> workspace_;
};

}  // namespace

template <typename T>
void screened_knn(const Screened<T>& problem, int64_t k, double* keys, int64_t* indices, int64_t* candidates) {
    const DefaultFpEnvironment environment;
    const auto run = [&](auto policy) {
        const TileProducts<T> tile_products(problem);
        policy->seed(tile_products);
        if (policy->hopeless(tile_products)) {
            std::fill_n(candidates, problem.x.count, -1);
            return;
        }
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
