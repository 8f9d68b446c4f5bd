// The Python face of the fused reductions: checks every array, releases the GIL, and knows nothing of torch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>

#include "arguments.hpp"
#include "arrays.hpp"
#include "msma/reductions.hpp"

namespace msma {
namespace {

using OptionalArray = std::optional<py::array>;

Rows<double> rows_of(const std::string& name, const py::array& values) {
    if (!is_plain<double>(values, 2) || values.shape(0) < 1 || values.shape(1) < 1) {
        refuse(name, "a contiguous float64 array of shape (n, d) with n >= 1 and d >= 1", values);
    }
    return {static_cast<const double*>(values.data()), nullptr, values.shape(0), values.shape(1)};
}

// y as the other side of x; None makes a self problem.
std::optional<Rows<double>> other_of(const Rows<double>& x, const OptionalArray& y) {
    if (!y) return std::nullopt;
    const Rows<double> rows = rows_of("y", *y);
    if (rows.dimension != x.dimension) refuse("y", "d = " + std::to_string(x.dimension) + " as in x", *y);
    return rows;
}

void check_paired(const Rows<double>& x, const Rows<double>& y, const py::array& got) {
    if (x.count != y.count) refuse("y", std::to_string(x.count) + " rows as in x", got);
}

const double* vector_of_any(const std::string& name, const py::array& a) {
    if (!is_plain<double>(a, 1) || a.shape(0) < 1) {
        refuse(name, "a contiguous float64 array of shape (k,) with k >= 1", a);
    }
    return static_cast<const double*>(a.data());
}

const double* norms_of(const std::string& name, Kind kind, const OptionalArray& norms, int64_t count) {
    if (kind != Kind::cosine) return nullptr;
    if (!norms) throw py::value_error(name + ": expected a float64 array for cosine, got None");
    return vector_of<double>(name, *norms, count, "float64");
}

py::array_t<int64_t> count_keys_of(const std::string& kind, const py::array& x, const OptionalArray& x_norms,
                                   const OptionalArray& y, const OptionalArray& y_norms, const OptionalArray& groups,
                                   int64_t window, const py::array& thresholds, int threads) {
    check_threads(threads);
    const Kernel kernel{kind_of(kind), 0, nullptr};
    if (kernel.kind == Kind::minkowski || kernel.kind == Kind::mahalanobis) {
        throw py::value_error("kind: expected one without parameters, got '" + kind + "'");
    }
    Rows<double> left = rows_of("x", x);
    std::optional<Rows<double>> right = other_of(left, y);
    left.norms = norms_of("x_norms", kernel.kind, x_norms, left.count);
    if (right) right->norms = norms_of("y_norms", kernel.kind, y_norms, right->count);
    if (right && (groups || window != 0)) {
        throw py::value_error("groups, window: expected None and 0 with y, got others");
    }
    if (window < 0) throw py::value_error("window: expected at least 0, got " + std::to_string(window));
    const PairRule rule{groups ? vector_of<int32_t>("groups", *groups, left.count, "int32") : nullptr, window};
    const double* limits = vector_of_any("thresholds", thresholds);
    const int64_t size = thresholds.shape(0);
    py::array_t<int64_t> counts(size + 1);
    int64_t* out = counts.mutable_data();
    const py::gil_scoped_release unlocked;
    count_keys(kernel, left, right ? &*right : nullptr, rule, limits, size, threads, out);
    return counts;
}

Similarity similarity_of(const std::string& name, const std::string& form, double scale, double shift) {
    if (form == "distance") return {Form::distance, scale, shift};
    if (form == "gaussian") return {Form::gaussian, scale, shift};
    if (form == "product") return {Form::product, scale, shift};
    throw py::value_error(name + ": expected one of distance, gaussian, product, got '" + form + "'");
}

py::tuple centered_products_of(const py::array& x, const std::string& form_a, double scale_a, double shift_a,
                               const py::array& y, const std::string& form_b, double scale_b, double shift_b,
                               int threads) {
    check_threads(threads);
    const Rows<double> left = rows_of("x", x), right = rows_of("y", y);
    check_paired(left, right, y);
    const Similarity a = similarity_of("form_a", form_a, scale_a, shift_a);
    const Similarity b = similarity_of("form_b", form_b, scale_b, shift_b);
    py::array_t<double> sums(3), rows_a(left.count), rows_b(left.count);
    double *to_sums = sums.mutable_data(), *to_a = rows_a.mutable_data(), *to_b = rows_b.mutable_data();
    {
        const py::gil_scoped_release unlocked;
        centered_products(left, a, right, b, threads, to_sums, to_a, to_b);
    }
    return py::make_tuple(sums, rows_a, rows_b);
}

py::array_t<double> gaussian_kernel_sums_of(const py::array& x, const OptionalArray& y, const py::array& scales,
                                            int threads) {
    check_threads(threads);
    const Rows<double> left = rows_of("x", x);
    const std::optional<Rows<double>> right = other_of(left, y);
    const double* factors = vector_of_any("scales", scales);
    const int64_t count = scales.shape(0);
    py::array_t<double> sums(count);
    double* out = sums.mutable_data();
    const py::gil_scoped_release unlocked;
    gaussian_kernel_sums(left, right ? &*right : nullptr, factors, count, threads, out);
    return sums;
}

py::array_t<double> like(const Rows<double>& rows) { return py::array_t<double>({rows.count, rows.dimension}); }

py::tuple gaussian_kernel_gradients_of(const py::array& x, const OptionalArray& y, const py::array& scales,
                                       const py::array& weights, int threads) {
    check_threads(threads);
    const Rows<double> left = rows_of("x", x);
    const std::optional<Rows<double>> right = other_of(left, y);
    const double* factors = vector_of_any("scales", scales);
    const int64_t count = scales.shape(0);
    const double* shares = vector_of<double>("weights", weights, count, "float64");
    py::array_t<double> to_x = like(left);
    std::optional<py::array_t<double>> to_y;
    if (right) to_y = like(*right);
    double *out_x = to_x.mutable_data(), *out_y = to_y ? to_y->mutable_data() : nullptr;
    {
        const py::gil_scoped_release unlocked;
        gaussian_kernel_gradients(left, right ? &*right : nullptr, factors, shares, count, threads, out_x, out_y);
    }
    return py::make_tuple(to_x, to_y);
}

py::tuple stress_of(const py::array& x, const py::array& y, bool wants_x, bool wants_y, int threads) {
    check_threads(threads);
    const Rows<double> left = rows_of("x", x), right = rows_of("y", y);
    check_paired(left, right, y);
    std::optional<py::array_t<double>> to_x, to_y;
    if (wants_x) to_x = like(left);
    if (wants_y) to_y = like(right);
    double *out_x = to_x ? to_x->mutable_data() : nullptr, *out_y = to_y ? to_y->mutable_data() : nullptr;
    double value;
    {
        const py::gil_scoped_release unlocked;
        value = stress(left, right, threads, out_x, out_y);
    }
    return py::make_tuple(value, to_x, to_y);
}

}  // namespace

void bind_reductions(py::module_& m) {
    using namespace pybind11::literals;
    const auto array = [](const char* name) { return py::arg(name).noconvert(); };
    const auto optional = [](const char* name) { return py::arg(name).noconvert().none(true); };
    m.def(
        "count_keys", &count_keys_of, "kind"_a, array("x"), optional("x_norms"), optional("y"), optional("y_norms"),
        optional("groups"), "window"_a, array("thresholds"), "threads"_a,
        "Counts (k + 1,) int64 of pairs with thresholds[b - 1] <= key < thresholds[b]; x (n, d), y (m, d) or None for "
        "the pairs i < j of x.");
    m.def("centered_products", &centered_products_of, array("x"), "form_a"_a, "scale_a"_a, "shift_a"_a, array("y"),
          "form_b"_a, "scale_b"_a, "shift_b"_a, "threads"_a,
          "((3,), (n,), (n,)): sums of a b, a a, b b over all pairs, and row sums of a and b.");
    m.def("gaussian_kernel_sums", &gaussian_kernel_sums_of, array("x"), optional("y"), array("scales"), "threads"_a,
          "(k,) sums of exp(-scale |x_i - y_j|^2); y None: over i != j.");
    m.def("gaussian_kernel_gradients", &gaussian_kernel_gradients_of, array("x"), optional("y"), array("scales"),
          array("weights"), "threads"_a, "Gradients (n, d), (m, d) or None of the weighted gaussian_kernel_sums.");
    m.def("stress", &stress_of, array("x"), array("y"), "wants_x"_a, "wants_y"_a, "threads"_a,
          "(value, (n, dx) or None, (n, dy) or None): the raw stress and its gradients.");
}

}  // namespace msma
