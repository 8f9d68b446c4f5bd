// The k least of what a warp offers, in (key, id) order: a sorted list in shared memory, and beside it room for what is
// below the k-th of them, which is sorted in when it is full. Lanes find their places by a ballot.
#pragma once

#include "keys.cuh"

namespace msma::device {

constexpr int64_t kNobody = INT64_MAX;  // the id of a place that nobody has

MSMA_DEVICE bool before(double key, int64_t id, double other_key, int64_t other_id) {
    return key < other_key || (key == other_key && id < other_id);
}

MSMA_DEVICE void empty_place(double* keys, int64_t* ids, int t) {
    keys[t] = double_of(kEndless);
    ids[t] = kNobody;
}

// One comparison of a bitonic sort (Batcher 1968): runs of `size` alternate between ascending and descending.
MSMA_DEVICE void exchange(double* keys, int64_t* ids, int low, int stride, int size) {
    const int high = low + stride;
    const double low_key = keys[low], high_key = keys[high];
    const int64_t low_id = ids[low], high_id = ids[high];
    const bool ascending = (low & size) == 0;
    const bool wrong =
        ascending ? before(high_key, high_id, low_key, low_id) : before(low_key, low_id, high_key, high_id);
    if (wrong) {
        keys[low] = high_key;
        ids[low] = high_id;
        keys[high] = low_key;
        ids[high] = low_id;
    }
}

// Sorts 2 kept places and empties the upper half (warp).
MSMA_CALLED void sort_queue(double* keys, int64_t* ids, int kept) {
    sync_warp();
    for (int size = 2; size <= 2 * kept; size *= 2) {
        for (int stride = size / 2; stride > 0; stride /= 2) {
            // Not unrolled: most often there is one comparison a lane.
            MSMA_ROLLED
            for (int t = lane(); t < kept; t += kWarp) exchange(keys, ids, 2 * t - (t & (stride - 1)), stride, size);
            sync_warp();
        }
    }
    for (int t = kept + lane(); t < 2 * kept; t += kWarp) empty_place(keys, ids, t);
    sync_warp();
}

class Queue {
  public:
    // Entries of a queue for k neighbours: a power of two, half of it for what is kept.
    static constexpr int room(int64_t k) {
        int kept = kWarp;
        while (kept < k) kept *= 2;
        return 2 * kept;
    }
    static constexpr int64_t bytes(int room) { return room * static_cast<int64_t>(sizeof(double) + sizeof(int64_t)); }

    Queue() = default;
    // keys and ids (room,) in shared memory, this warp's own (warp).
    MSMA_DEVICE Queue(double* keys, int64_t* ids, int room, int k)
        : keys_(keys), ids_(ids), kept_(room / 2), k_(k), filled_(0), top_key_(double_of(kEndless)), top_id_(kNobody) {
        for (int t = lane(); t < room; t += kWarp) empty_place(keys, ids, t);
        sync_warp();
    }

    // A lane with `some` offers a key; NaN is never taken (warp).
    MSMA_DEVICE void offer(bool some, double key, int64_t id) {
        const bool taken = some && before(key, id, top_key_, top_id_);
        const unsigned who = ballot(taken);
        if (who == 0) return;
        const int count = count_bits(who);
        if (filled_ + count > 2 * kept_) settle();
        if (taken) {
            const int at = filled_ + count_bits(who & ((1u << lane()) - 1u));
            keys_[at] = key;
            ids_[at] = id;
        }
        filled_ += count;
    }

    // Sorts what is there; then key(t) and id(t) of t < k are final (warp).
    MSMA_DEVICE void settle() {
        sort_queue(keys_, ids_, kept_);
        top_key_ = keys_[k_ - 1];
        top_id_ = ids_[k_ - 1];
        filled_ = kept_;
    }

    MSMA_DEVICE double key(int t) const { return keys_[t]; }
    MSMA_DEVICE int64_t id(int t) const { return ids_[t]; }

    // The first k to global memory, -1 for nobody (warp, settled).
    MSMA_DEVICE void write(double* keys, int64_t* ids) const {
        for (int t = lane(); t < k_; t += kWarp) {
            keys[t] = keys_[t];
            ids[t] = ids_[t] == kNobody ? -1 : ids_[t];
        }
    }

  private:
    double* keys_;
    int64_t* ids_;
    int kept_, k_;
    int filled_;  // places that are taken: at first there is nobody to keep
    double top_key_;
    int64_t top_id_;
};

// The places of a block's queues in shared memory.
class Queues {
  public:
    MSMA_DEVICE Queues(Shared& shared, int count, int room)
        : keys_(shared.take<double>(count * room)), ids_(shared.take<int64_t>(count * room)), room_(room) {}

    // The number-th of them, of a warp's own, empty (warp).
    MSMA_DEVICE Queue queue(int number, int k) const {
        return Queue(keys_ + number * room_, ids_ + number * room_, room_, k);
    }

  private:
    double* keys_;
    int64_t* ids_;
    int room_;
};

}  // namespace msma::device
