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

struct Problem {
    std::vector<uint16_t> a, b;
    std::vector<float> out;
    std::vector<double> sums, sizes;  // exact sums, |a||b| and what was there
};

// The numbers themselves, or their sizes.
template <bool kSwapped>
Problem solved(bool positive) {
    Problem problem;
    const uint16_t mask = positive ? 0x7fff : 0xffff;
    for (int i = 0; i < kRows * kDepth; ++i) problem.a.push_back(number(i) & mask);
    for (int i = 0; i < kColumns * kDepth; ++i) problem.b.push_back(number(1000 + i) & mask);
    problem.out.assign(kRows * kColumns, 0.25f);
    launch("product", product<kSwapped>, Grid{1, 1, 32, 2 * (kRows + kColumns) * kDepth}, Stream{}, problem.a.data(),
           problem.b.data(), problem.out.data());
    for (int i = 0; i < kRows * kColumns; ++i) {
        double sum = 0.25, a2 = 0.0, b2 = 0.0;
        for (int k = 0; k < kDepth; ++k) {
            const double a = value_of(problem.a[i / kColumns * kDepth + k]);
            const double b = value_of(problem.b[i % kColumns * kDepth + k]);
            sum += a * b;
            a2 += a * a;
            b2 += b * b;
        }
        problem.sums.push_back(sum);
        problem.sizes.push_back(0.25 + std::sqrt(a2 * b2));
    }
    return problem;
}

// Whether every number lies within its bound, |error| <= (16 + 16) 2^-22 |a||b|, where errors of kPlanted 2^-22 |a||b|
// are set; prints the numbers.
template <bool kSwapped, int kPlanted>
bool close() {
    msma::emulator::set_product_error(std::ldexp(kPlanted, -22));
    const Problem problem = solved<kSwapped>(false);
    bool all = true;
    for (size_t i = 0; i < problem.out.size(); ++i) {
        const double value = static_cast<double>(problem.out[i]);
        all = all && std::fabs(value - problem.sums[i]) <= std::ldexp(32 * problem.sizes[i], -22);
        std::printf("%a ", value);
    }
    std::printf("\n");
    return all;
}

// Towards zero, no sum of positive numbers lies above the exact one.
bool of_positive() {
    const Problem problem = solved<false>(true);
    bool above = false;
    for (size_t i = 0; i < problem.out.size(); ++i) {
        above = above || static_cast<double>(problem.out[i]) > problem.sums[i];
    }
    std::printf(above ? "some above\n" : "none above\n");
    return true;
}

int main(int count, char** arguments) {
    return run_case(count, arguments,
                    {{"twin", close<false, 0>},
                     {"wrong_layout", close<true, 0>},
                     {"error_within_bound", close<false, 20>},
                     {"error_beyond_bound", close<false, 48>},
                     {"of_positive", of_positive}});
}
