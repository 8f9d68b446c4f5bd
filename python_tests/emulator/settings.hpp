// What a test may set: the seed of schedules and roundings, what shared memory holds at first, the error of products.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace msma::emulator {

struct Settings {
    uint64_t seed;
    unsigned char fill = 0xff;   // bytes of untouched shared memory: NaNs
    double product_error = 0.0;  // see products.hpp
};

inline uint64_t seed_of_environment() {
    const char* text = std::getenv("MSMA_EMULATOR_SEED");
    return text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
}

inline Settings settings{seed_of_environment()};

// Every launch starts from the seed anew, so that the same seed gives the same schedule whatever ran before.
inline void set_seed(uint64_t seed) { settings.seed = seed; }
inline void set_fill(unsigned char byte) { settings.fill = byte; }
inline void set_product_error(double scale) { settings.product_error = scale; }

}  // namespace msma::emulator
