// What the two faces of KSG share, and what they add to the module.
#pragma once

#include <string>

#include "arguments.hpp"

namespace msma {

void bind_ksg_low(py::module_& m);
void bind_ksg_rows(py::module_& m);

inline Kind ksg_kind(const std::string& name) {
    const Kind kind = kind_of(name);
    if (kind == Kind::sqeuclidean || kind == Kind::chebyshev) return kind;
    throw py::value_error("kind: expected sqeuclidean or chebyshev, got '" + name + "'");
}

}  // namespace msma
