// What a test may set: the seed of schedules and roundings, what shared memory holds at first, the error of products.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace msma::emulator {

// Which way products are wrong: up, down, towards zero, which takes the near ones away and brings the far ones in, or
// another way for every 16 of them.
enum class ProductSign { random, up, down, shrink };

struct Settings {
    uint64_t seed;
    unsigned char fill = 0xff;   // bytes of untouched shared memory: NaNs
    double product_error = 0.0;  // of a sum of products, relative to |a||b|
    ProductSign product_sign = ProductSign::random;
};

inline uint64_t seed_of_environment() {
    const char* text = std::getenv("MSMA_EMULATOR_SEED");
    return text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
}

inline Settings settings{seed_of_environment()};

// Every launch starts from the seed anew, so that the same seed gives the same schedule whatever ran before.
inline void set_seed(uint64_t seed) { settings.seed = seed; }
inline void set_fill(unsigned char byte) { settings.fill = byte; }
inline void set_product_error(double relative, ProductSign sign = ProductSign::random) {
    settings.product_error = relative;
    settings.product_sign = sign;
}

}  // namespace msma::emulator
