// 16 x 16 times 16 x 8 through load_tiles and multiply_add, against float64.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cases.hpp"
#include "settings.hpp"

constexpr int kRows = 16, kColumns = 8, kDepth = 16;

// a (16, 16), b transposed (8, 16), bfloat16; out (16, 8). kSwapped: the tiles of a in a wrong order.
template <bool kSwapped>
MSMA_KERNEL product(const uint16_t* a, const uint16_t* b, float* out) {
    Shared shared;
    uint16_t* a_rows = shared.take<uint16_t>(kRows * kDepth);
    uint16_t* b_rows = shared.take<uint16_t>(kColumns * kDepth);
    for (int i = thread(); i < kRows * kDepth; i += threads()) a_rows[i] = a[i];
    for (int i = thread(); i < kColumns * kDepth; i += threads()) b_rows[i] = b[i];
    sync_warp();
    const int row = lane() % 8, tile = lane() / 8;
    const int down = kSwapped ? tile / 2 : tile % 2, along = kSwapped ? tile % 2 : tile / 2;
    uint32_t left[4], tiles[4];
    load_tiles(left, a_rows + (row + 8 * down) * kDepth + 8 * along);
    load_tiles(tiles, b_rows + row * kDepth + 8 * (tile % 2));
    const uint32_t right[2] = {tiles[0], tiles[1]};
    const int g = lane() / 4, t = lane() % 4;
    float sum[4];
    for (int i = 0; i < 4; ++i) sum[i] = out[(g + 8 * (i / 2)) * kColumns + 2 * t + i % 2];
    multiply_add(sum, left, right);
    for (int i = 0; i < 4; ++i) out[(g + 8 * (i / 2)) * kColumns + 2 * t + i % 2] = sum[i];
}

// A bfloat16 of a size from 2^-8 to 2^6, so that sums are seldom exact.
uint16_t number(int i) {
    const float value = std::ldexp(std::sin(1.7f * static_cast<float>(i) + 0.3f), i * i % 13 - 6);
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<uint16_t>(bits >> 16);
}

double value_of(uint16_t number) {
    const uint32_t bits = static_cast<uint32_t>(number) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return static_cast<double>(value);
}

// Whether every number lies within its bound, |error| <= (16 + 16) 2^-22 (|a||b| + |old sum|); prints one number's
// bits.
template <bool kSwapped>
bool close(double planted) {
    msma::emulator::set_product_error(planted);
    std::vector<uint16_t> a, b;
    for (int i = 0; i < kRows * kDepth; ++i) a.push_back(number(i));
    for (int i = 0; i < kColumns * kDepth; ++i) b.push_back(number(1000 + i));
    std::vector<float> out(kRows * kColumns, 0.25f);
    launch("product", product<kSwapped>, Grid{1, 1, 32, 2 * (kRows + kColumns) * kDepth}, Stream{}, a.data(), b.data(),
           out.data());
    bool all = true;
    for (int r = 0; r < kRows; ++r) {
        for (int c = 0; c < kColumns; ++c) {
            double sum = 0.25, size = 0.25;
            for (int k = 0; k < kDepth; ++k) {
                const double term = value_of(a[r * kDepth + k]) * value_of(b[c * kDepth + k]);
                sum += term;
                size += std::fabs(term);
            }
            all = all && std::fabs(static_cast<double>(out[r * kColumns + c]) - sum) <= std::ldexp(32 * size, -22);
        }
    }
    for (const float value : out) std::printf("%a ", static_cast<double>(value));
    std::printf("\n");
    return all;
}

int main(int count, char** arguments) {
    return run_case(count, arguments,
                    {{"twin", [] { return close<false>(0.0); }},
                     {"wrong_layout", [] { return close<true>(0.0); }},
                     {"error_within_bound", [] { return close<false>(1.0); }},
                     {"error_beyond_bound", [] { return close<false>(3.0); }}});
}
