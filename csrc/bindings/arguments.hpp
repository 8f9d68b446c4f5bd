// The arguments that several bindings share: a metric's kernel and the number of threads.
#pragma once

#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>

#include "arrays.hpp"
#include "msma/keys.hpp"

namespace msma {

using OptionalArray = std::optional<py::array>;

inline constexpr std::pair<const char*, Kind> kKinds[] = {
    {"sqeuclidean", Kind::sqeuclidean}, {"manhattan", Kind::manhattan}, {"chebyshev", Kind::chebyshev},
    {"minkowski", Kind::minkowski},     {"cosine", Kind::cosine},       {"inner_product", Kind::inner_product},
    {"mahalanobis", Kind::mahalanobis},
};

inline Kind kind_of(const std::string& name) {
    std::string known;
    for (const auto& [text, kind] : kKinds) {
        if (name == text) return kind;
        known += (known.empty() ? "" : ", ") + std::string(text);
    }
    throw py::value_error("kind: expected one of " + known + ", got '" + name + "'");
}

inline Kernel kernel_of(const std::string& kind, int p, const OptionalArray& tensor, int64_t d) {
    Kernel kernel{kind_of(kind), p, nullptr};
    if (kernel.kind == Kind::minkowski && (p < 1 || p > kLargestPower)) {
        throw py::value_error("p: expected an integer from 1 to " + std::to_string(kLargestPower) + ", got " +
                              std::to_string(p));
    }
    if (kernel.kind != Kind::mahalanobis) return kernel;
    const std::string shape = "(" + std::to_string(d) + ", " + std::to_string(d) + ")";
    const std::string expected = "a contiguous float64 array of shape " + shape;
    if (!tensor) throw py::value_error("tensor: expected " + expected + " for mahalanobis, got None");
    if (!is_plain<double>(*tensor, 2) || tensor->shape(0) != d || tensor->shape(1) != d) {
        refuse("tensor", expected, *tensor);
    }
    kernel.tensor = static_cast<const double*>(tensor->data());
    return kernel;
}

inline void check_threads(int threads) {
    if (threads < 1) throw py::value_error("threads: expected at least 1, got " + std::to_string(threads));
}

}  // namespace msma
