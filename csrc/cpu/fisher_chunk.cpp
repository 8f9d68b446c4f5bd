#include "fisher_chunk.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "parallel.hpp"
#include "weights.hpp"

namespace msma {
namespace {

constexpr int64_t kBlockFloats = 72 * 1024;  // of W: 288 KiB
constexpr int64_t kLeastTokens = 24, kMostTokens = 120;
// Rows of h beside a block of W in the second-level cache; more would save nothing.
constexpr int64_t kMostRows = 192;
// Fewer rows than this spend their time on reading W, so small problems may take more memory.
constexpr int64_t kLeastRows = 64;

constexpr int64_t kSampled = 64;  // rows of W that say how far rows usually are from the centre
constexpr double kFar = 16.0;     // squares of that many times the usual cost float32 two bits of a length

int64_t round_up(int64_t value, int64_t step) { return ceil_div(value, step) * step; }

template <typename Element>
void widen_row(const TokenHead& head, int64_t token, const float* centre, float* to) {
    const Element* const row = static_cast<const Element*>(head.weight) + token * head.stride;
    for (int64_t k = 0; k < head.dimension; ++k) to[k] = widen(row[k]) - centre[k];
}

}  // namespace

void token_row(const TokenHead& head, int64_t token, const float* centre, float* to) {
    switch (head.type) {
        case WeightType::float32:
            return widen_row<float>(head, token, centre, to);
        case WeightType::bfloat16:
            return widen_row<Bfloat16>(head, token, centre, to);
        case WeightType::float16:
            return widen_row<Float16>(head, token, centre, to);
    }
}

std::vector<float> centre_of(const TokenHead& head) {
    const auto d = static_cast<size_t>(head.dimension);
    const int64_t count = std::min<int64_t>(head.tokens, 256);
    std::vector<float> row(d);
    const std::vector<float> zero(d);
    std::vector<double> sums(d);
    for (int64_t s = 0; s < count; ++s) {
        token_row(head, s * head.tokens / count, zero.data(), row.data());
        for (size_t k = 0; k < d; ++k) sums[k] += static_cast<double>(row[k]);
    }
    for (size_t k = 0; k < d; ++k) {
        row[k] = static_cast<float>(sums[k] / static_cast<double>(count));
        if (!std::isfinite(row[k])) row[k] = 0.0f;
    }
    return row;
}

TokenBlocks::TokenBlocks(int64_t tokens, int64_t dimension, int64_t tile)
    : tokens(tokens),
      size(std::min(round_up(tokens, tile),
                    std::clamp(kBlockFloats / dimension, kLeastTokens, kMostTokens) / tile * tile)) {}

int64_t chunk_rows(int64_t n, double share, int64_t panels, int64_t lanes) {
    const auto allowed = static_cast<int64_t>(std::max(0.0, share * static_cast<double>(n)));
    const int64_t most = std::clamp(allowed, kLeastRows, kMostRows * panels) / panels;
    const int64_t rows = std::max(most / lanes * lanes, lanes);
    return round_up(ceil_div(n, ceil_div(n, rows)), lanes);
}

TokenHead columns_of(const TokenHead& head, Range columns) {
    TokenHead part = head;
    const int64_t size = head.type == WeightType::float32 ? 4 : 2;
    part.weight = static_cast<const char*>(head.weight) + columns.begin * size;
    part.dimension = columns.size();
    return part;
}

Ahead ahead_of(const TokenHead& head, Range tokens, Range columns) {
    if (tokens.size() <= 0) return {};
    const int64_t size = head.type == WeightType::float32 ? 4 : 2;
    const TokenHead part = columns_of(head, columns);
    return {static_cast<const char*>(part.weight) + tokens.begin * head.stride * size, tokens.size(),
            columns.size() * size, head.stride * size};
}

void pack_hidden(const HiddenRows& h, Range rows, int64_t d, int64_t lanes, float* to) {
    for (int64_t first = rows.begin; first < rows.end; first += lanes, to += d * lanes) {
        const int64_t count = std::min(lanes, rows.end - first);
        if (count < lanes) std::fill_n(to, d * lanes, 0.0f);
        for (int64_t r = 0; r < count; ++r) {
            const float* const row = h.values + (first + r) * h.stride;
            for (int64_t k = 0; k < d; ++k) to[k * lanes + r] = row[k];
        }
    }
}

FisherChunk::FisherChunk(const TokenHead& head, int64_t rows, bool second, bool stored, int threads)
    : head_(head),
      body_(best_fisher_body()),
      stride_(round_up(rows, body_.lanes)),
      stored_(stored),
      threads_(threads),
      blocks_(head.tokens, head.dimension, body_.tile),
      usual_(centre_of(head)),
      centre_(usual_),
      h_(stride_ * head.dimension),
      v_(second ? stride_ * head.dimension : 0),
      w_(threads * blocks_.size * round_up(head.dimension, body_.lanes)),
      e_((stored ? blocks_.count() : threads) * panel()),
      u_(second ? (stored ? blocks_.count() : threads) * panel() : 0),
      peak_(blocks_.count() * stride_),
      sum_(blocks_.count() * stride_),
      block_at_(second ? blocks_.count() * stride_ : 0),
      block_shift_(second ? blocks_.count() * stride_ : 0),
      block_spread_(second ? blocks_.count() * stride_ : 0),
      share_(blocks_.count() * stride_),
      at_(stride_),
      shift_(stride_),
      variance_(static_cast<size_t>(stride_)) {}

void FisherChunk::softmax(const HiddenRows& h, const HiddenRows* v, Range rows) {
    run(&h, v, rows);
    weigh_blocks();
    if (v) merge_moments();
}

void FisherChunk::seconds(const HiddenRows& v, Range rows) {
    run(nullptr, &v, rows);
    merge_moments();
}

void FisherChunk::run(const HiddenRows* h, const HiddenRows* v, Range rows) {
    const int64_t d = head_.dimension, groups = ceil_div(rows.size(), body_.lanes), T = blocks_.size;
    if (h) pack_hidden(*h, rows, d, body_.lanes, h_.get());
    if (v) pack_hidden(*v, rows, d, body_.lanes, v_.get());
    parallel_for(blocks_.count(), threads_, [&](int64_t b, int worker) {
        const Range tokens = blocks_[b];
        const float* const bias = head_.bias ? head_.bias + tokens.begin : nullptr;
        float* const w = w_.get() + worker * T * round_up(d, body_.lanes);
        float* const e = e_.get() + (stored_ ? b : worker) * panel();
        float* const u = v ? u_.get() + (stored_ ? b : worker) * panel() : nullptr;
        const int64_t at = b * stride_;
        // Threads take blocks in turn: this one likely goes on with the block `threads` further.
        const Ahead ahead = ahead_of(head_, blocks_[b + threads_], {0, d});
        body_.pack(head_, tokens.begin, 0, tokens.size(), d, centre_.data(), T, w);
        if (h) {
            body_.logits(w, T, d, h_.get(), groups, e, v ? Ahead{} : ahead);
            body_.exponents(e, bias, T, tokens.size(), groups, peak_.get() + at, sum_.get() + at);
        }
        if (v) {
            body_.logits(w, T, d, v_.get(), groups, u, ahead);
            body_.moments(e, u, sum_.get() + at, T, tokens.size(), groups,
                          {block_at_.get() + at, block_shift_.get() + at, block_spread_.get() + at});
        }
    });
}

// share = exp(peak - top) / sum of all e.
void FisherChunk::weigh_blocks() {
    const int64_t count = blocks_.count();
    for (int64_t r = 0; r < stride_; ++r) {
        float top = peak_[r];
        for (int64_t b = 1; b < count; ++b) top = std::max(top, peak_[b * stride_ + r]);
        double total = 0.0;
        for (int64_t b = 0; b < count; ++b) {
            const int64_t k = b * stride_ + r;
            const double factor = std::exp(static_cast<double>(peak_[k]) - static_cast<double>(top));
            total += factor * static_cast<double>(sum_[k]);
            share_[k] = static_cast<float>(factor);
        }
        for (int64_t b = 0; b < count; ++b) {
            const int64_t k = b * stride_ + r;
            share_[k] = static_cast<float>(static_cast<double>(share_[k]) / total);
        }
    }
}

// The blocks' averages and squared deviations as one (Chan, Golub and LeVeque 1983), away from the top block's `at`.
void FisherChunk::merge_moments() {
    const int64_t count = blocks_.count();
    for (int64_t r = 0; r < stride_; ++r) {
        int64_t best = r;
        for (int64_t k = r; k < count * stride_; k += stride_) {
            if (peak_[k] > peak_[best]) best = k;
        }
        const double at = static_cast<double>(block_at_[best]);
        const auto off = [&](int64_t k) {
            return (static_cast<double>(block_at_[k]) - at) + static_cast<double>(block_shift_[k]);
        };
        const auto weight = [&](int64_t k) { return static_cast<double>(share_[k]) * static_cast<double>(sum_[k]); };
        double mean = 0.0, squares = 0.0;
        for (int64_t k = r; k < count * stride_; k += stride_) mean += weight(k) * off(k);
        for (int64_t k = r; k < count * stride_; k += stride_) {
            const double away = off(k) - mean;
            squares += static_cast<double>(share_[k]) * static_cast<double>(block_spread_[k]) + weight(k) * away * away;
        }
        at_[r] = block_at_[best];
        shift_[r] = static_cast<float>(mean);
        variance_[static_cast<size_t>(r)] = squares;
    }
}

std::vector<Top> FisherChunk::take_tops(int64_t rows) {
    const int64_t L = body_.lanes, T = blocks_.size, count = blocks_.count();
    std::vector<Top> tops(static_cast<size_t>(rows));
    for (int64_t r = 0; r < rows; ++r) {
        int64_t best = 0;
        for (int64_t b = 1; b < count; ++b) {
            if (peak_[b * stride_ + r] > peak_[best * stride_ + r]) best = b;
        }
        float* const lane = e(best) + r / L * T * L + r % L;
        const int64_t tokens = blocks_[best].size();
        int64_t top = 0;
        while (top + 1 < tokens && lane[top * L] != 1.0f) ++top;
        const double p = static_cast<double>(share(best)[r]) * static_cast<double>(lane[top * L]);
        lane[top * L] *= 0.0f;  // NaN stays
        double others = 0.0, rest = 0.0;
        for (int64_t t = 0; t < tokens; ++t) others += static_cast<double>(lane[t * L]);
        for (int64_t b = 0; b < count; ++b) {
            rest +=
                static_cast<double>(share(b)[r]) * (b == best ? others : static_cast<double>(sum_[b * stride_ + r]));
        }
        tops[static_cast<size_t>(r)] = {blocks_[best].begin + top, p, rest};
    }
    return tops;
}

std::vector<int64_t> FisherChunk::far_rows(const std::vector<Top>& tops) const {
    std::vector<float> row(static_cast<size_t>(head_.dimension));
    const auto square = [&](int64_t token) {
        token_row(head_, token, usual_.data(), row.data());
        double sum = 0.0;
        for (const float value : row) sum += static_cast<double>(value) * static_cast<double>(value);
        return sum;
    };
    std::vector<double> sampled;
    const int64_t count = std::min<int64_t>(head_.tokens, kSampled);
    for (int64_t s = 0; s < count; ++s) sampled.push_back(square(s * head_.tokens / count));
    const auto median = sampled.begin() + count / 2;
    std::nth_element(sampled.begin(), median, sampled.end());
    std::vector<int64_t> found;
    for (size_t r = 0; r < tops.size(); ++r) {
        const double length = square(tops[r].token);
        if (length > kFar * *median && std::isfinite(length)) found.push_back(static_cast<int64_t>(r));
    }
    return found;
}

void FisherChunk::centre_on(const std::vector<int64_t>& tokens) {
    const auto d = static_cast<size_t>(head_.dimension);
    std::vector<float> row(d);
    std::vector<double> sums(d);
    for (const int64_t token : tokens) {
        token_row(head_, token, usual_.data(), row.data());
        for (size_t k = 0; k < d; ++k) sums[k] += static_cast<double>(row[k]) / static_cast<double>(tokens.size());
    }
    for (size_t k = 0; k < d; ++k) centre_[k] = usual_[k] + static_cast<float>(sums[k]);
}

void FisherChunk::products(const PanelOf& x_of, bool squares, float* out) const {
    const int64_t L = body_.lanes, T = blocks_.size, groups = ceil_div(head_.dimension, L), row_groups = stride_ / L;
    // Enough parts for all threads, of whole tiles of coordinates and whole groups of rows.
    const int64_t wide = std::max<int64_t>(ceil_div(groups, threads_), std::min<int64_t>(3, groups));
    const int64_t column_parts = ceil_div(groups, wide);
    const int64_t tall = ceil_div(row_groups, std::min(row_groups, ceil_div(threads_, column_parts)));
    const int64_t row_parts = ceil_div(row_groups, tall);
    const Buffer<float> room(threads_ * panel());
    const Buffer<float> second(squares ? threads_ * T * wide * L : 0);
    parallel_for(column_parts * row_parts, threads_, [&](int64_t task, int worker) {
        const Range columns = nth(task % column_parts, wide, groups);
        const Range rows = nth(task / column_parts, tall, row_groups);
        float* const w = w_.get() + worker * T * round_up(head_.dimension, L);
        float* const squared = second.get() + worker * T * wide * L;
        float* const to = out + columns.begin * stride_ * L + rows.begin * L * L;
        for (int64_t c = 0; c < columns.size(); ++c) std::fill_n(to + c * stride_ * L, rows.size() * L * L, 0.0f);
        const int64_t last = std::min(columns.end * L, head_.dimension), first = columns.begin * L;
        for (int64_t b = 0; b < blocks_.count(); ++b) {
            const Range tokens = blocks_[b];
            const float* const x = x_of(b, room.get() + worker * panel()) + rows.begin * T * L;
            body_.pack(head_, tokens.begin, first, tokens.size(), last - first, centre_.data() + first, T, w);
            if (squares) body_.scaled(w, nullptr, T, tokens.size(), columns.size(), squared);
            body_.products(x, T, tokens.size(), rows.size() * L, squares ? squared : w, columns.size(),
                           share(b) + rows.begin * L, to, stride_, ahead_of(head_, blocks_[b + 1], {first, last}));
        }
    });
}

}  // namespace msma
