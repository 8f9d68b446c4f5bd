// Integer products of codes by the AMX tile unit: 16 rows x 48 columns at a time, in three tiles of sums.
//
//     tiles 0-2   (16, 16) int32: sums of the rows with columns 0-15, 16-31, 32-47
//     tile 3      (16, 64) int8: 64 codes of each row of the strip
//     tiles 4-6   (16, 64) int8: the same codes of 16 columns, row g holding word g of each
//     tdpbssd     sum_rc += sum over g < 16, part < 4 of row_r(4 g + part) column_c(4 g + part)
//
// A panel lies as tiles 4-6 want it, 192 bytes from one row of a tile to the next. A strip has to be turned:
// (groups / 16) whole tiles of 1 KB, one after the other. Codes come in whole tiles too (kGroupMultiple), the last ones
// zero, so that there is one configuration for every dimension and nothing is read behind a panel.
#pragma once

#include "codes.hpp"
#ifdef MSMA_EMULATED_TILES
#include "../tests/emulated_tiles.hpp"
#else
#include <immintrin.h>
#endif

namespace msma {
namespace MSMA_ISA {
namespace {

constexpr int kRows = 16;
constexpr int64_t kGroupMultiple = 16;  // words of a tile's row
constexpr int64_t kWordBytes = 4;

// The operand of ldtilecfg.
struct alignas(64) TileConfiguration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
static_assert(sizeof(TileConfiguration) == 64);

// In static memory: GCC tells its optimizer of the first 8 bytes only, and might not write the others to a local one.
constexpr TileConfiguration kSevenTiles{
    1, 0, {}, {64, 64, 64, 64, 64, 64, 64}, {kRows, kRows, kRows, kRows, kRows, kRows, kRows}};

void configure() { _tile_loadconfig(&kSevenTiles); }
void release() { _tile_release(); }

void arrange(const int32_t* panel, int64_t groups, int32_t* strips) {
    for (int64_t first = 0; first < kPanel; first += kRows) {
        for (int64_t start = 0; start < groups; start += kGroupMultiple) {
            const int32_t* from = panel + start * kPanel + first;
            for (int64_t r = 0; r < kRows; ++r) {
                for (int64_t g = 0; g < kGroupMultiple; ++g) *strips++ = from[g * kPanel + r];
            }
        }
    }
}

// The numbers of the tiles are part of the instructions, so the three columns are written out.
void multiply(const int32_t* strip, const int32_t* panel, int64_t groups, const int32_t*, int32_t* products) {
    __asm__ volatile("" ::: "memory");  // GCC does not know that loads of tiles read memory
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    for (int64_t g = 0; g < groups; g += kGroupMultiple) {
        _tile_loadd(3, strip, kGroupMultiple * kWordBytes);
        _tile_loadd(4, panel, kPanel * kWordBytes);
        _tile_dpbssd(0, 3, 4);
        _tile_loadd(5, panel + 16, kPanel * kWordBytes);
        _tile_dpbssd(1, 3, 5);
        _tile_loadd(6, panel + 32, kPanel * kWordBytes);
        _tile_dpbssd(2, 3, 6);
        strip += kRows * kGroupMultiple;
        panel += kGroupMultiple * kPanel;
    }
    _tile_stored(0, products, kPanel * kWordBytes);
    _tile_stored(1, products + 16, kPanel * kWordBytes);
    _tile_stored(2, products + 32, kPanel * kWordBytes);
}

}  // namespace
}  // namespace MSMA_ISA
}  // namespace msma
