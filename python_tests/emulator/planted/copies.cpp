// A pipeline of two buffers with its waits right, too weak, or left out, and copies from and to wrong places.
#include <vector>

#include "cases.hpp"

constexpr int kSteps = 5;

// out = the sum over steps of the thread's four numbers. kOpen: groups that the wait before the use leaves open; kLast:
// whether the last step, too, waits before the use.
template <int kOpen, bool kLast>
MSMA_KERNEL pipeline(const float* in, float* out) {
    Shared shared;
    float* buffers[2] = {shared.take<float>(4 * threads()), shared.take<float>(4 * threads())};
    const auto ask = [&](int step) {
        if (step < kSteps) copy_16(buffers[step % 2] + 4 * thread(), in + 4 * (step * threads() + thread()));
        commit_copies();
    };
    ask(0);
    float total = 0.0f;
    for (int step = 0; step < kSteps; ++step) {
        ask(step + 1);
        if (kLast || step < kSteps - 1) wait_copies<kOpen>();
        sync_block();
        const float* values = buffers[step % 2] + 4 * ((thread() + 1) % threads());
        if (kLast || step < kSteps - 1) total += values[0] + values[1] + values[2] + values[3];
        sync_block();
    }
    if (kLast) wait_copies<0>();
    out[thread()] = total;
}

template <int kTo, int kFrom>
MSMA_KERNEL misplaced(const float* in, float* out) {
    Shared shared;
    float* values = shared.take<float>(4 * threads());
    copy_16(values + 4 * thread() + kTo, in + 4 * thread() + kFrom);
    commit_copies();
    wait_copies<0>();
    out[thread()] = values[4 * thread()];
}

MSMA_KERNEL to_global(const float* in, float* out) {
    copy_16(out + 4 * thread(), in + 4 * thread());
    commit_copies();
    wait_copies<0>();
}

alignas(16) float in[kSteps * 4 * 32];
alignas(16) float out[4 * 32];

template <void (*kKernel)(const float*, float*)>
bool right() {
    for (int i = 0; i < kSteps * 4 * 32; ++i) in[i] = static_cast<float>(i);
    launch("copy", kKernel, Grid{1, 1, 32, 2 * 32 * 16}, Stream{}, in, out);
    for (int t = 0; t < 32; ++t) {
        float total = 0.0f;
        for (int step = 0; step < kSteps; ++step) {
            for (int k = 0; k < 4; ++k) total += in[4 * (step * 32 + (t + 1) % 32) + k];
        }
        if (out[t] != total) return false;  // also where it is NaN
    }
    return true;
}

int main(int count, char** arguments) {
    return run_case(count, arguments,
                    {{"twin", right<pipeline<1, true>>},
                     {"early_read", right<pipeline<2, true>>},
                     {"no_wait", right<pipeline<1, false>>},
                     {"misaligned_destination", right<misplaced<1, 0>>},
                     {"misaligned_source", right<misplaced<0, 1>>},
                     {"past_the_end", right<misplaced<4, 0>>},
                     {"to_global", right<to_global>}});
}
