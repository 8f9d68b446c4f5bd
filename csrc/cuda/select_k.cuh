// The k smallest of each row in (value, id) order: by a queue of a warp, and for any k by radix, a byte at a time.
#pragma once

#include "queue.cuh"

namespace msma::device {

// values (rows, m), ids (rows, m) or null; keys and indices (rows, k); a warp has a row.
MSMA_KERNEL select_k_kernel(const double* values, const int64_t* ids, int64_t rows, int64_t m, int k, int room,
                            double* keys, int64_t* indices) {
    Shared shared;
    const int warps = threads() / kWarp;
    const Queues queues(shared, warps, room);
    const int64_t row = static_cast<int64_t>(block_x()) * warps + warp();
    if (row >= rows) return;  // a whole warp, and no barrier of the block follows
    Queue queue = queues.queue(warp(), k);
    for (int64_t start = 0; start < m; start += kWarp) {
        const int64_t column = start + lane();
        const bool some = column < m;
        const double value = some ? values[row * m + column] : 0.0;
        queue.offer(some, value, some && ids != nullptr ? ids[row * m + column] : column);
    }
    queue.settle();
    queue.write(keys + row * k, indices + row * k);
}

// Bits of a number in the order of the numbers; -0 and 0 are one, and NaN is above everything.
MSMA_DEVICE uint64_t ordered(double value) {
    if (value == 0.0) value = 0.0;
    if (value != value) return ~uint64_t{0};
    const uint64_t bits = bits_of(value);
    return bits >> 63 ? ~bits : bits | uint64_t{1} << 63;
}

constexpr int kDigits = 256;
constexpr int kRadixThreads = 256;  // as many as digits

// How many threads before this one said yes, and how many in all (block). counts (kRadixThreads / kWarp,) shared.
MSMA_DEVICE int place_of(bool yes, int* counts, int& total) {
    const unsigned who = ballot(yes);
    if (lane() == 0) counts[warp()] = count_bits(who);
    sync_block();
    int before_me = count_bits(who & ((1u << lane()) - 1u));
    total = 0;
    for (int w = 0; w < threads() / kWarp; ++w) {
        if (w < warp()) before_me += counts[w];
        total += counts[w];
    }
    sync_block();  // nobody writes counts before all have read them
    return before_me;
}

// keys and indices (rows, k) in the order of the columns, k <= m; inf and -1 where a row has fewer numbers. A block has
// a row.
MSMA_KERNEL select_large_kernel(const double* values, int64_t m, int64_t k, double* keys, int64_t* indices) {
    Shared shared;
    int* counts = shared.take<int>(kDigits);
    int* votes = shared.take<int>(kRadixThreads / kWarp);
    uint64_t* state = shared.take<uint64_t>(2);  // the digits found so far, and how many are wanted of what has them
    const int64_t row = block_x();
    const double* value = values + row * m;
    uint64_t prefix = 0, wanted = static_cast<uint64_t>(k);
    for (int shift = 56; shift >= 0; shift -= 8) {
        counts[thread()] = 0;
        sync_block();
        for (int64_t c = thread(); c < m; c += threads()) {
            const uint64_t key = ordered(value[c]);
            if (shift == 56 || key >> (shift + 8) == prefix) atomic_add(&counts[(key >> shift) & (kDigits - 1)], 1);
        }
        sync_block();
        if (thread() == 0) {
            uint64_t left = wanted;
            int digit = 0;
            while (digit < kDigits - 1 && static_cast<uint64_t>(counts[digit]) < left) left -= counts[digit++];
            state[0] = prefix << 8 | static_cast<uint64_t>(digit);
            state[1] = left;
        }
        sync_block();
        prefix = state[0];
        wanted = state[1];
    }
    // prefix is the k-th smallest key; `wanted` of those that are equal to it are taken, the first columns.
    int64_t taken = 0, equals = 0;
    for (int64_t start = 0; start < m; start += threads()) {
        const int64_t c = start + thread();
        const uint64_t key = c < m ? ordered(value[c]) : ~uint64_t{0};
        const bool number = key != ~uint64_t{0};
        int equal_here = 0, taken_here = 0;
        const int64_t rank = equals + place_of(number && key == prefix, votes, equal_here);
        const bool take = number && (key < prefix || (key == prefix && rank < static_cast<int64_t>(wanted)));
        const int64_t at = taken + place_of(take, votes, taken_here);
        if (take) {
            keys[row * k + at] = value[c];
            indices[row * k + at] = c;
        }
        equals += equal_here;
        taken += taken_here;
    }
    for (int64_t t = taken + thread(); t < k; t += threads()) {
        keys[row * k + t] = double_of(kEndless);
        indices[row * k + t] = -1;
    }
}

}  // namespace msma::device
