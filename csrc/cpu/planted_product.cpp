#include "planted_product.hpp"

#include <vector>

#include "strips.hpp"

namespace msma {
namespace {

// One panel of rows: their codes (kPanel, dimension), packed for a body.
struct Planted {
    int64_t dimension;
    std::vector<int8_t> code;
    Buffer<int32_t> words;
    std::vector<int32_t> sum;
    Codes codes;

    Planted(const ScreenBody& body, int64_t d, uint64_t state)
        : dimension(d), code(static_cast<size_t>(kPanel * d)), sum(kPanel, 0), codes{} {
        codes.count = kPanel;
        codes.groups = body.groups(d);
        words = Buffer<int32_t>(codes.groups * kPanel);
        codes.packed = words.get();
        codes.sum = sum.data();
        const int bits = 32 / body.codes_per_word;
        for (int64_t w = 0; w < codes.groups * kPanel; ++w) words[w] = 0;
        for (int64_t r = 0; r < kPanel; ++r) {
            for (int64_t j = 0; j < d; ++j) {
                state = state * 6364136223846793005u + 1442695040888963407u;
                const auto drawn = static_cast<int>((state >> 33) % (2 * kLargestCode + 1)) - kLargestCode;
                const bool extreme = state >> 61 == 0;
                const int value = !extreme ? drawn : drawn < 0 ? -kLargestCode : kLargestCode;
                code[static_cast<size_t>(r * d + j)] = static_cast<int8_t>(value);
                sum[static_cast<size_t>(r)] += value;
                const uint32_t field = static_cast<uint32_t>(value) & ((1u << bits) - 1);
                const auto place = static_cast<int>(j % body.codes_per_word) * bits;
                words[j / body.codes_per_word * kPanel + r] |= static_cast<int32_t>(field << place);
            }
        }
    }

    int32_t product(int64_t r, const Planted& other, int64_t c) const {
        const int8_t *a = code.data() + r * dimension, *b = other.code.data() + c * dimension;
        int32_t total = 0;
        for (int64_t j = 0; j < dimension; ++j) total += a[j] * b[j];
        return total;
    }
};

}  // namespace

std::string fault_of(const ScreenBody& body, int64_t dimension) {
    const Planted left(body, dimension, 1), right(body, dimension, 2);
    const Strips strips(body, left.codes, left.codes.packed, 1);
    const TileUnit unit(body);
    for (int64_t row = 0; row < kPanel; row += body.tile_rows) {
        alignas(64) int32_t products[kMostTileRows * kPanel];
        body.multiply(strips.from(row), right.codes.packed, right.codes.groups, left.sum.data() + row, products);
        for (int64_t r = 0; r < body.tile_rows; ++r) {
            for (int64_t c = 0; c < kPanel; ++c) {
                const int32_t expected = left.product(row + r, right, c), found = products[r * kPanel + c];
                if (found == expected) continue;
                return "row " + std::to_string(row + r) + ", column " + std::to_string(c) +
                       " of a planted product: " + std::to_string(found) + " instead of " + std::to_string(expected);
            }
        }
    }
    return "";
}

}  // namespace msma
