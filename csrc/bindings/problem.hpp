// Row sets, kernels and rules as Python passes them: checked once, as raw pointers into arrays that stay alive.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>

#include "arguments.hpp"
#include "arrays.hpp"
#include "msma/keys.hpp"
#include "msma/screen.hpp"

namespace msma {

template <typename T>
Rows<T> rows_of(const std::string& name, const py::array& values, const OptionalArray& norms, Kind kind) {
    Rows<T> rows{static_cast<const T*>(values.data()), nullptr, values.shape(0), values.shape(1)};
    if (kind == Kind::cosine) {
        if (!norms) throw py::value_error(name + ".norms: expected a float64 array for cosine, got None");
        rows.norms = vector_of<double>(name + ".norms", *norms, rows.count, "float64");
    }
    return rows;
}

// The two row sets of a call fit together; true for float64.
inline bool check_rows(const py::array& x, const py::array& y) {
    const std::string expected = "a contiguous float32 or float64 array of shape (n, d) with d >= 1";
    const bool wide = is_plain<double>(x, 2);
    if ((!wide && !is_plain<float>(x, 2)) || x.shape(1) < 1) refuse("x", expected, x);
    if (wide ? !is_plain<double>(y, 2) : !is_plain<float>(y, 2)) {
        refuse("y", "a contiguous " + std::string(wide ? "float64" : "float32") + " array of shape (m, d) as x", y);
    }
    if (x.shape(1) != y.shape(1)) refuse("y", "d = " + std::to_string(x.shape(1)) + " as in x", y);
    return wide;
}

// One problem: the kernel, its two row sets and the number of threads.
struct Parts {
    std::string kind;
    int p;
    OptionalArray tensor;
    py::array x;
    OptionalArray x_norms;
    py::array y;
    OptionalArray y_norms;
    int threads;
    bool wide;  // float64 rows

    Parts(std::string kind_name, int power, OptionalArray metric_tensor, py::array left, OptionalArray left_norms,
          py::array right, OptionalArray right_norms, int thread_count)
        : kind(std::move(kind_name)),
          p(power),
          tensor(std::move(metric_tensor)),
          x(std::move(left)),
          x_norms(std::move(left_norms)),
          y(std::move(right)),
          y_norms(std::move(right_norms)),
          threads(thread_count),
          wide(check_rows(x, y)) {
        check_threads(threads);
        static_cast<void>(kernel());
    }

    Kernel kernel() const { return kernel_of(kind, p, tensor, x.shape(1)); }
    template <typename T>
    Rows<T> left() const {
        return rows_of<T>("x", x, x_norms, kind_of(kind));
    }
    template <typename T>
    Rows<T> right() const {
        return rows_of<T>("y", y, y_norms, kind_of(kind));
    }
};

// Which pairs count; see Rules.
struct RuleArrays {
    OptionalArray own, row_ids, row_labels, column_labels;
    int64_t window;

    Rules of(int64_t n, int64_t m) const {
        if (row_labels.has_value() != column_labels.has_value()) {
            throw py::value_error("labels: expected labels of both sides or of none, got one side");
        }
        return {own ? vector_of<int64_t>("own", *own, n, "int64") : nullptr,
                row_ids ? vector_of<int64_t>("row_ids", *row_ids, n, "int64") : nullptr,
                row_labels ? vector_of<int32_t>("row_labels", *row_labels, n, "int32") : nullptr,
                column_labels ? vector_of<int32_t>("column_labels", *column_labels, m, "int32") : nullptr, window};
    }
};

inline void bind_problem(py::module_& m) {
    using namespace pybind11::literals;
    py::class_<Parts>(m, "Problem", "A kernel over rows x (n, d) and y (m, d), float32 or float64.")
        .def(py::init<std::string, int, OptionalArray, py::array, OptionalArray, py::array, OptionalArray, int>(),
             "kind"_a, "p"_a, py::arg("tensor").noconvert().none(true), py::arg("x").noconvert(),
             py::arg("x_norms").noconvert().none(true), py::arg("y").noconvert(),
             py::arg("y_norms").noconvert().none(true), "threads"_a);
    py::class_<RuleArrays>(m, "Rules",
                           "Which pairs count: own and row_ids (n,) int64, labels (n,) and (m,) int32, a window.")
        .def(py::init<OptionalArray, OptionalArray, OptionalArray, OptionalArray, int64_t>(),
             py::arg("own").noconvert().none(true), py::arg("row_ids").noconvert().none(true),
             py::arg("row_labels").noconvert().none(true), py::arg("column_labels").noconvert().none(true), "window"_a);
}

}  // namespace msma
