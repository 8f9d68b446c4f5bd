// The Python face of the canonical keys: checks every array, releases the GIL, and knows nothing of torch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>

#include "ksg.hpp"
#include "msma/cpu.hpp"
#include "problem.hpp"
#include "tree.hpp"

namespace msma {
namespace {

void check_indices(const char* name, const int64_t* indices, int64_t size, int64_t count) {
    const auto outside = [count](int64_t index) { return index < 0 || index >= count; };
    const int64_t* bad = std::find_if(indices, indices + size, outside);
    if (bad == indices + size) return;
    throw py::value_error(std::string(name) + ": expected indices in [0, " + std::to_string(count) + "), got " +
                          std::to_string(*bad) + " at position " + std::to_string(bad - indices));
}

template <typename T>
py::array_t<double> pair_keys_of(const std::string& kind, int p, const OptionalArray& tensor, const py::array& x,
                                 const OptionalArray& x_norms, const py::array& y, const OptionalArray& y_norms,
                                 const py::array& i, const py::array& j, int threads) {
    const Kernel kernel = kernel_of(kind, p, tensor, x.shape(1));
    const Rows<T> left = rows_of<T>("x", x, x_norms, kernel.kind), right = rows_of<T>("y", y, y_norms, kernel.kind);
    if (!is_plain<int64_t>(i, 1)) refuse("i", "a contiguous int64 array of shape (P,)", i);
    const int64_t pairs = i.shape(0);
    const auto* rows = static_cast<const int64_t*>(i.data());
    const int64_t* columns = vector_of<int64_t>("j", j, pairs, "int64");
    py::array_t<double> keys(pairs);
    double* out = keys.mutable_data();
    const py::gil_scoped_release unlocked;
    check_indices("i", rows, pairs, left.count);
    check_indices("j", columns, pairs, right.count);
    pair_keys(kernel, left, right, rows, columns, pairs, threads, out);
    return keys;
}

template <typename T>
py::array_t<double> block_keys_of(const std::string& kind, int p, const OptionalArray& tensor, const py::array& x,
                                  const OptionalArray& x_norms, const py::array& y, const OptionalArray& y_norms,
                                  int threads) {
    const Kernel kernel = kernel_of(kind, p, tensor, x.shape(1));
    const Rows<T> left = rows_of<T>("x", x, x_norms, kernel.kind), right = rows_of<T>("y", y, y_norms, kernel.kind);
    py::array_t<double> keys({left.count, right.count});
    double* out = keys.mutable_data();
    const py::gil_scoped_release unlocked;
    block_keys(kernel, left, right, threads, out);
    return keys;
}

py::dict features() {
    const CpuFeatures f = cpu_features();
    py::dict known;
    known["avx2"] = f.avx2;
    known["fma"] = f.fma;
    known["avx512f"] = f.avx512f;
    known["avx512bw"] = f.avx512bw;
    known["avx512dq"] = f.avx512dq;
    known["avx512vl"] = f.avx512vl;
    known["avx512_vnni"] = f.avx512_vnni;
    known["avx512_bf16"] = f.avx512_bf16;
    known["amx_tile"] = f.amx_tile;
    known["amx_bf16"] = f.amx_bf16;
    known["amx_int8"] = f.amx_int8;
    return known;
}

}  // namespace

void bind_screen(py::module_& m);
void bind_reductions(py::module_& m);
void bind_pairwise_distances(py::module_& m);
void bind_fisher(py::module_& m);

}  // namespace msma

PYBIND11_MODULE(_native, m) {
    namespace py = pybind11;
    using msma::OptionalArray;
    using namespace pybind11::literals;

    m.doc() = "Canonical float64 keys of row pairs on CPUs; see csrc/include/msma/keys.hpp for the formulas.";
    m.def(
        "pair_keys",
        [](const std::string& kind, int p, const OptionalArray& tensor, const py::array& x,
           const OptionalArray& x_norms, const py::array& y, const OptionalArray& y_norms, const py::array& i,
           const py::array& j, int threads) {
            msma::check_threads(threads);
            const bool wide = msma::check_rows(x, y);
            return (wide ? msma::pair_keys_of<double> : msma::pair_keys_of<float>)(kind, p, tensor, x, x_norms, y,
                                                                                   y_norms, i, j, threads);
        },
        "kind"_a, "p"_a, py::arg("tensor").noconvert().none(true), py::arg("x").noconvert(),
        py::arg("x_norms").noconvert().none(true), py::arg("y").noconvert(), py::arg("y_norms").noconvert().none(true),
        py::arg("i").noconvert(), py::arg("j").noconvert(), "threads"_a,
        "Keys (P,) float64 of the pairs (x[i[t]], y[j[t]]); x (n, d) and y (m, d) float32 or float64.");
    m.def(
        "block_keys",
        [](const std::string& kind, int p, const OptionalArray& tensor, const py::array& x,
           const OptionalArray& x_norms, const py::array& y, const OptionalArray& y_norms, int threads) {
            msma::check_threads(threads);
            const bool wide = msma::check_rows(x, y);
            return (wide ? msma::block_keys_of<double> : msma::block_keys_of<float>)(kind, p, tensor, x, x_norms, y,
                                                                                     y_norms, threads);
        },
        "kind"_a, "p"_a, py::arg("tensor").noconvert().none(true), py::arg("x").noconvert(),
        py::arg("x_norms").noconvert().none(true), py::arg("y").noconvert(), py::arg("y_norms").noconvert().none(true),
        "threads"_a, "Keys (n, m) float64 of all pairs; x (n, d) and y (m, d) float32 or float64.");
    msma::bind_problem(m);
    msma::bind_screen(m);
    msma::bind_tree(m);
    msma::bind_ksg_rows(m);
    m.def(
        "instruction_set", [] { return msma::name_of(msma::instruction_set()); },
        "The instruction set in use: scalar, avx2, avx512 or amx.");
    m.def("amx_fault", &msma::amx_fault, "Why AMX tiles that are here and allowed are not used; empty otherwise.");
    m.def("cpu_features", &msma::features, "What this processor and its operating system offer, as a dict of bool.");
    msma::bind_reductions(m);
    msma::bind_pairwise_distances(m);
    msma::bind_ksg_low(m);
    msma::bind_fisher(m);
}
