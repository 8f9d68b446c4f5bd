// The Python face of the space partition: checks every array, releases the GIL, and knows nothing of torch.
#include "tree.hpp"

#include <pybind11/stl.h>

#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "arrays.hpp"
#include "msma/tree.hpp"

namespace msma {
namespace {

using OptionalArray = std::optional<py::array>;

constexpr std::pair<const char*, Kind> kTreeKinds[] = {
    {"sqeuclidean", Kind::sqeuclidean},
    {"manhattan", Kind::manhattan},
    {"chebyshev", Kind::chebyshev},
    {"minkowski", Kind::minkowski},
};
constexpr int kLargestPower = 16;

[[noreturn]] void refuse_number(const std::string& name, const std::string& expected, int64_t got) {
    throw py::value_error(name + ": expected " + expected + ", got " + std::to_string(got));
}

Kernel kernel_of(const std::string& name, int p) {
    std::string known;
    for (const auto& [text, kind] : kTreeKinds) {
        if (name == text) {
            if (kind == Kind::minkowski && (p < 1 || p > kLargestPower)) {
                refuse_number("p", "an integer from 1 to " + std::to_string(kLargestPower), p);
            }
            return {kind, p, nullptr};
        }
        known += (known.empty() ? "" : ", ") + std::string(text);
    }
    throw py::value_error("kind: expected one of " + known + ", got '" + name + "'");
}

template <typename T>
Rows<T> rows_of(const std::string& name, const py::array& a, const char* type) {
    const std::string limit = std::to_string(kTreeDimensions);
    if (!is_plain<T>(a, 2) || a.shape(1) < 1 || a.shape(1) > kTreeDimensions) {
        refuse(name, std::string("a contiguous ") + type + " array of shape (n, d) with 1 <= d <= " + limit, a);
    }
    if (a.shape(0) > kTreePoints) refuse(name, "at most " + std::to_string(kTreePoints) + " rows", a);
    return {static_cast<const T*>(a.data()), nullptr, a.shape(0), a.shape(1)};
}

// The arguments that both functions share.
struct Arguments {
    const std::string& kind;
    int p;
    const py::array& x;
    const OptionalArray& y;
    const OptionalArray& groups;
    const OptionalArray& point_groups;
    int64_t window;
    int threads;
};

// Calls run(problem, n) with every array checked.
template <typename T, typename Run>
auto with_problem(const Arguments& given, const char* type, const Run& run) {
    const Rows<T> x = rows_of<T>("x", given.x, type);
    const Rows<T> y = given.y ? rows_of<T>("y", *given.y, type) : x;
    if (y.dimension != x.dimension) refuse("y", "d = " + std::to_string(x.dimension) + " as in x", *given.y);
    if (y.count < 1) refuse(given.y ? "y" : "x", "at least one point", given.y ? *given.y : given.x);
    if (given.threads < 1) refuse_number("threads", "at least 1", given.threads);
    if (given.window < 0) refuse_number("window", "at least 0", given.window);
    if (given.window && given.y) refuse_number("window", "0 where y is given", given.window);
    if (given.groups.has_value() != (given.point_groups.has_value())) {
        throw py::value_error("groups, point_groups: expected both or neither, got one of them");
    }
    TreeProblem<T> problem{
        kernel_of(given.kind, given.p), x, given.y ? &y : nullptr, nullptr, nullptr, given.window, given.threads};
    if (given.groups) {
        problem.groups = vector_of<int32_t>("groups", *given.groups, x.count, "int32");
        problem.point_groups = vector_of<int32_t>("point_groups", *given.point_groups, y.count, "int32");
    }
    return run(problem);
}

template <typename Run>
auto for_type_of(const Arguments& given, const Run& run) {
    if (py::isinstance<py::array_t<double>>(given.x)) return with_problem<double>(given, "float64", run);
    if (py::isinstance<py::array_t<float>>(given.x)) return with_problem<float>(given, "float32", run);
    refuse("x", "a float32 or float64 array", given.x);
}

py::tuple knn(const std::string& kind, int p, const py::array& x, const OptionalArray& y, int64_t k,
              const OptionalArray& groups, const OptionalArray& point_groups, int64_t window, int threads) {
    if (k < 1) refuse_number("k", "at least 1", k);
    return for_type_of({kind, p, x, y, groups, point_groups, window, threads}, [&](const auto& problem) {
        const int64_t n = problem.x.count;
        py::array_t<double> keys({n, k});
        py::array_t<int64_t> indices({n, k}), candidates(n);
        double* keys_out = keys.mutable_data();
        int64_t *indices_out = indices.mutable_data(), *candidates_out = candidates.mutable_data();
        {
            const py::gil_scoped_release unlocked;
            tree_knn(problem, k, keys_out, indices_out, candidates_out);
        }
        return py::make_tuple(keys, indices, candidates);
    });
}

py::array_t<int64_t> count(const std::string& kind, int p, const py::array& x, const OptionalArray& y,
                           const py::array& thresholds, const OptionalArray& groups, const OptionalArray& point_groups,
                           int64_t window, int threads) {
    return for_type_of({kind, p, x, y, groups, point_groups, window, threads}, [&](const auto& problem) {
        const double* limits = vector_of<double>("threshold_keys", thresholds, problem.x.count, "float64");
        py::array_t<int64_t> counts(problem.x.count);
        int64_t* out = counts.mutable_data();
        const py::gil_scoped_release unlocked;
        tree_count(problem, limits, out);
        return counts;
    });
}

}  // namespace

void bind_tree(py::module_& m) {
    using namespace pybind11::literals;

    m.def("tree_knn", &knn, "kind"_a, "p"_a, py::arg("x").noconvert(), py::arg("y").noconvert().none(true), "k"_a,
          py::arg("groups").noconvert().none(true), py::arg("point_groups").noconvert().none(true), "window"_a,
          "threads"_a,
          "Keys (n, k) float64, indices (n, k) and candidates (n,) int64 of the k nearest rows of y (m, d), or of x "
          "(n, d) itself where y is None; d <= 16.");
    m.def("tree_count", &count, "kind"_a, "p"_a, py::arg("x").noconvert(), py::arg("y").noconvert().none(true),
          py::arg("threshold_keys").noconvert(), py::arg("groups").noconvert().none(true),
          py::arg("point_groups").noconvert().none(true), "window"_a, "threads"_a,
          "Counts (n,) int64 of the rows of y, or of the other rows of x where y is None, with key <= threshold.");
}

}  // namespace msma
