// How the rows of a search become sketches (the inequalities are in sketch.hpp), and what radii mean there.
#pragma once

#include <cmath>
#include <vector>

#include "buffer.hpp"
#include "sketch.hpp"

namespace msma {

// The codes of a search, chosen from a sample of its rows.
struct SketchPlan {
    Kind kind;
    int p;            // of minkowski, else 1
    bool floats;      // codes are float32, not bytes
    double step = 0;  // of a code; 0: these rows cannot be sketched
    float limit = 0;  // floats: the largest |code|
    // Of each code, in the order of decreasing width of the coordinates, so that large differences come first:
    std::vector<int64_t> coordinate{};
    std::vector<double> low{}, first{};   // v = clip((x - low) / step - first)
    std::vector<double> bottom{}, top{};  // bytes: 1 at the first and at the last code of a coordinate, else 0
    bool segmented = false;               // a coordinate has several codes

    int64_t codes() const { return static_cast<int64_t>(coordinate.size()); }

    // What float32 may lose of a value and in its comparison, as a part of reach and spread, and what the canonical key
    // may lose, relative.
    double slack = 0, key_loss = 0;

    // Bounds of the distance, in steps, of pairs whose canonical key is `key`. Products of minkowski may underflow.
    double radius_above(double key) const {
        const double whole = kind == Kind::minkowski ? key + 0x1p-1000 : key;
        return root(whole) / step * (1.0 + key_loss);
    }
    double radius_below(double key) const { return key < 0x1p-900 ? 0.0 : root(key) / step * (1.0 - key_loss); }
    double root(double key) const { return p == 1 ? key : std::pow(key, 1.0 / p); }
    double power(double v) const {
        double product = v;
        for (int f = 1; f < p; ++f) product *= v;
        return product;
    }
};

SketchBody best_sketch_body(const SketchPlan& plan);

struct OwnedSketch {
    Sketch view;
    Buffer<unsigned char> codes;
    Buffer<float> floats;
};

// `radius`: a typical distance of neighbours, which chebyshev needs for its step. A plan with step 0 where the
// sample has no width, or one out of all proportion.
template <typename T>
SketchPlan plan_sketches(const Kernel& kernel, const Rows<T>& x, const Rows<T>& y, bool same, double radius);

template <typename T>
OwnedSketch sketch(const SketchPlan& plan, const Rows<T>& rows, int threads);

}  // namespace msma
