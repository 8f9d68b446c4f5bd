// Tiles for, and products by, a matrix unit. The unit's order and rounding of sums are not known: the products here are
// exact, and are added in float32 in a random order, rounded to nearest or, for half of the seeds, towards zero.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "copies.hpp"
#include "settings.hpp"
#include "shared_memory.hpp"
#include "warp.hpp"

namespace msma::emulator {

constexpr int kDepth = 16;  // products of a sum

inline float float_of(double value, bool truncates) {
    const float nearest = static_cast<float>(value);
    const bool away = std::fabs(static_cast<double>(nearest)) > std::fabs(value);
    return truncates && away && std::isfinite(value) ? std::nextafterf(nearest, 0.0f) : nearest;
}

// The 16-bit numbers of a word, low half first, are bfloat16.
inline void bfloats_of(uint32_t word, double* out) {
    const uint32_t bits[2] = {word << 16, word & 0xffff0000u};
    for (int i = 0; i < 2; ++i) {
        float value;
        std::memcpy(&value, &bits[i], sizeof value);
        out[i] = static_cast<double>(value);
    }
}

// Half of a word that a lane showed.
struct Part {
    int word;
    int half;
};

// The 16 numbers that four lanes hold: lane t has 2 t and 2 t + 1 in one part, 2 t + 8 and 2 t + 9 in another.
inline void gather(int first_lane, int parity, Part near, Part far, double (&out)[kDepth]) {
    const auto part_of = [&](int t, Part part) {
        return static_cast<uint32_t>(seen(first_lane + t, parity, part.word) >> (32 * part.half));
    };
    for (int t = 0; t < 4; ++t) {
        bfloats_of(part_of(t, near), out + 2 * t);
        bfloats_of(part_of(t, far), out + 2 * t + 8);
    }
}

MSMA_UNWATCHED inline bool truncates() { return machine.truncates; }
MSMA_UNWATCHED inline uint64_t random_word() { return machine.random.next(); }

// What the settings add to a sum of products a b, in which `total` is in float32 and exact but for its roundings.
MSMA_UNWATCHED inline double product_error(double total, const double (&a)[kDepth], const double (&b)[kDepth],
                                           bool coin) {
    if (settings.product_error == 0.0) return 0.0;
    double a2 = 0.0, b2 = 0.0;
    for (int k = 0; k < kDepth; ++k) {
        a2 += a[k] * a[k];
        b2 += b[k] * b[k];
    }
    const double error = settings.product_error * std::sqrt(a2 * b2);
    switch (settings.product_sign) {
        case ProductSign::up: return error;
        case ProductSign::down: return -error;
        case ProductSign::shrink: return total > 0.0 ? -error : error;
        default: return coin ? error : -error;
    }
}

// sum + a b, and the error of the settings, which after all 16ths of a row comes to at most that part of |a||b|, by
// Cauchy and Schwarz. The roundings, 18 of 2^-23 at most for 16 products, come on top.
inline float sum_of_products(float sum, const double (&a)[kDepth], const double (&b)[kDepth]) {
    const uint64_t dice = random_word();
    const unsigned start = dice & 15, step = (dice >> 3) | 1;  // an order of 16: start + i step, step odd
    const bool sum_first = (dice >> 40) & 1, rounds_down = truncates();
    float total = sum_first ? sum : 0.0f;
    for (unsigned i = 0; i < kDepth; ++i) {
        const unsigned k = (start + i * step) % kDepth;
        total = float_of(static_cast<double>(total) + a[k] * b[k], rounds_down);
    }
    if (!sum_first) total = float_of(static_cast<double>(total) + static_cast<double>(sum), rounds_down);
    const double error = product_error(total, a, b, (dice >> 41) & 1);
    return error == 0.0 ? total : float_of(static_cast<double>(total) + error, rounds_down);
}

}  // namespace msma::emulator

namespace msma::device {

inline void load_tiles(uint32_t (&out)[4], const void* row, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
    const int self = emulator::own_thread();
    if (!emulator::aligned_16(row)) emulator::fail("load_tiles: thread %d: the row is not aligned to 16 bytes", self);
    if (!emulator::arena.holds(row, 16)) {
        emulator::fail("load_tiles: thread %d: the row does not lie in shared memory that was taken", self);
    }
    const emulator::Word* words = static_cast<const emulator::Word*>(row);
    const emulator::Site site{emulator::Scope::warp, "load_tiles", file, line};
    const int parity = emulator::meet_warp(site, words[0], words[1]);
    const int row_of_tile = self % emulator::kLanes / 4, pair = self % 4;
    for (int q = 0; q < 4; ++q) {
        out[q] = static_cast<uint32_t>(emulator::seen(8 * q + row_of_tile, parity, pair / 2) >> (32 * (pair % 2)));
    }
}

inline void multiply_add(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                         const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    const auto joined = [](uint32_t low, uint32_t high) { return low | static_cast<uint64_t>(high) << 32; };
    const emulator::Site site{emulator::Scope::warp, "multiply_add", file, line};
    const int parity = emulator::meet_warp(site, joined(a[0], a[1]), joined(a[2], a[3]), joined(b[0], b[1]));
    const int g = emulator::own_thread() % emulator::kLanes / 4, t = emulator::own_thread() % 4;
    double rows[2][emulator::kDepth], columns[2][emulator::kDepth];
    for (int half = 0; half < 2; ++half) {
        emulator::gather(4 * g, parity, {0, half}, {1, half}, rows[half]);
        emulator::gather(4 * (2 * t + half), parity, {2, 0}, {2, 1}, columns[half]);
    }
    for (int i = 0; i < 4; ++i) sum[i] = emulator::sum_of_products(sum[i], rows[i / 2], columns[i % 2]);
}

}  // namespace msma::device
