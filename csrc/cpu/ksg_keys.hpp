// Keys of samples as float32, block by block, with what is certain about them: see KsgKeys.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "best_body.hpp"
#include "buffer.hpp"
#include "distance_body.hpp"
#include "ksg_rows_body.hpp"
#include "ksg_sample.hpp"
#include "msma/ksg_rows.hpp"
#include "work.hpp"

namespace msma {

// What is left open: every pair whose float32 value is below `low` has a canonical key below the one in question,
// every pair above `high` has one above.
struct KsgBand {
    float low, high;
};

// float32 values in place of canonical keys.
//
// Direct: sums or maxima of float32 differences, u = 2^-24. Let r be the root of the value (the value itself for
// chebyshev) and R that of the canonical key. Then |r - R| <= relative R + reach, where `relative` covers the kernel
// (11.5 u for sums, csrc/cpu/pairwise_distances-inl.hpp; one rounding for maxima) and the rounding of the key itself,
// and `reach` what the rows lost: nothing for float32 rows whose squares are normal numbers. float64 rows are rounded
// after a shift that is the same for all, and twice the largest loss of a row is in `reach`.
// Of the k-th smallest joint value r the canonical one is therefore in [(r - reach) / (1 + relative),
// (r + reach) / (1 - relative)]: that many values, and no fewer, are on either side of it. `band` widens this once more
// by what a single value may be off.
//
// Where nothing was lost of the rows, a chebyshev value is the canonical key rounded once, and its band is the value
// itself: a difference of float32 numbers is a float64 number unless one is beyond 2^28 times the other, and then both
// roundings give the larger one. Moreover, differences within a column whose values are multiples of q and span less
// than 2^24 q are exact: a value above the spans of all other columns is the canonical key. Activations in bfloat16 are
// so, and have many such ties.
//
// Codes: where that cannot serve (coordinates that leave the range of float32 squares, rows that would lose too much),
// the upper half of the bits of the canonical keys themselves, as float32 numbers of the same order; the band is then
// the code itself. All samples of a call are values of the same kind, so that they compare with one another.
template <typename T>
class KsgKeys {
  public:
    KsgKeys(Kind kind, const KsgSample* samples, int64_t count, int threads);

    int64_t n() const { return samples_[0].count(); }
    int64_t count() const { return static_cast<int64_t>(samples_.size()); }
    const KsgRows<T>& sample(int64_t s) const { return samples_[static_cast<size_t>(s)]; }
    Kind kind() const { return kind_; }
    // The dimension of the shortest rows.
    int64_t narrowest() const {
        int64_t d = samples_[0].dimension();
        for (const KsgRows<T>& rows : samples_) d = std::min(d, rows.dimension());
        return d;
    }
    // Whether a value of zero says that the canonical key is zero.
    bool zero_is_zero() const { return direct_ && reach_ == 0.0; }
    KsgBand band(float value) const;
    // Whether every pair with this value has it as its canonical key.
    bool is_key(float value) const { return value > inexact_; }

    // Scratch of one worker.
    struct Scratch {
        Buffer<float> left, values;  // `values` (kSquare, kSquare): what `square` computes
        Buffer<double> keys;
        Buffer<T> rows;  // of codes, (2, kSquare, d)
    };
    Scratch scratch() const;
    // Whether packed rows are those of one sample at a time, because all would be more than kPacked floats.
    bool one_at_a_time() const { return one_at_a_time_; }
    // Packs a sample again where they are: `pack_left` and `square` then take this sample alone.
    void pack(int64_t s, int threads);
    // Makes ready at most kSquare rows for `square`.
    void pack_left(int64_t s, Range rows, Scratch& scratch) const;
    // values[r * kSquare + c] of the rows made ready and at most kSquare columns, which begin at a multiple of kSquare.
    void square(int64_t s, Range rows, Range columns, Scratch& scratch) const;
    const DistanceBody& body() const { return body_; }

  private:
    static constexpr int64_t kPacked = int64_t{1} << 26;  // floats: 256 MiB

    bool prepare_direct(int threads);
    float* packed(int64_t s) const { return packed_[one_at_a_time_ ? 0 : static_cast<size_t>(s)].get(); }

    Kind kind_;
    std::vector<KsgRows<T>> samples_;
    DistanceBody body_;
    KsgRowsBody rows_body_;
    KeyBody<T> key_body_;
    bool direct_ = false;
    double relative_ = 0.0, reach_ = 0.0;
    float inexact_ = std::numeric_limits<float>::infinity();
    bool one_at_a_time_ = false;
    std::vector<std::vector<double>> centres_;  // taken away from the rows of each sample
    std::vector<Buffer<float>> packed_;         // groups of body_.right_width rows; see DistanceBody
};

}  // namespace msma
