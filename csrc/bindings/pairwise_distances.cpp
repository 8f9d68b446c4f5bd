// The Python face of pairwise_distances: checks every array, releases the GIL, and knows nothing of torch.
#include "msma/pairwise_distances.hpp"

#include <pybind11/pybind11.h>

#include <optional>
#include <string>

#include "arguments.hpp"
#include "arrays.hpp"

namespace msma {
namespace {

// (batch, rows, d) of T with its last axis contiguous and every stride in whole elements.
template <typename T>
bool is_points(const py::array& a) {
    constexpr auto size = static_cast<py::ssize_t>(sizeof(T));
    return py::isinstance<py::array_t<T>>(a) && a.ndim() == 3 && (a.flags() & kAligned) && a.shape(2) >= 1 &&
           (a.shape(2) == 1 || a.strides(2) == size) && a.strides(0) % size == 0 && a.strides(1) % size == 0;
}

template <typename T>
Points<T> points_of(const std::string& name, const py::array& a, const OptionalArray& norms, Kind kind) {
    constexpr auto size = static_cast<py::ssize_t>(sizeof(T));
    Points<T> points{static_cast<const T*>(a.data()),
                     nullptr,
                     a.shape(0),
                     a.shape(1),
                     a.shape(2),
                     a.strides(0) / size,
                     a.strides(1) / size};
    if (kind == Kind::cosine) {
        if (!norms) throw py::value_error(name + ".norms: expected a float64 array for cosine, got None");
        points.norms = vector_of<double>(name + ".norms", *norms, points.batch * points.count, "float64");
    }
    return points;
}

template <typename Out>
Out* result_of(const py::array& out, const py::array& x, const py::array& y) {
    if (!is_plain<Out>(out, 3) || out.shape(0) != x.shape(0) || out.shape(1) != x.shape(1) ||
        out.shape(2) != y.shape(1)) {
        const std::string shape =
            std::to_string(x.shape(0)) + ", " + std::to_string(x.shape(1)) + ", " + std::to_string(y.shape(1));
        refuse(
            "out",
            "a contiguous " + std::string(sizeof(Out) == 4 ? "float32" : "float64") + " array of shape (" + shape + ")",
            out);
    }
    return static_cast<Out*>(const_cast<py::array&>(out).mutable_data());
}

template <typename T, typename Out>
void keys_to(const Kernel& kernel, const py::array& x, const OptionalArray& x_norms, const py::array& y,
             const OptionalArray& y_norms, bool self, Scale scale, int threads, const py::array& out) {
    const Points<T> left = points_of<T>("x", x, x_norms, kernel.kind),
                    right = points_of<T>("y", y, y_norms, kernel.kind);
    Out* const to = result_of<Out>(out, x, y);
    const py::gil_scoped_release unlocked;
    key_distances(kernel, left, right, self, scale, threads, to);
}

void pairwise_distances(const std::string& kind, int p, const OptionalArray& tensor, const py::array& x,
                        const OptionalArray& x_norms, const OptionalArray& others, const OptionalArray& y_norms,
                        bool root, double divisor, int threads, const py::array& out) {
    check_threads(threads);
    const bool self = !others, wide = is_points<double>(x);
    const py::array& y = self ? x : *others;
    const std::string rows = "array of shape (b, n, d) with d >= 1 and contiguous rows";
    if (!wide && !is_points<float>(x)) refuse("x", "a float32 or float64 " + rows, x);
    if (wide ? !is_points<double>(y) : !is_points<float>(y))
        refuse("y", (wide ? "a float64 " : "a float32 ") + rows, y);
    if (x.shape(0) != y.shape(0)) refuse("y", "b = " + std::to_string(x.shape(0)) + " as in x", y);
    if (x.shape(2) != y.shape(2)) refuse("y", "d = " + std::to_string(x.shape(2)) + " as in x", y);
    const Kernel kernel = kernel_of(kind, p, tensor, x.shape(2));
    const OptionalArray& norms = self ? x_norms : y_norms;
    const Scale scale{root, divisor};
    if (kernel.kind == Kind::sqeuclidean && !wide && divisor == 1.0) {
        const Points<float> left = points_of<float>("x", x, {}, kernel.kind);
        const Points<float> right = points_of<float>("y", y, {}, kernel.kind);
        float* const to = result_of<float>(out, x, y);
        const py::gil_scoped_release unlocked;
        euclidean_distances(left, right, self, root, threads, to);
    } else if (!wide) {
        keys_to<float, float>(kernel, x, x_norms, y, norms, self, scale, threads, out);
    } else if (py::isinstance<py::array_t<float>>(out)) {
        keys_to<double, float>(kernel, x, x_norms, y, norms, self, scale, threads, out);
    } else {
        keys_to<double, double>(kernel, x, x_norms, y, norms, self, scale, threads, out);
    }
}

}  // namespace

void bind_pairwise_distances(py::module_& m) {
    using namespace pybind11::literals;
    m.def(
        "pairwise_distances", &pairwise_distances, "kind"_a, "p"_a, py::arg("tensor").noconvert().none(true),
        py::arg("x").noconvert(), py::arg("x_norms").noconvert().none(true), py::arg("y").noconvert().none(true),
        py::arg("y_norms").noconvert().none(true), "root"_a, "divisor"_a, "threads"_a, py::arg("out").noconvert(),
        "Writes the distances of x (b, n, d) and y (b, m, d) into out (b, n, m): keys, or their roots over a divisor.\n"
        "y None: of x with itself, symmetric. float32 sqeuclidean keys and their roots are within 1e-6 relative.");
}

}  // namespace msma
