// Blocks of rows of values of all samples, every pair of rows once.
//
// Blocks come in increasing order. A square of kSquare x kSquare values right of its own block is kept until the block
// of its columns comes, and is then written there transposed; it is dropped with that block. At most a quarter of all
// pairs are kept at a time; where that is more than kKept, or rows are so short that a value is computed sooner than
// it is kept, blocks compute all their columns instead.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "buffer.hpp"
#include "ksg_keys.hpp"
#include "parallel.hpp"
#include "work.hpp"

namespace msma {

template <typename T>
class KsgBlocks {
  public:
    // `height` 0: blocks of about kBlock floats, or of kLarge where samples have to be packed again for each.
    KsgBlocks(KsgKeys<T>& keys, int threads, int64_t height = 0)
        : keys_(keys), threads_(threads), stride_(ceil_div(keys.n(), kKsgStep) * kKsgStep) {
        const int64_t n = keys.n(), samples = keys.count(), whole = ceil_div(n, kSquare) * kSquare;
        const int64_t block = keys.one_at_a_time() ? kLarge : kBlock;
        mirrored_ = n * n / 4 * samples <= kKept && keys.narrowest() >= kWorthKeeping;
        height_ = height ? ceil_div(height, kSquare) * kSquare
                         : std::clamp(block / (samples * stride_) / kSquare * kSquare, kSquare, whole);
        if (mirrored_) kept_.resize(static_cast<size_t>(ceil_div(n, kSquare)));
        for (int t = 0; t < threads; ++t) scratch_.push_back(keys.scratch());
        values_ = Buffer<float>(samples * height_ * stride_);
    }

    int64_t height() const { return height_; }
    int64_t stride() const { return stride_; }
    int64_t blocks() const { return ceil_div(keys_.n(), height_); }
    Range rows(int64_t block) const { return nth(block, height_, keys_.n()); }
    // Row i of the block filled last.
    float* row(int64_t s, int64_t i) const { return values_.get() + (s * height_ + i % height_) * stride_; }

    // Blocks are filled in increasing order, each once. Values at n and beyond are inf.
    void fill(int64_t block) {
        const Range all = rows(block);
        const int64_t first = all.begin / kSquare, last = ceil_div(all.end, kSquare),
                      end = ceil_div(keys_.n(), kSquare);
        if (mirrored_) {
            for (int64_t c = last; c < end; ++c) {
                Buffer<float>& kept = kept_[static_cast<size_t>(c)];
                if (!kept) kept = Buffer<float>(first_of(c) * keys_.count() * kSquare * kSquare);
            }
        }
        const int64_t together = keys_.one_at_a_time() ? 1 : keys_.count();
        // Few samples: each row of squares is shared by several tasks.
        const int64_t strips = (last - first) * together;
        const int64_t shares = std::clamp<int64_t>(ceil_div(4 * threads_, strips), 1, end);
        const double cost = static_cast<double>(all.size() * keys_.n()) * static_cast<double>(together);
        const int workers = cost < kThreadCost ? 1 : threads_;
        for (int64_t s = 0; s < keys_.count(); s += together) {
            keys_.pack(s, threads_);
            parallel_for(strips * shares, workers, [&](int64_t task, int worker) {
                const int64_t strip = task / shares;
                const Range columns = nth(task % shares, ceil_div(end, shares), end);
                fill_strip(s + strip % together, first + strip / together, {first, last}, columns,
                           scratch_[static_cast<size_t>(worker)]);
            });
        }
        for (int64_t c = first; mirrored_ && c < last; ++c) kept_[static_cast<size_t>(c)] = Buffer<float>();
    }

  private:
    static constexpr int64_t kKept = int64_t{1} << 26;   // floats: 256 MiB
    static constexpr int64_t kBlock = int64_t{1} << 21;  // floats: 8 MiB, unless kSquare rows are more
    static constexpr int64_t kLarge = int64_t{1} << 25;  // 128 MiB
    // Coordinates: with nothing kept, ksg_mi of 5000 rows of 10 takes a quarter of the time, of 64 three quarters (Zen
    // 5).
    static constexpr int64_t kWorthKeeping = 128;

    // The first square of the block that square c is in.
    int64_t first_of(int64_t c) const { return c * kSquare / height_ * height_ / kSquare; }

    float* kept(int64_t s, int64_t q, int64_t c) {
        return kept_[static_cast<size_t>(c)].get() + (q * keys_.count() + s) * kSquare * kSquare;
    }

    // Columns (in squares) of the rows of square q, which is in `block`.
    void fill_strip(int64_t s, int64_t q, Range block, Range columns, typename KsgKeys<T>::Scratch& scratch) {
        const int64_t n = keys_.n();
        const Range rows = nth(q, kSquare, n);
        const DistanceBody& body = keys_.body();
        float* const to = row(s, rows.begin);
        if (columns.size() <= 0) return;
        if (columns.end * kSquare >= n) {
            for (int64_t r = 0; r < rows.size(); ++r)
                std::fill(to + r * stride_ + n, to + (r + 1) * stride_, HUGE_VALF);
        }
        keys_.pack_left(s, rows, scratch);
        for (int64_t c = columns.begin; c < columns.end; ++c) {
            const Range wide = nth(c, kSquare, n);
            if (mirrored_ && c < q) {  // another strip of this block writes what is in the block
                if (c < block.begin) body.mirror(kept(s, c, q), kSquare, rows.size(), to + c * kSquare, stride_, false);
                continue;
            }
            keys_.square(s, rows, wide, scratch);
            const float* const values = scratch.values.get();
            body.copy(values, rows.size(), wide.size(), to + c * kSquare, stride_, false);
            if (!mirrored_ || c == q) continue;
            if (c < block.end) {
                body.mirror(values, rows.size(), wide.size(), row(s, wide.begin) + q * kSquare, stride_, false);
            } else {
                std::copy_n(values, rows.size() * kSquare, kept(s, q, c));
            }
        }
    }

    KsgKeys<T>& keys_;
    const int threads_;
    const int64_t stride_;
    bool mirrored_;
    int64_t height_;
    Buffer<float> values_;
    std::vector<Buffer<float>> kept_;
    std::vector<typename KsgKeys<T>::Scratch> scratch_;
};

}  // namespace msma
