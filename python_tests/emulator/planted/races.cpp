// Barriers left out: of a block before a read and before the next write, of a warp, before a copy into rows that are
// still read, and two blocks that write the same number.
#include <vector>

#include "cases.hpp"

template <bool kBeforeRead, bool kBeforeWrite>
MSMA_KERNEL rotate(int stride, int* out) {
    Shared shared;
    int* values = shared.take<int>(threads());
    int total = 0;
    for (int round = 0; round < 3; ++round) {
        values[thread()] = thread() + round;
        if (kBeforeRead) sync_block();
        total += values[(thread() + 32) % threads()];
        if (kBeforeWrite) sync_block();
    }
    out[block_x() * stride + thread()] = total;
}

enum class Between { barrier, vote, nothing };

template <Between kBetween>
MSMA_KERNEL rotate_warp(int* out) {
    Shared shared;
    int* values = shared.take<int>(threads());
    values[thread()] = lane();
    if (kBetween == Between::barrier) sync_warp();
    if (kBetween == Between::vote) ballot(true);
    out[thread()] = values[warp() * kWarp + (lane() + 1) % kWarp];
}

template <bool kBarrier>
MSMA_KERNEL reuse(const int* in, int* out) {
    Shared shared;
    int* values = shared.take<int>(4 * threads());
    copy_16(values + 4 * thread(), in + 4 * thread());
    commit_copies();
    wait_copies<0>();
    sync_block();
    out[thread()] = values[4 * ((thread() + 1) % threads())];
    if (kBarrier) sync_block();
    copy_16(values + 4 * thread(), in + 4 * thread());
    commit_copies();
    sync_block();  // too late: the copy may have begun
    wait_copies<0>();
}

// The barriers of a block order nothing of another.
template <bool kAtomic>
MSMA_KERNEL count(int* out) {
    sync_block();
    sync_block();
    if (thread() == 0 && kAtomic) atomic_add(out, 1);
    if (thread() == 0 && !kAtomic) *out += 1;
    sync_block();
    sync_block();
}

// With a stride of 0 all blocks write the same outputs.
template <bool kBeforeRead, bool kBeforeWrite, int kBlocks, int kStride>
bool rotated() {
    std::vector<int> out(8 * 64);
    launch("rotate", rotate<kBeforeRead, kBeforeWrite>, Grid{kBlocks, 1, 64, 64 * 4}, Stream{}, kStride, out.data());
    return out[0] == 3 * 32 + 3;
}

template <Between kBetween>
bool rotated_warp() {
    std::vector<int> out(64);
    launch("rotate_warp", rotate_warp<kBetween>, Grid{1, 1, 64, 64 * 4}, Stream{}, out.data());
    return out[0] == 1;
}

template <bool kBarrier>
bool reused() {
    alignas(16) static int in[4 * 64];
    std::vector<int> out(64);
    launch("reuse", reuse<kBarrier>, Grid{1, 1, 64, 64 * 16}, Stream{}, in, out.data());
    return out[0] == 0;
}

template <bool kAtomic>
bool counted() {
    int out = 0;
    launch("count", count<kAtomic>, Grid{8, 1, 32, 0}, Stream{}, &out);
    launch("count", count<kAtomic>, Grid{8, 1, 32, 0}, Stream{}, &out);
    return out == 16;
}

int main(int count, char** arguments) {
    return run_case(count, arguments,
                    {{"no_barrier_before_read", rotated<false, true, 1, 64>},
                     {"no_barrier_before_write", rotated<true, false, 1, 64>},
                     {"barrier_twin", rotated<true, true, 1, 64>},
                     {"shared_blocks_twin", rotated<true, true, 8, 64>},
                     {"two_blocks_write", rotated<true, true, 8, 0>},
                     {"no_warp_barrier", rotated_warp<Between::nothing>},
                     {"vote_for_barrier", rotated_warp<Between::vote>},
                     {"warp_twin", rotated_warp<Between::barrier>},
                     {"copy_over_read_rows", reused<false>},
                     {"copy_twin", reused<true>},
                     {"blocks_without_atomic", counted<false>},
                     {"blocks_twin", counted<true>}});
}
