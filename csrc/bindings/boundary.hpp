// Checks that several bindings share.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <utility>

#include "msma/keys.hpp"

namespace msma {

inline Kind kind_of(const std::string& name) {
    constexpr std::pair<const char*, Kind> kinds[] = {
        {"sqeuclidean", Kind::sqeuclidean}, {"manhattan", Kind::manhattan}, {"chebyshev", Kind::chebyshev},
        {"minkowski", Kind::minkowski},     {"cosine", Kind::cosine},       {"inner_product", Kind::inner_product},
        {"mahalanobis", Kind::mahalanobis},
    };
    std::string known;
    for (const auto& [text, kind] : kinds) {
        if (name == text) return kind;
        known += (known.empty() ? "" : ", ") + std::string(text);
    }
    throw pybind11::value_error("kind: expected one of " + known + ", got '" + name + "'");
}

inline void check_threads(int threads) {
    if (threads < 1) throw pybind11::value_error("threads: expected at least 1, got " + std::to_string(threads));
}

}  // namespace msma
