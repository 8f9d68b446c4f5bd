// Launches and requests beyond what the hardware has, and an error after which launches go on.
#include <vector>

#include "cases.hpp"

MSMA_KERNEL take_floats(int count, float* out) {
    Shared shared;
    float* first = shared.take<float>(3);  // 12 bytes of 16
    float* second = shared.take<float>(count);
    if (thread() > 0) return;
    first[0] = second[0] = 1.0f;
    *out = 1.0f;
}

MSMA_KERNEL take_by_thread(float* out) {
    Shared shared;
    *out = shared.take<float>(1 + thread())[0];
}

MSMA_KERNEL far_lane(float* out) { *out = shuffle(1.0f, lane() + 1); }

float out;

bool taken(int count, int64_t given) {
    launch("take", take_floats, Grid{1, 1, 32, given}, Stream{}, count, &out);
    return out == 1.0f;
}

bool by_grid(const Grid& grid) {
    out = 0.0f;
    launch("grid", take_floats, grid, Stream{}, 1, &out);
    return out == 0.0f;
}

bool by_thread() {
    launch("take", take_by_thread, Grid{1, 1, 32, 1024}, Stream{}, &out);
    return true;
}

bool by_lane() {
    launch("far_lane", far_lane, Grid{1, 1, 32, 0}, Stream{}, &out);
    return true;
}

bool goes_on() {
    for (int i = 0; i < 3; ++i) {
        try {
            by_lane();
            return false;
        } catch (const std::exception&) {
        }
        if (!taken(4, 32)) return false;
    }
    return true;
}

int main(int count, char** arguments) {
    return run_case(count, arguments,
                    {{"enough", [] { return taken(4, 32); }},
                     {"too_much_taken", [] { return taken(5, 32); }},
                     {"takes_differ", by_thread},
                     {"far_lane", by_lane},
                     {"goes_on_after_an_error", goes_on},
                     {"empty_grid", [] { return by_grid({0, 1, 32, 1024}) && by_grid({1, 0, 32, 1024}); }},
                     {"wide_grid", [] { return by_grid({int64_t{1} << 31, 1, 32, 1024}); }},
                     {"high_grid", [] { return by_grid({1, 65536, 32, 1024}); }},
                     {"part_of_a_warp", [] { return by_grid({1, 1, 48, 1024}); }},
                     {"many_threads", [] { return by_grid({1, 1, 1056, 1024}); }},
                     {"too_much_given", [] { return by_grid({1, 1, 32, 300000}); }}});
}
