// Random codes whose products are known from plain sums: a screen body must get them right before it is used on a
// machine where nobody has tried it.
#pragma once

#include <cstdint>
#include <string>

#include "codes.hpp"

namespace msma {

// Empty, or where the products of two panels of rows with `dimension` codes differ from plain sums.
std::string fault_of(const ScreenBody& body, int64_t dimension);

}  // namespace msma
