// Arrays from numpy as raw pointers: never converted, never copied, and refused with what was expected and
// what came.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <string>

namespace msma {

namespace py = pybind11;

constexpr int kAligned = py::detail::npy_api::NPY_ARRAY_ALIGNED_;

inline std::string describe(const py::array& a) {
    std::string text = "dtype " + py::str(a.dtype()).cast<std::string>() + ", shape (";
    for (py::ssize_t k = 0; k < a.ndim(); ++k) text += (k ? ", " : "") + std::to_string(a.shape(k));
    text += a.ndim() == 1 ? ",)" : ")";
    if (!(a.flags() & py::array::c_style)) text += ", not contiguous";
    if (!(a.flags() & kAligned)) text += ", not aligned";
    return text;
}

[[noreturn]] inline void refuse(const std::string& name, const std::string& expected, const py::array& got) {
    throw py::value_error(name + ": expected " + expected + ", got " + describe(got));
}

// Row-major, aligned, in the machine's byte order, of exactly this type and number of axes.
template <typename T>
bool is_plain(const py::array& a, py::ssize_t axes) {
    constexpr int wanted = py::array::c_style | kAligned;
    return py::isinstance<py::array_t<T>>(a) && a.ndim() == axes && (a.flags() & wanted) == wanted;
}

template <typename T>
const T* vector_of(const std::string& name, const py::array& a, int64_t size, const std::string& type) {
    if (!is_plain<T>(a, 1) || a.shape(0) != size) {
        refuse(name, "a contiguous " + type + " array of shape (" + std::to_string(size) + ",)", a);
    }
    return static_cast<const T*>(a.data());
}

}  // namespace msma
