// A sum over shared memory of which the last number was never written, times zero.
#include <vector>

#include "cases.hpp"
#include "two_fills.hpp"

template <bool kAll>
MSMA_KERNEL sum(float* out) {
    Shared shared;
    float* values = shared.take<float>(threads());
    if (kAll || thread() < threads() - 1) values[thread()] = 1.0f;
    sync_block();
    float total = 0.0f;
    for (int t = 0; t < threads(); ++t) total += values[t] * (t < threads() - 1 ? 1.0f : 0.0f);
    out[block_x() * threads() + thread()] = total;
}

template <bool kAll>
bool same() {
    return msma::emulator::same_under_two_fills([] {
        std::vector<float> out(2 * 32);
        launch("sum", sum<kAll>, Grid{2, 1, 32, 32 * 4}, Stream{}, out.data());
        return out;
    });
}

int main(int count, char** arguments) {
    return run_case(count, arguments, {{"unwritten", same<false>}, {"twin", same<true>}});
}
