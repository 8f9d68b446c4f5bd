// The left rows of a search as the body of the screen reads them, and its hold on the tile registers of a thread.
//
// A body that wants its strips arranged gets them all once a search, in as many bytes as the rows have codes. Turning
// them for each block pair would take less memory, but where rows are long a block is a few panels, too few products to
// pay for it.
#pragma once

#include <cstdint>

#include "buffer.hpp"
#include "codes.hpp"
#include "parallel.hpp"

namespace msma {

class Strips {
  public:
    // packed: Codes::packed or Codes::low.
    Strips(const ScreenBody& body, const Codes& codes, const int32_t* packed, int threads)
        : first_(packed), panel_words_(codes.groups * kPanel), row_words_(1) {
        if (!body.arrange || !packed) return;
        arranged_ = Buffer<int32_t>(codes.panels() * panel_words_);
        first_ = arranged_.get();
        row_words_ = codes.groups;
        parallel_for(codes.panels(), threads, [&](int64_t panel, int) {
            body.arrange(packed + panel * panel_words_, codes.groups, arranged_.get() + panel * panel_words_);
        });
    }

    // The strip that begins at `row`.
    const int32_t* from(int64_t row) const { return first_ + row / kPanel * panel_words_ + row % kPanel * row_words_; }

  private:
    Buffer<int32_t> arranged_;
    const int32_t* first_;
    int64_t panel_words_, row_words_;
};

// While it lives the calling thread may use the body's `multiply`. Registers are released afterwards: a thread that
// holds tiles costs the system 8 KB at every switch, and the thread may be the caller's.
class TileUnit {
  public:
    explicit TileUnit(const ScreenBody& body) : release_(body.release) {
        if (body.configure) body.configure();
    }
    ~TileUnit() {
        if (release_) release_();
    }
    TileUnit(const TileUnit&) = delete;
    TileUnit& operator=(const TileUnit&) = delete;

  private:
    void (*release_)();
};

}  // namespace msma
