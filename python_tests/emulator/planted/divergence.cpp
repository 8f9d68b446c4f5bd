// Threads that do not come to the same barrier, lanes that do not come to the same vote.
#include <vector>

#include "cases.hpp"

MSMA_KERNEL barrier_in_branch(int* out) {
    if (thread() < 40) sync_block();
    out[thread()] = 1;
}

MSMA_KERNEL barrier_after_return(int* out) {
    if (thread() == 63) return;
    sync_block();
    out[thread()] = 1;
}

// The last thread ends when all others wait.
MSMA_KERNEL late_return(int* out) {
    if (thread() == 63) {
        while (atomic_add(out, 0) < 63) continue;
        return;
    }
    atomic_add(out, 1);
    sync_block();
}

MSMA_KERNEL two_barriers(int* out) {
    if (thread() < 32) {
        sync_block();
    } else {
        sync_block();
    }
    out[thread()] = 1;
}

MSMA_KERNEL vote_in_branch(int* out) {
    if (lane() != 5) out[thread()] = static_cast<int>(ballot(true));
}

MSMA_KERNEL vote_or_shuffle(int* out) { out[thread()] = lane() == 5 ? shuffle(1, 0) : static_cast<int>(ballot(true)); }

MSMA_KERNEL vote_or_barrier(int* out) {
    if (thread() == 5) {
        sync_block();
    } else {
        ballot(true);
    }
    out[thread()] = 1;
}

// A warp may go its own way, and end early, where it meets no barrier.
MSMA_KERNEL twin(int* out) {
    sync_block();
    const int sum = warp() == 1 ? count_bits(ballot(lane() % 2 == 0)) : shuffle_xor(16, 1);
    out[thread()] = sum;
    if (warp() == 0) return;
    out[thread()] = shuffle(sum, 3);
}

template <void (*kKernel)(int*)>
bool ran() {
    std::vector<int> out(64);
    launch("diverge", kKernel, Grid{1, 1, 64, 0}, Stream{}, out.data());
    return out == std::vector<int>(64, 16);
}

int main(int count, char** arguments) {
    return run_case(count, arguments,
                    {{"barrier_in_branch", ran<barrier_in_branch>},
                     {"barrier_after_return", ran<barrier_after_return>},
                     {"late_return", ran<late_return>},
                     {"two_barriers", ran<two_barriers>},
                     {"vote_in_branch", ran<vote_in_branch>},
                     {"vote_or_shuffle", ran<vote_or_shuffle>},
                     {"vote_or_barrier", ran<vote_or_barrier>},
                     {"twin", ran<twin>}});
}
