// KSG of samples in few dimensions for Python: checks every array and releases the GIL.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "arguments.hpp"
#include "ksg.hpp"
#include "msma/ksg.hpp"

namespace msma {
namespace {

constexpr int64_t kMostRows = (int64_t{1} << 31) - 1;

Rows<double> sample_of(const std::string& name, const py::array& a, int64_t n) {
    if (!is_plain<double>(a, 2) || a.shape(0) != n || a.shape(1) < 1 || a.shape(1) > kLowDimension) {
        refuse(name, "a contiguous float64 array of shape (" + std::to_string(n) + ", d) with 1 <= d <= 3", a);
    }
    return {static_cast<const double*>(a.data()), nullptr, n, a.shape(1)};
}

// The arguments that do not depend on the number of samples, checked.
struct Asked {
    LowKsg ksg;

    Asked(const std::string& kind, const std::vector<int64_t>& ks, bool closed, const OptionalArray& groups,
          int64_t window, const py::array& psi, int64_t n, int threads) {
        check_threads(threads);
        const Kind formula = ksg_kind(kind);
        if (n < 2 || n > kMostRows) throw py::value_error("x: expected 2 to 2^31 - 1 rows, got " + std::to_string(n));
        if (ks.empty() || std::any_of(ks.begin(), ks.end(), [n](int64_t k) { return k < 1 || k >= n; })) {
            throw py::value_error("ks: expected numbers from 1 to " + std::to_string(n - 1));
        }
        if (window < 0) throw py::value_error("window: expected at least 0, got " + std::to_string(window));
        ksg = {formula,
               closed,
               ks.data(),
               static_cast<int64_t>(ks.size()),
               groups ? vector_of<int32_t>("groups", *groups, n, "int32") : nullptr,
               window,
               vector_of<double>("psi", psi, n + 1, "float64"),
               threads};
    }
};

py::object ksg(const std::string& kind, const py::array& x, const py::array& y, const std::vector<int64_t>& ks,
               bool closed, const OptionalArray& groups, int64_t window, const py::array& psi, int threads) {
    const int64_t n = x.ndim() ? x.shape(0) : 0;
    const Rows<double> left = sample_of("x", x, n), right = sample_of("y", y, n);
    const Asked asked(kind, ks, closed, groups, window, psi, n, threads);
    const int64_t count = asked.ksg.count;
    py::array_t<double> local({n, count});
    py::array_t<int64_t> n_x({n, count}), n_y({n, count}), neighbors(n);
    py::array_t<bool> tied({n, count});
    const LowCounts out{local.mutable_data(), n_x.mutable_data(), n_y.mutable_data(), tied.mutable_data(),
                        neighbors.mutable_data()};
    bool served;
    {
        const py::gil_scoped_release unlocked;
        served = ksg_low(left, right, asked.ksg, out);
    }
    if (!served) return py::none();
    return py::make_tuple(local, n_x, n_y, tied, neighbors);
}

py::object ksg_matrix(const std::string& kind, const std::vector<py::array>& left,
                      const std::optional<std::vector<py::array>>& right, const std::vector<int64_t>& ks, bool closed,
                      const OptionalArray& groups, int64_t window, const py::array& psi, int threads) {
    if (left.empty() || left[0].ndim() < 1) throw py::value_error("left: expected at least one (n, d) array");
    if (right && right->size() != left.size()) {
        throw py::value_error("right: expected " + std::to_string(left.size()) + " arrays as left, got " +
                              std::to_string(right->size()));
    }
    const int64_t n = left[0].shape(0), layers = static_cast<int64_t>(left.size());
    std::vector<Rows<double>> lefts, rights;
    for (const py::array& layer : left) lefts.push_back(sample_of("left", layer, n));
    for (const py::array& layer : right.value_or(std::vector<py::array>())) {
        rights.push_back(sample_of("right", layer, n));
    }
    const Asked asked(kind, ks, closed, groups, window, psi, n, threads);
    py::array_t<double> means({layers, layers, asked.ksg.count});
    double* out = means.mutable_data();
    bool served;
    {
        const py::gil_scoped_release unlocked;
        served = ksg_low_matrix(lefts.data(), right ? rights.data() : nullptr, layers, asked.ksg, out);
    }
    if (!served) return py::none();
    return means;
}

}  // namespace

void bind_ksg_low(py::module_& m) {
    using namespace pybind11::literals;

    m.def("ksg_low", &ksg, "kind"_a, py::arg("x").noconvert(), py::arg("y").noconvert(), "ks"_a, "closed"_a,
          py::arg("groups").noconvert().none(true), "window"_a, py::arg("psi").noconvert(), "threads"_a,
          "Local terms (n, K), n_x, n_y (n, K) int64, tied (n, K) bool and N_i (n,) of samples x (n, dx) and y (n, dy) "
          "float64, d <= 3; None where a value is not finite or a key might overflow.");
    m.def("ksg_low_matrix", &ksg_matrix, "kind"_a, py::arg("left").noconvert(), py::arg("right").noconvert().none(true),
          "ks"_a, "closed"_a, py::arg("groups").noconvert().none(true), "window"_a, py::arg("psi").noconvert(),
          "threads"_a,
          "Means (L, L, K) of the local terms of the pairs (left[a], right[b]), a <= b, mirrored; right None: left.");
}

}  // namespace msma
