// Adds tree_knn and tree_count to the module.
#pragma once

#include <pybind11/pybind11.h>

namespace msma {

void bind_tree(pybind11::module_& m);

}  // namespace msma
