// Chooses the screen body for this machine and rounds rows with it.
#include "screen.hpp"

#include "msma/cpu.hpp"

namespace msma {

ScreenBody best_screen_body() {
#ifdef MSMA_AMX_BODY
    if (at_least(InstructionSet::amx)) return amx::screen_body();
#endif
#ifdef MSMA_X86_BODIES
    static const bool vnni = cpu_features().avx512_vnni;
    if (at_least(InstructionSet::avx512)) {
        return vnni ? avx512_vnni::screen_body() : avx512::screen_body();
    }
    if (at_least(InstructionSet::avx2)) return avx2::screen_body();
#endif
    return scalar::screen_body();
}

namespace {

// Windows of the widest power of four that fits cover the row evenly; the last ones overlap.
struct Windows {
    int64_t width = 1;
    std::vector<int64_t> first;

    explicit Windows(int64_t d) {
        while (width * 4 <= std::min<int64_t>(d, 4096)) width *= 4;
        const int64_t count = width == 1 ? 0 : ceil_div(d, width);
        for (int64_t w = 0; w < count; ++w) first.push_back(count == 1 ? 0 : w * (d - width) / (count - 1));
    }
};

// A fixed pattern without structure, so that a constant offset in many coordinates is not gathered in one.
std::vector<float> signs(int64_t d) {
    std::vector<float> sign(static_cast<size_t>(d));
    uint64_t state = 0x243F6A8885A308D3u;
    for (float& s : sign) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        s = state >> 63 ? -1.0f : 1.0f;
    }
    return sign;
}

// What float32 loses when a pair is compared, as a part of the lengths: nine roundings of at most 2^-24
// (square_i + square_j) move a squared distance, and |sqrt(u) - sqrt(u + e)| <= sqrt(|e|).
constexpr double kCompared = 0x1p-10;

template <typename T>
const Encoder<T>& encoder_of(const ScreenBody& body);
template <>
const Encoder<float>& encoder_of(const ScreenBody& body) {
    return body.narrow;
}
template <>
const Encoder<double>& encoder_of(const ScreenBody& body) {
    return body.wide;
}

}  // namespace

template <typename T>
CodesPointer encode(const Rows<T>& rows, const PictureOf& of, bool fine, int threads) {
    const ScreenBody body = best_screen_body();
    const int64_t d = rows.dimension;
    auto owned = std::make_shared<OwnedCodes>();
    Codes& codes = owned->view;
    codes.count = rows.count;
    codes.groups = body.groups(d);
    const int64_t padded_rows = codes.panels() * kPanel;
    owned->scale = of.scale;
    const int64_t plane = padded_rows * (codes.groups + 1);
    owned->words = Buffer<int32_t>(fine ? 2 * plane : plane);
    owned->floats = Buffer<float>(padded_rows * 5);
    codes.packed = owned->words.get();
    codes.sum = codes.packed + padded_rows * codes.groups;
    codes.low = fine ? codes.packed + plane : nullptr;
    codes.low_sum = fine ? codes.sum + plane : nullptr;
    codes.shift = 0;
    // |q_i . q_j| <= d kLargestFineCode^2 < d 2^30 stays below 2^31.
    while (fine && d >> codes.shift > 1) codes.shift += 2;
    float* next = owned->floats.get();
    for (float** array : {&codes.step, &codes.square, &codes.spread, &codes.inner, &codes.length}) {
        *array = next;
        next += padded_rows;
    }
    const Windows windows(d);
    const std::vector<float> sign = signs(d);
    std::vector<double> extra(static_cast<size_t>(rows.count), of.absolute);
    if (of.extra) {
        for (int64_t i = 0; i < rows.count; ++i) extra[static_cast<size_t>(i)] += of.extra[i];
    }
    const Picture picture{d,
                          of.shift,
                          sign.data(),
                          windows.first.data(),
                          static_cast<int64_t>(windows.first.size()),
                          windows.width,
                          of.scale,
                          kCompared + of.loss};
    const int64_t room = ceil_div(encode_scratch(d), 16) * 16;
    const Buffer<float> scratch(room * threads);
    const Encoder<T> encoder = encoder_of<T>(body);
    parallel_for(codes.panels(), threads, [&](int64_t panel, int worker) {
        encoder.encode(picture, rows, extra.data(), Range{panel, panel + 1}, scratch.get() + worker * room, codes);
    });
    return owned;
}

template CodesPointer encode(const Rows<float>&, const PictureOf&, bool, int);
template CodesPointer encode(const Rows<double>&, const PictureOf&, bool, int);

}  // namespace msma
