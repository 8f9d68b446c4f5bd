// The Python face of the certified screen: opaque rounded rows, and the searches over them.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "../cpu/best_body.hpp"
#include "msma/direct.hpp"
#include "msma/scan.hpp"
#include "msma/screen.hpp"
#include "msma/units.hpp"
#include "problem.hpp"

namespace msma {
namespace {

using namespace pybind11::literals;

// Rounded rows, kept by Python between searches.
struct PyCodes {
    CodesPointer codes;
    int64_t count, dimension;
};

template <typename T>
PyCodes encode_of(const py::array& values, const OptionalArray& norms, const py::array& shift, double scale,
                  double loss, double absolute, const OptionalArray& extra, bool fine, int threads) {
    const int64_t n = values.shape(0), d = values.shape(1);
    const Rows<T> rows{static_cast<const T*>(values.data()),
                       norms ? vector_of<double>("norms", *norms, n, "float64") : nullptr, n, d};
    const PictureOf picture{vector_of<double>("shift", shift, d, "float64"), scale, loss, absolute,
                            extra ? vector_of<double>("extra", *extra, n, "float64") : nullptr};
    if (d < 1 || d > kLargestScreened) {
        throw py::value_error("values: expected 1 to " + std::to_string(kLargestScreened) + " columns, got " +
                              std::to_string(d));
    }
    const py::gil_scoped_release unlocked;
    return {encode(rows, picture, fine, threads), n, d};
}

template <typename T>
Rows<T> plain_rows(const py::array& values) {
    return {static_cast<const T*>(values.data()), nullptr, values.shape(0), values.shape(1)};
}

// True for float64.
bool check_values(const py::array& values, int threads) {
    check_threads(threads);
    const bool wide = is_plain<double>(values, 2);
    if (!wide && !is_plain<float>(values, 2)) {
        refuse("values", "a contiguous float32 or float64 array of shape (n, d)", values);
    }
    return wide;
}

py::tuple ranges(const py::array& values, int threads) {
    const bool wide = check_values(values, threads);
    py::array_t<double> low(values.shape(1)), high(values.shape(1));
    double *least = low.mutable_data(), *most = high.mutable_data();
    {
        const py::gil_scoped_release unlocked;
        if (wide) {
            column_ranges(plain_rows<double>(values), threads, least, most);
        } else {
            column_ranges(plain_rows<float>(values), threads, least, most);
        }
    }
    return py::make_tuple(low, high);
}

bool finite_values(const py::array& values, int threads) {
    check_threads(threads);
    if (!(values.flags() & py::array::c_style) || !(values.flags() & kAligned)) {
        refuse("values", "a contiguous float32 or float64 array", values);
    }
    const bool wide = py::isinstance<py::array_t<double>>(values);
    if (!wide && !py::isinstance<py::array_t<float>>(values)) {
        refuse("values", "a contiguous float32 or float64 array", values);
    }
    const void* data = values.data();
    const int64_t count = values.size();
    const py::gil_scoped_release unlocked;
    return wide ? all_finite(static_cast<const double*>(data), count, threads)
                : all_finite(static_cast<const float*>(data), count, threads);
}

template <typename T>
void medians_of(const py::array& values, const OptionalArray& norms, int64_t step, int threads, double* out) {
    Rows<T> rows = plain_rows<T>(values);
    if (norms) rows.norms = vector_of<double>("norms", *norms, rows.count, "float64");
    const py::gil_scoped_release unlocked;
    column_medians(rows, step, threads, out);
}

py::array_t<double> medians(const py::array& values, const OptionalArray& norms, int64_t step, int threads) {
    const bool wide = check_values(values, threads);
    if (step < 1) throw py::value_error("step: expected at least 1, got " + std::to_string(step));
    if (values.shape(0) < 1) refuse("values", "at least one row", values);
    py::array_t<double> found(values.shape(1));
    (wide ? medians_of<double> : medians_of<float>)(values, norms, step, threads, found.mutable_data());
    return found;
}

py::array_t<int64_t> array_of(const std::vector<int64_t>& values) {
    return py::array_t<int64_t>(static_cast<py::ssize_t>(values.size()), values.data());
}

py::object units_of(const py::array& values, const OptionalArray& labels, int threads) {
    const bool wide = check_values(values, threads);
    const int32_t* label = labels ? vector_of<int32_t>("labels", *labels, values.shape(0), "int32") : nullptr;
    Units units;
    {
        const py::gil_scoped_release unlocked;
        units = wide ? find_units(plain_rows<double>(values), label, threads)
                     : find_units(plain_rows<float>(values), label, threads);
    }
    if (units.first.empty()) return py::none();
    return py::make_tuple(array_of(units.first), array_of(units.unit), array_of(units.members), array_of(units.start),
                          array_of(units.size));
}

py::tuple expand(const py::array& members, const py::array& start, const py::array& size, const py::array& keys,
                 const py::array& near, const OptionalArray& own, int64_t k, int threads) {
    check_threads(threads);
    if (!is_plain<double>(keys, 2)) refuse("keys", "a contiguous float64 array of shape (n, w)", keys);
    const int64_t n = keys.shape(0), width = keys.shape(1), units = size.shape(0);
    if (!is_plain<int64_t>(near, 2) || near.shape(0) != n || near.shape(1) != width) {
        refuse("near", "a contiguous int64 array of the shape of keys", near);
    }
    const Expansion given{vector_of<int64_t>("start", start, units, "int64"),
                          vector_of<int64_t>("size", size, units, "int64"),
                          vector_of<int64_t>("members", members, members.shape(0), "int64"),
                          static_cast<const double*>(keys.data()),
                          static_cast<const int64_t*>(near.data()),
                          own ? vector_of<int64_t>("own", *own, n, "int64") : nullptr,
                          n,
                          width};
    if (k < 1) throw py::value_error("k: expected at least 1, got " + std::to_string(k));
    for (int64_t u = 0; u < units; ++u) {
        if (given.start[u] < 0 || given.size[u] < 1 || given.start[u] + given.size[u] > members.shape(0)) {
            throw py::value_error("start: expected units within members, got a unit beyond them");
        }
    }
    if (std::any_of(given.near, given.near + n * width, [units](int64_t u) { return u >= units; })) {
        throw py::value_error("near: expected units below " + std::to_string(units) + ", got a larger one");
    }
    py::array_t<double> out({n, k});
    py::array_t<int64_t> indices({n, k});
    double* key = out.mutable_data();
    int64_t* index = indices.mutable_data();
    {
        const py::gil_scoped_release unlocked;
        expand_units(given, k, threads, key, index);
    }
    return py::make_tuple(out, indices);
}

py::array_t<double> roots_of(const py::array_t<double, py::array::c_style>& values, int threads) {
    check_threads(threads);
    py::array_t<double> found(std::vector<py::ssize_t>(values.shape(), values.shape() + values.ndim()));
    double* out = found.mutable_data();
    const py::gil_scoped_release unlocked;
    roots(values.data(), values.size(), threads, out);
    return found;
}

PyCodes encode_any(const py::array& values, const OptionalArray& norms, const py::array& shift, double scale,
                   double loss, double absolute, const OptionalArray& extra, bool fine, int threads) {
    const bool wide = check_values(values, threads);
    return (wide ? encode_of<double> : encode_of<float>)(values, norms, shift, scale, loss, absolute, extra, fine,
                                                         threads);
}

// The arguments that both searches share, checked.
template <typename T>
struct Problem {
    PaddedKernel padded;
    Kernel kernel;
    Screened<T> screened;
    Adversary adversary;

    Problem(const Problem&) = delete;
    Problem(const Parts& parts, const PyCodes& x_codes, const PyCodes& y_codes, double factor,
            const OptionalArray& offset, const RuleArrays& rules, const OptionalArray& pivot, double strength,
            uint64_t seed)
        : padded(parts.kernel(), parts.x.shape(1)), kernel(padded.get()), adversary{strength, seed, nullptr} {
        const Rows<T> x = parts.left<T>(), y = parts.right<T>();
        if (x_codes.count != x.count || y_codes.count != y.count || x_codes.dimension != x.dimension ||
            y_codes.dimension != x.dimension) {
            throw py::value_error("codes: expected the codes of " + std::to_string(x.count) + " and " +
                                  std::to_string(y.count) + " rows with d = " + std::to_string(x.dimension) + ", got " +
                                  std::to_string(x_codes.count) + " and " + std::to_string(y_codes.count));
        }
        const bool same = x.values == y.values && x.count == y.count && x_codes.codes == y_codes.codes &&
                          kernel.kind != Kind::inner_product;
        if (pivot) adversary.pivot = vector_of<double>("pivot", *pivot, x.count, "float64");
        screened = {&kernel,
                    x,
                    y,
                    x_codes.codes.get(),
                    y_codes.codes.get(),
                    same,
                    factor,
                    offset ? vector_of<double>("offset", *offset, x.count, "float64") : nullptr,
                    rules.of(x.count, y.count),
                    strength > 0.0 ? &adversary : nullptr,
                    parts.threads};
        if (kernel.kind == Kind::inner_product && !offset) {
            throw py::value_error("offset: expected a float64 array for inner_product, got None");
        }
    }
};

template <typename T>
std::tuple<py::array_t<double>, py::array_t<int64_t>, py::array_t<int64_t>> knn_of(
    const Parts& parts, const PyCodes& x_codes, const PyCodes& y_codes, double factor, const OptionalArray& offset,
    const RuleArrays& rules, const OptionalArray& pivot, double strength, uint64_t seed, int64_t k) {
    const Problem<T> problem(parts, x_codes, y_codes, factor, offset, rules, pivot, strength, seed);
    const int64_t n = problem.screened.x.count, m = problem.screened.y.count;
    if (k < 1 || k > m || m > std::numeric_limits<int32_t>::max()) {
        throw py::value_error("k: expected 1 <= k <= " + std::to_string(m) + ", got " + std::to_string(k));
    }
    py::array_t<double> keys({n, k});
    py::array_t<int64_t> indices({n, k}), candidates(n);
    double* key = keys.mutable_data();
    int64_t *index = indices.mutable_data(), *candidate = candidates.mutable_data();
    {
        const py::gil_scoped_release unlocked;
        screened_knn(problem.screened, k, key, index, candidate);
    }
    return {keys, indices, candidates};
}

template <typename T>
py::array_t<int64_t> count_of(const Parts& parts, const PyCodes& x_codes, const PyCodes& y_codes, double factor,
                              const OptionalArray& offset, const RuleArrays& rules, const OptionalArray& pivot,
                              double strength, uint64_t seed, const py::array& threshold) {
    const Problem<T> problem(parts, x_codes, y_codes, factor, offset, rules, pivot, strength, seed);
    const double* limits = vector_of<double>("threshold", threshold, problem.screened.x.count, "float64");
    py::array_t<int64_t> counts(problem.screened.x.count);
    int64_t* out = counts.mutable_data();
    {
        const py::gil_scoped_release unlocked;
        screened_count(problem.screened, limits, out);
    }
    return counts;
}

// The arguments of both direct searches, checked.
template <typename T>
struct DirectProblem {
    PaddedKernel padded;
    Adversary adversary;
    Direct<T> direct{};

    DirectProblem(const DirectProblem&) = delete;
    DirectProblem(const Parts& parts, const RuleArrays& rules, const OptionalArray& pivot, double strength,
                  uint64_t seed)
        : padded(parts.kernel(), parts.x.shape(1)), adversary{strength, seed, nullptr} {
        const Rows<T> x = parts.left<T>(), y = parts.right<T>();
        const Kernel& kernel = padded.get();
        const bool same = x.values == y.values && x.count == y.count && kernel.kind != Kind::inner_product;
        if (pivot) adversary.pivot = vector_of<double>("pivot", *pivot, x.count, "float64");
        direct = {&kernel,      x, y, same, rules.of(x.count, y.count), strength > 0.0 ? &adversary : nullptr,
                  parts.threads};
    }
};

template <typename T>
py::tuple direct_knn_of(const Parts& parts, const RuleArrays& rules, const OptionalArray& pivot, double strength,
                        uint64_t seed, int64_t k) {
    const DirectProblem<T> problem(parts, rules, pivot, strength, seed);
    const int64_t n = problem.direct.x.count, m = problem.direct.y.count;
    if (k < 1 || k > m) {
        throw py::value_error("k: expected 1 <= k <= " + std::to_string(m) + ", got " + std::to_string(k));
    }
    py::array_t<double> keys({n, k});
    py::array_t<int64_t> indices({n, k}), candidates(n);
    double* key = keys.mutable_data();
    int64_t *index = indices.mutable_data(), *candidate = candidates.mutable_data();
    {
        const py::gil_scoped_release unlocked;
        direct_knn(problem.direct, k, key, index, candidate);
    }
    return py::make_tuple(keys, indices, candidates);
}

template <typename T>
py::array_t<int64_t> direct_count_of(const Parts& parts, const RuleArrays& rules, const OptionalArray& pivot,
                                     double strength, uint64_t seed, const py::array& threshold) {
    const DirectProblem<T> problem(parts, rules, pivot, strength, seed);
    const double* limits = vector_of<double>("threshold", threshold, problem.direct.x.count, "float64");
    py::array_t<int64_t> counts(problem.direct.x.count);
    int64_t* out = counts.mutable_data();
    {
        const py::gil_scoped_release unlocked;
        direct_count(problem.direct, limits, out);
    }
    return counts;
}

}  // namespace

void bind_screen(py::module_& m) {
    py::class_<PyCodes>(m, "Codes", "Rows rounded to eight bits for the certified screen.");
    m.def("encode", &encode_any, py::arg("values").noconvert(), py::arg("norms").noconvert().none(true),
          py::arg("shift").noconvert(), "scale"_a, "loss"_a, "absolute"_a, py::arg("extra").noconvert().none(true),
          "fine"_a, "threads"_a,
          "Codes of the picture (values / norms - shift) scale of rows (n, d) float32 or float64: of eight bits, or of "
          "sixteen where `fine`, four products each.");
    m.def("column_ranges", &ranges, py::arg("values").noconvert(), "threads"_a,
          "(low (d,), high (d,)) float64 of the columns of (n, d); NaN where a column holds NaN or inf.");
    m.def("all_finite", &finite_values, py::arg("values").noconvert(), "threads"_a,
          "Whether a contiguous float32 or float64 array of any shape holds neither NaN nor inf.");
    m.def("column_medians", &medians, py::arg("values").noconvert(), py::arg("norms").noconvert().none(true), "step"_a,
          "threads"_a, "Medians (d,) float64 of values / norms over every step-th row of (n, d).");
    m.def("find_units", &units_of, py::arg("values").noconvert(), py::arg("labels").noconvert().none(true), "threads"_a,
          "(first, unit, members, start, size) of equal rows, or None where no row is repeated.");
    m.def("expand_units", &expand, py::arg("members").noconvert(), py::arg("start").noconvert(),
          py::arg("size").noconvert(), py::arg("keys").noconvert(), py::arg("near").noconvert(),
          py::arg("own").noconvert().none(true), "k"_a, "threads"_a,
          "(keys (n, k), points (n, k)) of the nearest units (n, w).");
    m.def("roots", &roots_of, py::arg("values").noconvert(), "threads"_a, "Square roots, correctly rounded.");
    m.def(
        "direct_knn",
        [](const Parts& parts, const RuleArrays& rules, const OptionalArray& pivot, double strength, uint64_t seed,
           int64_t k) {
            return (parts.wide ? direct_knn_of<double> : direct_knn_of<float>)(parts, rules, pivot, strength, seed, k);
        },
        "problem"_a, "rules"_a, py::arg("pivot").noconvert().none(true), "strength"_a, "seed"_a, "k"_a,
        "(keys (n, k), indices (n, k), candidates (n,)); candidates is -1 where every pair was given a key.");
    m.def(
        "direct_count",
        [](const Parts& parts, const RuleArrays& rules, const OptionalArray& pivot, double strength, uint64_t seed,
           const py::array& threshold) {
            return (parts.wide ? direct_count_of<double> : direct_count_of<float>)(parts, rules, pivot, strength, seed,
                                                                                   threshold);
        },
        "problem"_a, "rules"_a, py::arg("pivot").noconvert().none(true), "strength"_a, "seed"_a,
        py::arg("threshold").noconvert(), "counts (n,) of admissible columns with a key of at most threshold[row].");
    m.def(
        "screened_knn",
        [](const Parts& parts, const PyCodes& x_codes, const PyCodes& y_codes, double factor,
           const OptionalArray& offset, const RuleArrays& rules, const OptionalArray& pivot, double strength,
           uint64_t seed, int64_t k) {
            return (parts.wide ? knn_of<double> : knn_of<float>)(parts, x_codes, y_codes, factor, offset, rules, pivot,
                                                                 strength, seed, k);
        },
        "problem"_a, "x_codes"_a, "y_codes"_a, "factor"_a, py::arg("offset").noconvert().none(true), "rules"_a,
        py::arg("pivot").noconvert().none(true), "strength"_a, "seed"_a, "k"_a,
        "(keys (n, k), indices (n, k), candidates (n,)); candidates is -1 where a row was not certified.");
    m.def(
        "screened_count",
        [](const Parts& parts, const PyCodes& x_codes, const PyCodes& y_codes, double factor,
           const OptionalArray& offset, const RuleArrays& rules, const OptionalArray& pivot, double strength,
           uint64_t seed, const py::array& threshold) {
            return (parts.wide ? count_of<double> : count_of<float>)(parts, x_codes, y_codes, factor, offset, rules,
                                                                     pivot, strength, seed, threshold);
        },
        "problem"_a, "x_codes"_a, "y_codes"_a, "factor"_a, py::arg("offset").noconvert().none(true), "rules"_a,
        py::arg("pivot").noconvert().none(true), "strength"_a, "seed"_a, py::arg("threshold").noconvert(),
        "counts (n,) of admissible columns with a key of at most threshold[row].");
}

}  // namespace msma
