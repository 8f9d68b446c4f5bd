// The Python face of the Fisher metric of a token head: checks every array, releases the GIL, and knows nothing of
// torch. bfloat16 has no numpy type: weights of 16 bits come as uint16 with the name of their format.
#include "msma/fisher.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "arguments.hpp"
#include "arrays.hpp"

namespace msma {
namespace {

using Floats = py::array_t<float>;

// (n, d) with contiguous rows.
template <typename T>
bool has_rows(const py::array& a) {
    constexpr auto size = static_cast<py::ssize_t>(sizeof(T));
    return py::isinstance<py::array_t<T>>(a) && a.ndim() == 2 && (a.flags() & kAligned) && a.shape(0) >= 1 &&
           a.shape(1) >= 1 && (a.shape(1) == 1 || a.strides(1) == size) &&
           (a.shape(0) == 1 || (a.strides(0) % size == 0 && a.strides(0) >= 0));
}

int64_t row_step(const py::array& a) { return a.shape(0) == 1 ? a.shape(1) : a.strides(0) / a.itemsize(); }

TokenHead head_of(const py::array& weight, const std::string& format, const OptionalArray& bias) {
    TokenHead head{weight.data(), WeightType::float32, 0, 0, 0, nullptr};
    if (format == "float16") {
        head.type = WeightType::float16;
    } else if (format == "bfloat16") {
        head.type = WeightType::bfloat16;
    } else if (format != "float32") {
        throw py::value_error("format: expected one of float16, bfloat16, float32, got '" + format + "'");
    }
    const bool narrow = head.type != WeightType::float32;
    if (!(narrow ? has_rows<uint16_t>(weight) : has_rows<float>(weight))) {
        const std::string type = narrow ? "uint16" : "float32";
        refuse("weight", "a " + type + " array of shape (V, d) with contiguous rows, V >= 1, d >= 1", weight);
    }
    head.tokens = weight.shape(0);
    head.dimension = weight.shape(1);
    head.stride = row_step(weight);
    if (bias) head.bias = vector_of<float>("bias", *bias, head.tokens, "float32");
    return head;
}

HiddenRows hidden_of(const std::string& name, const py::array& h, const TokenHead& head) {
    if (!has_rows<float>(h) || h.shape(1) != head.dimension) {
        const std::string shape = "(n, " + std::to_string(head.dimension) + ")";
        refuse(name, "a float32 array of shape " + shape + " with contiguous rows and n >= 1", h);
    }
    return {static_cast<const float*>(h.data()), h.shape(0), row_step(h)};
}

Floats vp_of(const py::array& h, const py::array& weight, const std::string& format, const OptionalArray& bias,
             const py::array& v, int threads) {
    check_threads(threads);
    const TokenHead head = head_of(weight, format, bias);
    const HiddenRows rows = hidden_of("h", h, head);
    if (!is_plain<float>(v, 3) || v.shape(0) != rows.count || v.shape(2) != head.dimension) {
        const std::string shape = "(" + std::to_string(rows.count) + ", r, " + std::to_string(head.dimension) + ")";
        refuse("v", "a contiguous float32 array of shape " + shape, v);
    }
    Floats out({rows.count, static_cast<int64_t>(v.shape(1)), head.dimension});
    float* const to = out.mutable_data();
    const auto* const vectors = static_cast<const float*>(v.data());
    const int64_t each = v.shape(1);
    const py::gil_scoped_release unlocked;
    logit_fisher_vp(rows, head, vectors, each, threads, to);
    return out;
}

Floats quadratic_of(const py::array& h, const py::array& weight, const std::string& format, const OptionalArray& bias,
                    const py::array& v, int threads) {
    check_threads(threads);
    const TokenHead head = head_of(weight, format, bias);
    const HiddenRows rows = hidden_of("h", h, head);
    if (!is_plain<float>(v, 2) || v.shape(0) != rows.count || v.shape(1) != head.dimension) {
        const std::string shape = "(" + std::to_string(rows.count) + ", " + std::to_string(head.dimension) + ")";
        refuse("v", "a contiguous float32 array of shape " + shape, v);
    }
    Floats out(rows.count);
    float* const to = out.mutable_data();
    const auto* const vectors = static_cast<const float*>(v.data());
    const py::gil_scoped_release unlocked;
    logit_fisher_quadratic(rows, head, vectors, threads, to);
    return out;
}

Floats mean_of(const py::array& h, const py::array& weight, const std::string& format, const OptionalArray& bias,
               const OptionalArray& shares, int threads) {
    check_threads(threads);
    const TokenHead head = head_of(weight, format, bias);
    const HiddenRows rows = hidden_of("h", h, head);
    const float* const weights = shares ? vector_of<float>("shares", *shares, rows.count, "float32") : nullptr;
    Floats out({head.dimension, head.dimension});
    float* const to = out.mutable_data();
    const py::gil_scoped_release unlocked;
    logit_fisher_mean(rows, head, weights, threads, to);
    return out;
}

Floats trace_of(const py::array& h, const py::array& weight, const std::string& format, const OptionalArray& bias,
                int threads) {
    check_threads(threads);
    const TokenHead head = head_of(weight, format, bias);
    const HiddenRows rows = hidden_of("h", h, head);
    Floats out(rows.count);
    float* const to = out.mutable_data();
    const py::gil_scoped_release unlocked;
    logit_fisher_trace(rows, head, threads, to);
    return out;
}

Floats diag_of(const py::array& h, const py::array& weight, const std::string& format, const OptionalArray& bias,
               int threads) {
    check_threads(threads);
    const TokenHead head = head_of(weight, format, bias);
    const HiddenRows rows = hidden_of("h", h, head);
    Floats out({rows.count, head.dimension});
    float* const to = out.mutable_data();
    const py::gil_scoped_release unlocked;
    logit_fisher_diag(rows, head, threads, to);
    return out;
}

Floats distances_of(const py::array& h, const py::array& weight, const std::string& format, const OptionalArray& bias,
                    const OptionalArray& other, int64_t most_close, int threads) {
    check_threads(threads);
    const TokenHead head = head_of(weight, format, bias);
    const HiddenRows rows = hidden_of("h", h, head);
    std::optional<HiddenRows> columns;
    if (other) columns = hidden_of("other", *other, head);
    Floats out({rows.count, columns ? columns->count : rows.count});
    float* const to = out.mutable_data();
    const py::gil_scoped_release unlocked;
    fisher_rao_distances(rows, head, columns ? &*columns : nullptr, most_close, threads, to);
    return out;
}

}  // namespace

void bind_fisher(py::module_& m) {
    using namespace pybind11::literals;
    const auto array = [](const char* name) { return py::arg(name).noconvert(); };
    const auto optional = [](const char* name) { return py::arg(name).noconvert().none(true); };
    m.def("logit_fisher_vp", &vp_of, array("h"), array("weight"), "format"_a, optional("bias"), array("v"), "threads"_a,
          "G(h_i) v_ir, (n, r, d) float32; h (n, d), weight (V, d), bias (V,) or None, v (n, r, d).");
    m.def("logit_fisher_quadratic", &quadratic_of, array("h"), array("weight"), "format"_a, optional("bias"),
          array("v"), "threads"_a, "v_i^T G(h_i) v_i, (n,) float32; v (n, d).");
    m.def("logit_fisher_mean", &mean_of, array("h"), array("weight"), "format"_a, optional("bias"), optional("shares"),
          "threads"_a, "sum_i s_i G(h_i), (d, d) float32; shares (n,) or None for 1 / n.");
    m.def("logit_fisher_trace", &trace_of, array("h"), array("weight"), "format"_a, optional("bias"), "threads"_a,
          "The traces of G(h_i), (n,) float32.");
    m.def("logit_fisher_diag", &diag_of, array("h"), array("weight"), "format"_a, optional("bias"), "threads"_a,
          "The diagonals of G(h_i), (n, d) float32.");
    m.def(
        "fisher_rao_distances", &distances_of, array("h"), array("weight"), "format"_a, optional("bias"),
        optional("other"), "most_close"_a, "threads"_a,
        "2 arccos(sum_t sqrt(p_t q_t)), (n, m) float32; other (m, d) or None; below zero where more pairs are close.");
}

}  // namespace msma
