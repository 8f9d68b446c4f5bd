// Rows of a sample that may lie in several parts, in half precision, in an order of its own: see KsgSample.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "body.hpp"
#include "buffer.hpp"
#include "msma/ksg_rows.hpp"
#include "work.hpp"

namespace msma {

inline float float_of_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline float of_bfloat16(uint16_t bits) { return float_of_bits(static_cast<uint32_t>(bits) << 16); }

// The exponent of float16 is 112 below that of float32; the product is exact, subnormal numbers included.
inline float of_float16(uint16_t bits) {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16, size = static_cast<uint32_t>(bits & 0x7fffu)
                                                                              << 13;
    if ((bits & 0x7c00u) == 0x7c00u) return float_of_bits(sign | 0x7f800000u | size);
    return float_of_bits(sign | size) * 0x1p112f;
}

template <typename T>
class KsgRows {
  public:
    explicit KsgRows(const KsgSample& sample) : sample_(sample) {
        int64_t begin = 0;
        for (const KsgPart& part : sample_.parts) {
            begin += part.count;
            ends_.push_back(begin);
        }
        own_ = sample_.stored == (sizeof(T) == sizeof(float) ? Stored::float32 : Stored::float64);
        plain_ = own_ && sample_.parts.size() == 1 && !sample_.index;
    }

    int64_t count() const { return sample_.count; }
    int64_t dimension() const { return sample_.dimension; }

    // to[t]: coordinate span.begin + t of row i.
    void copy(int64_t i, Range span, T* to) const {
        const Place place = place_of(i);
        switch (sample_.stored) {
            case Stored::float16:
                return promote(static_cast<const uint16_t*>(place.values) + place.offset, span, of_float16, to);
            case Stored::bfloat16:
                return promote(static_cast<const uint16_t*>(place.values) + place.offset, span, of_bfloat16, to);
            case Stored::float32:
                return promote(static_cast<const float*>(place.values) + place.offset, span, same<float>, to);
            default:
                return promote(static_cast<const double*>(place.values) + place.offset, span, same<double>, to);
        }
    }

    // Row i where it lies, or promoted into `room` (dimension).
    const T* row(int64_t i, T* room) const {
        if (own_) {
            const Place place = place_of(i);
            return static_cast<const T*>(place.values) + place.offset;
        }
        copy(i, {0, sample_.dimension}, room);
        return room;
    }

    // The rows of a range as one array, in `room` (range.size(), dimension) where they are not one already.
    Rows<T> block(Range range, T* room) const {
        const int64_t d = sample_.dimension;
        if (plain_) return {row(range.begin, nullptr), nullptr, range.size(), d};
        for (int64_t r = 0; r < range.size(); ++r) copy(range.begin + r, {0, d}, room + r * d);
        return {room, nullptr, range.size(), d};
    }

    // What `keys` gathers rows in.
    struct Room {
        std::vector<T> values;
        std::vector<int64_t> left, right;
    };

    // out[t]: the canonical key of `row` and columns[t], t < count.
    void keys(const KeyBody<T>& body, Kind kind, int64_t row_number, const int64_t* columns, int64_t count, Room& room,
              double* out) const {
        constexpr int64_t kGathered = 64;
        const Kernel kernel{kind, 0, nullptr};
        if (plain_) {
            const Rows<T> rows = block({0, sample_.count}, nullptr);
            room.left.assign(static_cast<size_t>(count), row_number);
            body.pairs(kernel, rows, rows, room.left.data(), columns, {0, count}, nullptr, out);
            return;
        }
        const int64_t d = sample_.dimension;
        room.values.resize(static_cast<size_t>((kGathered + 1) * d));
        room.left.assign(static_cast<size_t>(kGathered), kGathered);
        room.right.resize(static_cast<size_t>(kGathered));
        for (int64_t t = 0; t < kGathered; ++t) room.right[static_cast<size_t>(t)] = t;
        const Rows<T> rows{room.values.data(), nullptr, kGathered + 1, d};
        copy(row_number, {0, d}, room.values.data() + kGathered * d);
        for (int64_t begin = 0; begin < count; begin += kGathered) {
            const int64_t size = std::min(kGathered, count - begin);
            for (int64_t t = 0; t < size; ++t) copy(columns[begin + t], {0, d}, room.values.data() + t * d);
            body.pairs(kernel, rows, rows, room.left.data(), room.right.data(), {0, size}, nullptr, out + begin);
        }
    }

  private:
    struct Place {
        const void* values;  // of a part
        int64_t offset;      // in numbers
    };
    Place place_of(int64_t i) const {
        if (sample_.index) i = sample_.index[i];
        const auto at = static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), i) - ends_.begin());
        const KsgPart& part = sample_.parts[at];
        return {part.values, (i - ends_[at] + part.count) * sample_.dimension};
    }

    template <typename U>
    static U same(U value) {
        return value;
    }
    template <typename U, typename Of>
    static void promote(const U* from, Range span, const Of& of, T* to) {
        from += span.begin;
        for (int64_t t = 0; t < span.size(); ++t) to[t] = static_cast<T>(of(from[t]));
    }

    KsgSample sample_;
    std::vector<int64_t> ends_;  // of the parts
    bool own_, plain_;           // stored as T; and in one array
};

}  // namespace msma
