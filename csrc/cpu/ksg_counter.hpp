// The counts of one row of a pair of samples: float32 values where they are certain, canonical keys where not.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "ksg_keys.hpp"

namespace msma {

// Row `row` of a sample against its rows columns[j] (null: j): `values`, inf where no neighbour.
struct KsgSide {
    const float* values;
    int64_t sample, row;
    const int32_t* columns;
};

struct KsgCounts {
    int64_t n_x, n_y;
    bool tied;
};

// One a worker: it owns scratch of a few rows.
template <typename T>
class KsgCounter {
  public:
    KsgCounter(const KsgKeys<T>& keys, const KsgOptions& options, int64_t stride)
        : keys_(keys),
          options_(options),
          most_(*std::max_element(options.ks, options.ks + options.count)),
          size_(stride),
          body_(best_ksg_rows_body()),
          key_body_(best_body<T>(keys.kind())),
          whole_(static_cast<size_t>(keys.count())),
          whole_row_(static_cast<size_t>(keys.count()), -1),
          values_(stride),
          listed_(stride),
          near_(stride) {}

    // Calls take(k, counts) for every k of the options, by its place. The sides have the same rows in the same order.
    // A row with fewer than k neighbours counts nothing.
    template <typename Take>
    void count(const KsgSide& x, const KsgSide& y, const Take& take) {
        const int64_t found = smallest(x, y);
        for (int t = 0; t < options_.count; ++t) {
            const int k = options_.ks[t];
            const float reach = k <= found ? values_[k - 1] : HUGE_VALF;
            if (reach == HUGE_VALF) {
                take(t, KsgCounts{0, 0, false});
            } else {
                take(t, options_.second ? second(x, y, k, reach) : first(x, y, k, reach));
            }
        }
    }

    // KSG1 with a k-th joint value that is known, of sides whose columns need not be in the same order: whether the
    // values alone tell the counts. `tied` then says only that it may be so.
    bool certain(const float* x, const float* y, float reach, KsgCounts& counts) const {
        const KsgBand band = keys_.band(reach);
        const KsgTally in_x = body_.tally(x, size_, band.low, band.high);
        const KsgTally in_y = body_.tally(y, size_, band.low, band.high);
        // One value alone in the band is that of the k-th neighbour on the side where its key is the joint key.
        const bool alone = in_x.upto - in_x.below + in_y.upto - in_y.below == 1;
        counts = {in_x.below, in_y.below, !alone};
        return alone || keys_.is_key(reach);
    }

  private:
    // values_: the smallest joint values, ascending, as many as the largest k at least.
    int64_t smallest(const KsgSide& x, const KsgSide& y) {
        float* const values = values_.get();
        if (most_ <= kKsgBins) {
            const int64_t found = body_.nearest(x.values, y.values, size_, most_, values);
            std::sort(values, values + found);
            return found;
        }
        for (int64_t j = 0; j < size_; ++j) values[j] = std::max(x.values[j], y.values[j]);
        const int64_t most = std::min<int64_t>(most_, size_);
        std::nth_element(values, values + most - 1, values + size_);
        std::sort(values, values + most);
        return most;
    }

    KsgCounts first(const KsgSide& x, const KsgSide& y, int k, float reach) {
        const bool same = x.values == y.values;
        KsgCounts known;
        const KsgBand band = keys_.band(reach);
        if (!same && certain(x.values, y.values, reach, known)) {
            known.tied = known.tied && body_.list(x.values, y.values, size_, -1.0f, band.high, near_.get()) > k;
            return known;
        }
        const KsgTally in_x = body_.tally(x.values, size_, band.low, band.high);
        if (same && in_x.upto - in_x.below == 1) return {in_x.below, in_x.below, false};
        const KsgTally in_y = same ? in_x : body_.tally(y.values, size_, band.low, band.high);
        const Joint joint = resolve(x, y, k, band);
        const auto below = [&joint](double key) { return key < joint.reach; };
        const int64_t n_x = in_x.below + judged(x, in_x, band, below);
        return {n_x, same ? n_x : in_y.below + judged(y, in_y, band, below), joint.tied};
    }

    KsgCounts second(const KsgSide& x, const KsgSide& y, int k, float reach) {
        const KsgBand band = keys_.band(reach);
        const Joint joint = resolve(x, y, k, band);
        const int64_t n_x = within_reach(x, k);
        return {n_x, x.values == y.values ? n_x : within_reach(y, k), joint.tied};
    }

    struct Joint {
        double reach;  // the k-th smallest canonical joint key; -1 where nobody needed it
        bool tied;
    };

    // near_[0, k): the k nearest by (canonical joint key, j), in no order.
    Joint resolve(const KsgSide& x, const KsgSide& y, int k, KsgBand band) {
        int32_t* const near = near_.get();
        const int64_t found = body_.list(x.values, y.values, size_, -1.0f, band.high, near);
        const auto certain = [&](int32_t j) { return std::max(x.values[j], y.values[j]) < band.low; };
        const int64_t sure = std::stable_partition(near, near + found, certain) - near;
        if (found == k && options_.second) return {-1.0, false};
        // A key that is left out is below every other in question, as its value is below the band.
        int32_t* const open = near + sure;
        const int64_t count = found - sure;
        joint_.assign(static_cast<size_t>(count), {0.0, 0});
        for (int64_t t = 0; t < count; ++t) joint_[static_cast<size_t>(t)].second = open[t];
        for (const KsgSide* side : {&x, &y}) {
            if (side == &y && x.values == y.values) break;
            chosen_.clear();
            places_.clear();
            for (int64_t t = 0; t < count; ++t) {
                if (side->values[open[t]] < band.low) continue;
                chosen_.push_back(open[t]);
                places_.push_back(t);
            }
            const double* const keys = exact(*side, chosen_.data(), static_cast<int64_t>(chosen_.size()), band);
            for (size_t t = 0; t < places_.size(); ++t) {
                double& key = joint_[static_cast<size_t>(places_[t])].first;
                key = std::max(key, keys[t]);
            }
        }
        const auto last = joint_.begin() + (k - sure - 1);
        std::nth_element(joint_.begin(), last, joint_.end());
        const double reach = last->first;
        for (int64_t t = 0; t < k - sure; ++t) open[t] = joint_[static_cast<size_t>(t)].second;
        const auto beyond = std::any_of(last + 1, joint_.end(), [&](const auto& one) { return one.first <= reach; });
        return {reach, beyond};
    }

    // How many keys are not above the largest of the k neighbours in near_.
    int64_t within_reach(const KsgSide& side, int k) {
        const int32_t* const near = near_.get();
        float largest = 0.0f;
        for (int t = 0; t < k; ++t) largest = std::max(largest, side.values[near[t]]);
        const KsgBand band = keys_.band(largest);
        const KsgTally tally = body_.tally(side.values, size_, band.low, band.high);
        if (tally.upto - tally.below == 1) return tally.upto;
        chosen_.clear();
        for (int t = 0; t < k; ++t) {
            if (!(side.values[near[t]] < band.low)) chosen_.push_back(near[t]);
        }
        const auto count = static_cast<int64_t>(chosen_.size());
        const double* const keys = exact(side, chosen_.data(), count, band);
        const double reach = *std::max_element(keys, keys + count);
        return tally.below + judged(side, tally, band, [reach](double key) { return key <= reach; });
    }

    // How many of the keys in the band are inside.
    template <typename Inside>
    int64_t judged(const KsgSide& side, KsgTally tally, KsgBand band, const Inside& inside) {
        if (tally.upto == tally.below) return 0;
        const int64_t count = body_.list(side.values, side.values, size_, band.low, band.high, listed_.get());
        const double* const keys = exact(side, listed_.get(), count, band);
        return std::count_if(keys, keys + count, inside);
    }

    // Canonical keys of the side's row and some of its columns; valid until the next call.
    const double* exact(const KsgSide& side, const int32_t* columns, int64_t count, KsgBand band) {
        keys_of_.assign(static_cast<size_t>(count), 0.0);
        double* const out = keys_of_.data();
        if (band.high == 0.0f && keys_.zero_is_zero()) return out;
        if (keys_.is_key(band.low)) {
            for (int64_t t = 0; t < count; ++t) out[t] = static_cast<double>(side.values[columns[t]]);
            return out;
        }
        const auto at = static_cast<size_t>(side.sample);
        const auto source = [&](int64_t t) {
            return static_cast<int64_t>(side.columns ? side.columns[columns[t]] : columns[t]);
        };
        // A row of which many are asked for once, as repeated rows are, is computed whole and kept.
        if (whole_row_[at] == side.row || count > keys_.n() / 8) {
            if (whole_row_[at] != side.row) compute_whole(side);
            for (int64_t t = 0; t < count; ++t) out[t] = whole_[at][source(t)];
            return out;
        }
        columns_.resize(static_cast<size_t>(count));
        for (int64_t t = 0; t < count; ++t) columns_[static_cast<size_t>(t)] = source(t);
        compute(side, columns_, out);
        return out;
    }

    void compute_whole(const KsgSide& side) {
        const auto at = static_cast<size_t>(side.sample);
        if (!whole_[at]) whole_[at] = Buffer<double>(keys_.n());
        columns_.resize(static_cast<size_t>(keys_.n()));
        for (size_t j = 0; j < columns_.size(); ++j) columns_[j] = static_cast<int64_t>(j);
        compute(side, columns_, whole_[at].get());
        whole_row_[at] = side.row;
    }

    void compute(const KsgSide& side, const std::vector<int64_t>& columns, double* out) {
        const auto count = static_cast<int64_t>(columns.size());
        keys_.sample(side.sample).keys(key_body_, keys_.kind(), side.row, columns.data(), count, room_, out);
        // NaN has no place in an order: it is as far as can be.
        for (int64_t t = 0; t < count; ++t) out[t] = out[t] >= 0.0 ? out[t] : HUGE_VAL;
    }

    const KsgKeys<T>& keys_;
    const KsgOptions& options_;
    const int most_;
    const int64_t size_;
    const KsgRowsBody body_;
    const KeyBody<T> key_body_;
    std::vector<Buffer<double>> whole_;  // canonical keys of a whole row of each sample
    std::vector<int64_t> whole_row_;
    Buffer<float> values_;
    Buffer<int32_t> listed_, near_;
    std::vector<std::pair<double, int32_t>> joint_;
    std::vector<double> keys_of_;
    std::vector<int32_t> chosen_;
    std::vector<int64_t> places_, columns_;
    typename KsgRows<T>::Room room_;
};

}  // namespace msma
