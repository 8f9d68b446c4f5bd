// A model of the AMX tile unit, palette 1, under the names of its intrinsics: for tests on processors without one.
//
//     8 tiles of at most 16 rows x 64 bytes, one set a thread; a configuration gives each its rows and bytes a row
//     _tile_dpbssd(sums, left, right)   sums (m, n) int32 += left (m, 4 k) int8 . right (k, 4 n) int8, sums modulo
//     2^32:
//                                       sums[i][j] += sum over g < k, part < 4 of left[i][4 g + part] right[g][4 j +
//                                       part]
//
// What the processor refuses (a configuration that is not one, a tile that is not configured, a product of shapes that
// do not fit, one tile in two roles) ends the process with a message. Rows and bytes outside a tile's shape become zero
// when it is written. Interrupted instructions (start_row) are not modelled.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>  // its own _tile_ names first, so that they do not come after those below
#endif

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace msma {
namespace emulated {

class TileUnit {
  public:
    bool in_use() const { return palette_ != 0; }

    void load_configuration(const void* from) {
        uint8_t bytes[64];
        std::memcpy(bytes, from, sizeof bytes);
        release();
        if (bytes[0] == 0) return;
        check(bytes[0] == 1, "the configuration's palette is not 1");
        check(bytes[1] == 0, "the configuration's start_row is not 0");
        for (int reserved = 2; reserved < 16; ++reserved) check(bytes[reserved] == 0, "a reserved byte is not zero");
        for (int tile = 0; tile < 16; ++tile) {
            uint16_t row_bytes;
            std::memcpy(&row_bytes, bytes + 16 + 2 * tile, sizeof row_bytes);
            const int rows = bytes[48 + tile];
            check(tile < kTiles || (rows == 0 && row_bytes == 0), "more than eight tiles are configured");
            check(rows <= kRows && row_bytes <= kRowBytes, "a tile is larger than 16 rows of 64 bytes");
            check((rows == 0) == (row_bytes == 0), "a tile has rows without bytes or bytes without rows");
            if (tile < kTiles) {
                tiles_[tile].rows = rows;
                tiles_[tile].row_bytes = row_bytes;
            }
        }
        palette_ = 1;
    }

    void release() {
        palette_ = 0;
        for (Tile& tile : tiles_) tile = Tile{};
    }

    void zero(int number) { clear(configured(number)); }

    void load(int number, const void* base, int64_t stride) {
        Tile& tile = configured(number);
        clear(tile);
        for (int r = 0; r < tile.rows; ++r) {
            std::memcpy(tile.data[r], static_cast<const uint8_t*>(base) + r * stride,
                        static_cast<size_t>(tile.row_bytes));
        }
    }

    void store(int number, void* base, int64_t stride) {
        const Tile& tile = configured(number);
        for (int r = 0; r < tile.rows; ++r) {
            std::memcpy(static_cast<uint8_t*>(base) + r * stride, tile.data[r], static_cast<size_t>(tile.row_bytes));
        }
    }

    void multiply_signed(int to, int by, int with) {
        Tile& sums = configured(to);
        const Tile &left = configured(by), &right = configured(with);
        check(to != by && to != with && by != with, "a product has one tile in two roles");
        check(sums.row_bytes % 4 == 0 && left.row_bytes % 4 == 0 && right.row_bytes % 4 == 0,
              "a product's tile holds no whole words");
        check(sums.rows == left.rows, "the rows of a product and of its left tile differ");
        check(sums.row_bytes == right.row_bytes, "the columns of a product and of its right tile differ");
        check(left.row_bytes / 4 == right.rows, "the words of a left row and the right tile's rows differ");
        const int columns = sums.row_bytes / 4;
        for (int i = 0; i < sums.rows; ++i) {
            uint32_t row[kRowBytes / 4];
            std::memcpy(row, sums.data[i], sizeof row);
            for (int g = 0; g < right.rows; ++g) {
                for (int j = 0; j < columns; ++j) {
                    for (int part = 0; part < 4; ++part) {
                        const int product =
                            signed_byte(left.data[i][4 * g + part]) * signed_byte(right.data[g][4 * j + part]);
                        row[j] += static_cast<uint32_t>(product);
                    }
                }
            }
            std::memcpy(sums.data[i], row, sizeof row);
        }
    }

  private:
    static constexpr int kTiles = 8, kRows = 16, kRowBytes = 64;
    struct Tile {
        int rows = 0, row_bytes = 0;
        uint8_t data[kRows][kRowBytes] = {};
    };

    static int signed_byte(uint8_t value) { return static_cast<int8_t>(value); }
    static void clear(Tile& tile) { std::memset(tile.data, 0, sizeof tile.data); }

    static void check(bool fine, const char* fault) {
        if (fine) return;
        std::fprintf(stderr, "tile unit: %s\n", fault);
        std::abort();
    }

    Tile& configured(int number) {
        check(palette_ == 1, "an instruction comes before a configuration");
        check(number >= 0 && number < kTiles && tiles_[number].rows > 0, "a tile is used that is not configured");
        return tiles_[number];
    }

    int palette_ = 0;
    Tile tiles_[kTiles];
};

// The unit of the calling thread.
inline TileUnit& tiles() {
    static thread_local TileUnit unit;
    return unit;
}

}  // namespace emulated
}  // namespace msma

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbssd
#define _tile_loadconfig(from) ::msma::emulated::tiles().load_configuration(from)
#define _tile_release() ::msma::emulated::tiles().release()
#define _tile_zero(tile) ::msma::emulated::tiles().zero(tile)
#define _tile_loadd(tile, base, stride) ::msma::emulated::tiles().load(tile, base, stride)
#define _tile_stored(tile, base, stride) ::msma::emulated::tiles().store(tile, base, stride)
#define _tile_dpbssd(sums, left, right) ::msma::emulated::tiles().multiply_signed(sums, left, right)
