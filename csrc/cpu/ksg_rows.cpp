// KSG over blocks of rows: all samples' values of a block, then every row of it, every pair of samples.
//
// A row's values of all samples stay in the second-level cache while its pairs are counted. A float32 value decides
// where it can (KsgKeys); what lies in the band of the k-th joint key, mostly that one neighbour, is decided by
// canonical keys. So the counts are those of canonical keys, whatever the instruction set, the block and the threads.
#include "msma/ksg_rows.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "ksg_blocks.hpp"
#include "ksg_counter.hpp"
#include "ksg_keys.hpp"
#include "ksg_scan.hpp"
#include "parallel.hpp"

namespace msma {
namespace {

// The rows of each label, for labels of any value.
class Texts {
  public:
    Texts(const int32_t* labels, int64_t n) : labels_(labels) {
        if (!labels) return;
        order_.resize(static_cast<size_t>(n));
        std::iota(order_.begin(), order_.end(), 0);
        std::stable_sort(order_.begin(), order_.end(),
                         [labels](int32_t a, int32_t b) { return labels[a] < labels[b]; });
    }

    explicit operator bool() const { return labels_ != nullptr; }
    bool same(int64_t i, int64_t j) const { return labels_[i] == labels_[j]; }

    template <typename Take>
    void members(int64_t i, const Take& take) const {
        if (!labels_) return;
        const int32_t label = labels_[i];
        const auto before = [this](int32_t row, int32_t wanted) { return labels_[row] < wanted; };
        auto at = std::lower_bound(order_.begin(), order_.end(), label, before);
        for (; at != order_.end() && labels_[*at] == label; ++at) take(*at);
    }

  private:
    const int32_t* labels_;
    std::vector<int32_t> order_;
};

// Fills the blocks one after the other and calls row(i, block, worker) for every row; after each block done(rows).
template <typename T, typename Row, typename Done>
void for_rows(KsgBlocks<T>& blocks, const KsgKeys<T>& keys, const KsgRule& rule, int64_t pairs, int threads,
              const Row& row, const Done& done) {
    const int64_t n = keys.n();
    const Texts groups(rule.groups, n), partners(rule.partners, n);
    const int64_t step = std::clamp<int64_t>(64 / pairs, 1, 64);
    for (int64_t b = 0; b < blocks.blocks(); ++b) {
        blocks.fill(b);
        const Range rows = blocks.rows(b);
        const int workers = worth_starting(rows.size() * n, pairs, threads);
        parallel_for(ceil_div(rows.size(), step), workers, [&](int64_t task, int worker) {
            const Range some = nth(task, step, rows.size());
            for (int64_t i = rows.begin + some.begin; i < rows.begin + some.end; ++i) {
                for (int64_t s = 0; s < keys.count(); ++s) {
                    float* const values = blocks.row(s, i);
                    const auto exclude = [values](int32_t j) { values[j] = HUGE_VALF; };
                    std::fill(values + std::max<int64_t>(0, i - rule.window), values + std::min(n, i + rule.window + 1),
                              HUGE_VALF);
                    groups.members(i, exclude);
                    partners.members(i, exclude);
                }
                row(i, worker);
            }
        });
        done(rows);
    }
}

template <typename T>
std::vector<KsgCounter<T>> counters(const KsgKeys<T>& keys, const KsgOptions& options, int64_t stride) {
    std::vector<KsgCounter<T>> made;
    made.reserve(static_cast<size_t>(options.threads));
    for (int t = 0; t < options.threads; ++t) made.emplace_back(keys, options, stride);
    return made;
}

double term_of(const KsgTerms& terms, bool second, int k, int64_t neighbors, const KsgCounts& counts) {
    const int64_t more = second ? 0 : 1;
    const double start = terms.offsets[k] + terms.digamma[neighbors];
    return start - terms.digamma[counts.n_x + more] - terms.digamma[counts.n_y + more];
}

}  // namespace

template <typename T>
void ksg_counts(Kind kind, const KsgSample* samples, const KsgRule& rule, const KsgOptions& options, int64_t* n_x,
                int64_t* n_y, bool* tied) {
    KsgKeys<T> keys(kind, samples, 2, options.threads);
    KsgBlocks<T> blocks(keys, options.threads);
    auto workers = counters(keys, options, blocks.stride());
    const auto row = [&](int64_t i, int worker) {
        const KsgSide x{blocks.row(0, i), 0, i, nullptr}, y{blocks.row(1, i), 1, i, nullptr};
        workers[static_cast<size_t>(worker)].count(x, y, [&](int k, const KsgCounts& counts) {
            n_x[i * options.count + k] = counts.n_x;
            n_y[i * options.count + k] = counts.n_y;
            tied[i * options.count + k] = counts.tied;
        });
    };
    for_rows(blocks, keys, rule, 1, options.threads, row, [](Range) {});
}

template <typename T>
void ksg_sums(Kind kind, const KsgSample* samples, int64_t count, const KsgPair* pairs, int64_t pair_count,
              const KsgRule& rule, const KsgOptions& options, const KsgTerms& terms, const int64_t* neighbors,
              double* sums) {
    KsgKeys<T> keys(kind, samples, count, options.threads);
    KsgBlocks<T> blocks(keys, options.threads);
    auto workers = counters(keys, options, blocks.stride());
    const int64_t wide = pair_count * options.count;
    const Buffer<double> found(blocks.height() * wide);
    std::fill_n(sums, wide, 0.0);
    const auto row = [&](int64_t i, int worker) {
        double* const to = found.get() + i % blocks.height() * wide;
        for (int64_t p = 0; p < pair_count; ++p) {
            const int64_t a = pairs[p].x, b = pairs[p].y;
            const KsgSide x{blocks.row(a, i), a, i, nullptr}, y{blocks.row(b, i), b, i, nullptr};
            workers[static_cast<size_t>(worker)].count(x, y, [&](int k, const KsgCounts& counts) {
                to[p * options.count + k] = term_of(terms, options.second, k, neighbors[i], counts);
            });
        }
    };
    for_rows(blocks, keys, rule, pair_count, options.threads, row, [&](Range rows) {
        for (int64_t r = 0; r < rows.size(); ++r) {
            for (int64_t p = 0; p < wide; ++p) sums[p] += found[r * wide + p];
        }
    });
}

template <typename T>
int64_t ksg_permutation_sums(Kind kind, const KsgSample* samples, const int32_t* groups, const KsgOptions& options,
                             const KsgTerms& terms, const int32_t* permutations, int64_t permutation_count,
                             double* sums) {
    KsgKeys<T> keys(kind, samples, 2, options.threads);
    const int64_t n = keys.n();
    KsgBlocks<T> blocks(keys, options.threads, n);
    const int64_t stride = blocks.stride();
    const KsgRowsBody body = best_ksg_rows_body();
    const Texts texts(groups, n);
    const int k = options.ks[0];
    // Labels leave other columns out for every permutation, and KSG2 asks for the neighbours themselves.
    const bool scanned = !texts && !options.second && k <= kKsgBins;
    KsgScan scan(scanned ? n : 0, k, stride);
    const Buffer<int32_t> near(stride * options.threads);
    const auto keep = [&](int64_t i, int worker) {
        for (int64_t s = 0; scanned && s < 2; ++s) scan.keep(s, i, blocks.row(s, i), near.get() + worker * stride);
    };
    for_rows(blocks, keys, {groups, nullptr, 0}, 1, options.threads, keep, [](Range) {});
    std::vector<int32_t> places(static_cast<size_t>(permutation_count * n));  // of each row of y
    for (int64_t t = 0; t < permutation_count; ++t) {
        for (int64_t i = 0; i < n; ++i) {
            places[static_cast<size_t>(t * n + permutations[t * n + i])] = static_cast<int32_t>(i);
        }
    }
    auto workers = counters(keys, options, stride);
    const Buffer<float> rows(2 * stride * options.threads);
    constexpr int64_t kRows = 96;
    const Buffer<double> found(kRows * permutation_count);
    std::vector<int64_t> fewest(static_cast<size_t>(options.threads), n - 1);
    std::fill_n(sums, permutation_count, 0.0);
    for (int64_t begin = 0; begin < n; begin += kRows) {
        const int64_t count = std::min(kRows, n - begin);
        const int started = worth_starting(count * n, permutation_count, options.threads);
        parallel_for(count, started, [&](int64_t r, int worker) {
            const auto at = static_cast<size_t>(worker);
            const int64_t i = begin + r;
            float* const of_x = rows.get() + 2 * worker * stride;
            float* const of_y = of_x + stride;
            std::fill(of_y + n, of_y + stride, HUGE_VALF);
            for (int64_t t = 0; t < permutation_count; ++t) {
                const int32_t* const order = permutations + t * n;
                const int64_t partner = order[i];
                const float* values = blocks.row(0, i);
                double& term = found[r * permutation_count + t];
                if (scanned) {
                    const float* const partners = blocks.row(1, partner);
                    const float reach = scan.reach(i, values, partners, order, places.data() + t * n);
                    KsgCounts counts;
                    if (reach < HUGE_VALF && workers[at].certain(values, partners, reach, counts)) {
                        term = term_of(terms, false, 0, n, counts);
                        continue;
                    }
                }
                body.gather(blocks.row(1, partner), order, n, of_y);
                int64_t neighbors = n - 1;
                if (texts) {
                    std::copy_n(values, stride, of_x);
                    values = of_x;
                    neighbors = n;
                    texts.members(i, [&](int32_t j) {
                        of_y[j] = HUGE_VALF;
                        --neighbors;
                    });
                    texts.members(partner, [&](int32_t j) {
                        const int32_t place = places[static_cast<size_t>(t * n + j)];
                        of_x[place] = of_y[place] = HUGE_VALF;
                        if (!texts.same(place, i)) --neighbors;
                    });
                }
                fewest[at] = std::min(fewest[at], neighbors);
                workers[at].count(
                    {values, 0, i, nullptr}, {of_y, 1, partner, order}, [&](int k, const KsgCounts& counts) {
                        found[r * permutation_count + t] = term_of(terms, options.second, k, neighbors + 1, counts);
                    });
            }
        });
        for (int64_t r = 0; r < count; ++r) {
            for (int64_t t = 0; t < permutation_count; ++t) sums[t] += found[r * permutation_count + t];
        }
    }
    return *std::min_element(fewest.begin(), fewest.end());
}

#define MSMA_KSG(T)                                                                                                    \
    template void ksg_counts<T>(Kind, const KsgSample*, const KsgRule&, const KsgOptions&, int64_t*, int64_t*, bool*); \
    template void ksg_sums<T>(Kind, const KsgSample*, int64_t, const KsgPair*, int64_t, const KsgRule&,                \
                              const KsgOptions&, const KsgTerms&, const int64_t*, double*);                            \
    template int64_t ksg_permutation_sums<T>(Kind, const KsgSample*, const int32_t*, const KsgOptions&,                \
                                             const KsgTerms&, const int32_t*, int64_t, double*);
MSMA_KSG(float)
MSMA_KSG(double)
#undef MSMA_KSG

}  // namespace msma
