// Adds ksg_counts, ksg_sums and ksg_permutation_sums to the module.
#pragma once

#include <pybind11/pybind11.h>

namespace msma {

void bind_ksg_rows(pybind11::module_& m);

}  // namespace msma
