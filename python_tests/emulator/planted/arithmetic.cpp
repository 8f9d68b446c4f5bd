// Operations rounded one by one, whatever the compiler may fuse; bits and votes.
#include "cases.hpp"

MSMA_KERNEL operations(double tenth, double* out) {
    const unsigned votes = ballot(lane() > 2);
    if (thread() > 0) return;
    out[0] = subtract(multiply(tenth, 10.0), 1.0);  // fused: 2^-54
    out[1] = add(-1.0, multiply(tenth, 10.0));
    out[2] = static_cast<double>(fused(1.0f + 0x1p-12f, 1.0f + 0x1p-12f, -1.0f - 0x1p-11f));  // not fused: 0
    out[3] = divide(root(16.0), 8.0);
    out[4] = double_of(bits_of(tenth) + 1) - tenth;
    out[5] = lowest_bit(0) + 10 * lowest_bit(12u) + 100 * count_bits(0xf00fu);
    out[6] = lowest_bit(votes) + 10 * blocks_x() + 100 * blocks_y() + 1000 * warp() + 10000 * kWarp;
}

bool right() {
    double out[7];
    launch("operations", operations, Grid{1, 1, 32, 0}, Stream{}, 0.1, out);
    return out[0] == 0.0 && out[1] == 0.0 && out[2] == 0x1p-24 && out[3] == 0.5 && out[4] == 0x1p-56 &&
           out[5] == 819.0 && out[6] == 320113.0;
}

int main(int count, char** arguments) { return run_case(count, arguments, {{"twin", right}}); }
