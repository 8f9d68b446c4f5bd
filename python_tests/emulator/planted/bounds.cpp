// Reads and writes past the end of a global array, and of one of two arrays in shared memory.
#include <memory>

#include "cases.hpp"

template <int kBeyond>
MSMA_KERNEL copy_rows(const float* in, float* out) {
    out[thread()] = in[thread() + kBeyond];
}

template <int kReadBeyond, int kWriteBeyond>
MSMA_KERNEL reverse(float* out) {
    Shared shared;
    float* first = shared.take<float>(threads());
    float* second = shared.take<float>(threads());
    second[thread()] = 1.0f;
    first[thread() + kWriteBeyond] = static_cast<float>(thread());
    sync_block();
    out[block_x() * threads() + thread()] = first[threads() - 1 - thread() + kReadBeyond] + second[thread()];
}

template <int kBeyond>
bool global() {
    const std::unique_ptr<float[]> in(new float[32]()), out(new float[32]());
    launch("copy_rows", copy_rows<kBeyond>, Grid{1, 1, 32, 0}, Stream{}, in.get(), out.get());
    return true;
}

template <int kReadBeyond, int kWriteBeyond>
bool shared() {
    const std::unique_ptr<float[]> out(new float[3 * 32]());
    launch("reverse", reverse<kReadBeyond, kWriteBeyond>, Grid{3, 1, 32, 2 * 32 * 4}, Stream{}, out.get());
    return out[0] == 32.0f && out[95] == 1.0f;
}

int main(int count, char** arguments) {
    return run_case(count, arguments,
                    {{"global_read", global<1>},
                     {"global_twin", global<0>},
                     {"shared_read", shared<1, 0>},
                     {"shared_write", shared<0, 1>},
                     {"shared_write_before", shared<0, -1>},
                     {"shared_twin", shared<0, 0>}});
}
