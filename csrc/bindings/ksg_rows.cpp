// The Python face of the KSG counts: checks every array, releases the GIL, and knows nothing of torch.
#include "msma/ksg_rows.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "arguments.hpp"
#include "arrays.hpp"
#include "ksg.hpp"

namespace msma {
namespace {

template <typename T>
std::vector<Rows<T>> samples_of(const std::vector<py::array>& samples) {
    std::vector<Rows<T>> rows;
    for (size_t s = 0; s < samples.size(); ++s) {
        const py::array& a = samples[s];
        const std::string name = "samples[" + std::to_string(s) + "]";
        if (!is_plain<T>(a, 2) || a.shape(1) < 1 || a.shape(0) < 1 || a.shape(0) > INT32_MAX) {
            refuse(name,
                   std::string("a contiguous ") + (sizeof(T) == 4 ? "float32" : "float64") +
                       " array of shape (n, d) with n, d >= 1",
                   a);
        }
        if (a.shape(0) != samples[0].shape(0)) {
            refuse(name, std::to_string(samples[0].shape(0)) + " rows as in samples[0]", a);
        }
        rows.push_back({static_cast<const T*>(a.data()), nullptr, a.shape(0), a.shape(1)});
    }
    return rows;
}

// Calls run(samples) with the type of the first.
template <typename Run>
auto with_samples(const std::vector<py::array>& samples, size_t wanted, const Run& run) {
    if (samples.empty() || (wanted && samples.size() != wanted)) {
        const std::string expected = wanted ? std::to_string(wanted) : "at least one";
        throw py::value_error("samples: expected " + expected + ", got " + std::to_string(samples.size()));
    }
    if (py::isinstance<py::array_t<double>>(samples[0])) return run(samples_of<double>(samples));
    return run(samples_of<float>(samples));
}

KsgOptions options_of(const std::vector<int>& ks, bool second, int threads) {
    check_threads(threads);
    if (ks.empty()) throw py::value_error("ks: expected at least one k, got none");
    for (const int k : ks) {
        if (k < 1) throw py::value_error("ks: expected k >= 1, got " + std::to_string(k));
    }
    return {ks.data(), static_cast<int>(ks.size()), second, threads};
}

KsgRule rule_of(const OptionalArray& groups, const OptionalArray& partners, int64_t window, int64_t n) {
    if (window < 0) throw py::value_error("window: expected at least 0, got " + std::to_string(window));
    return {groups ? vector_of<int32_t>("groups", *groups, n, "int32") : nullptr,
            partners ? vector_of<int32_t>("partners", *partners, n, "int32") : nullptr, std::min(window, n)};
}

KsgTerms terms_of(const py::array& offsets, const py::array& digamma, int64_t ks, int64_t n) {
    return {vector_of<double>("offsets", offsets, ks, "float64"),
            vector_of<double>("digamma", digamma, n + 2, "float64")};
}

py::tuple counts(const std::string& kind, const std::vector<py::array>& samples, const std::vector<int>& ks,
                 bool second, const OptionalArray& groups, int64_t window, int threads) {
    const KsgOptions options = options_of(ks, second, threads);
    return with_samples(samples, 2, [&](const auto& rows) {
        const int64_t n = rows[0].count, count = options.count;
        const KsgRule rule = rule_of(groups, std::nullopt, window, n);
        const Kind formula = ksg_kind(kind);
        py::array_t<int64_t> n_x({n, count}), n_y({n, count});
        py::array_t<bool> tied({n, count});
        int64_t *x_out = n_x.mutable_data(), *y_out = n_y.mutable_data();
        bool* tied_out = tied.mutable_data();
        {
            const py::gil_scoped_release unlocked;
            ksg_counts(formula, rows.data(), rule, options, x_out, y_out, tied_out);
        }
        return py::make_tuple(n_x, n_y, tied);
    });
}

py::array_t<double> sums(const std::string& kind, const std::vector<py::array>& samples, const py::array& pairs,
                         const std::vector<int>& ks, bool second, const OptionalArray& groups,
                         const OptionalArray& partners, int64_t window, const py::array& offsets,
                         const py::array& digamma, const py::array& neighbors, int threads) {
    const KsgOptions options = options_of(ks, second, threads);
    return with_samples(samples, 0, [&](const auto& rows) {
        const int64_t n = rows[0].count, count = static_cast<int64_t>(rows.size());
        const KsgRule rule = rule_of(groups, partners, window, n);
        const KsgTerms terms = terms_of(offsets, digamma, options.count, n);
        const Kind formula = ksg_kind(kind);
        if (!is_plain<int64_t>(pairs, 2) || pairs.shape(1) != 2 || pairs.shape(0) < 1) {
            refuse("pairs", "a contiguous int64 array of shape (P, 2) with P >= 1", pairs);
        }
        const int64_t pair_count = pairs.shape(0);
        const auto* numbers = static_cast<const int64_t*>(pairs.data());
        std::vector<KsgPair> wanted;
        for (int64_t p = 0; p < pair_count; ++p) {
            const KsgPair pair{numbers[2 * p], numbers[2 * p + 1]};
            if (std::min(pair.x, pair.y) < 0 || std::max(pair.x, pair.y) >= count) {
                refuse("pairs", "numbers of samples in [0, " + std::to_string(count) + ")", pairs);
            }
            wanted.push_back(pair);
        }
        const int64_t* admissible = vector_of<int64_t>("neighbors", neighbors, n, "int64");
        if (std::any_of(admissible, admissible + n, [n](int64_t v) { return v < 1 || v > n; })) {
            refuse("neighbors", "numbers from 1 to n", neighbors);
        }
        py::array_t<double> found({pair_count, static_cast<int64_t>(options.count)});
        double* out = found.mutable_data();
        {
            const py::gil_scoped_release unlocked;
            ksg_sums(formula, rows.data(), count, wanted.data(), pair_count, rule, options, terms, admissible, out);
        }
        return found;
    });
}

py::tuple permutation_sums(const std::string& kind, const std::vector<py::array>& samples, int k, bool second,
                           const OptionalArray& groups, const py::array& permutations, const py::array& offsets,
                           const py::array& digamma, int threads) {
    const std::vector<int> ks{k};
    const KsgOptions options = options_of(ks, second, threads);
    return with_samples(samples, 2, [&](const auto& rows) {
        const int64_t n = rows[0].count;
        const KsgRule rule = rule_of(groups, std::nullopt, 0, n);
        const KsgTerms terms = terms_of(offsets, digamma, 1, n);
        const Kind formula = ksg_kind(kind);
        if (!is_plain<int32_t>(permutations, 2) || permutations.shape(1) != n) {
            refuse("permutations", "a contiguous int32 array of shape (P, n)", permutations);
        }
        const int64_t count = permutations.shape(0);
        const auto* orders = static_cast<const int32_t*>(permutations.data());
        if (std::any_of(orders, orders + count * n, [n](int32_t v) { return v < 0 || v >= n; })) {
            refuse("permutations", "row numbers in [0, n)", permutations);
        }
        py::array_t<double> found(count);
        double* out = found.mutable_data();
        int64_t fewest;
        {
            const py::gil_scoped_release unlocked;
            fewest = ksg_permutation_sums(formula, rows.data(), rule.groups, options, terms, orders, count, out);
        }
        return py::make_tuple(found, fewest);
    });
}

}  // namespace

void bind_ksg_rows(py::module_& m) {
    using namespace pybind11::literals;

    m.def("ksg_counts", &counts, "kind"_a, "samples"_a, "ks"_a, "second"_a, py::arg("groups").noconvert().none(true),
          "window"_a, "threads"_a,
          "n_x, n_y int64 and tied bool, each (n, K), of two samples (n, d), float32 or float64.");
    m.def("ksg_sums", &sums, "kind"_a, "samples"_a, py::arg("pairs").noconvert(), "ks"_a, "second"_a,
          py::arg("groups").noconvert().none(true), py::arg("partners").noconvert().none(true), "window"_a,
          py::arg("offsets").noconvert(), py::arg("digamma").noconvert(), py::arg("neighbors").noconvert(), "threads"_a,
          "Sums (P, K) of the KSG terms of pairs (P, 2) of samples (n, d).");
    m.def("ksg_permutation_sums", &permutation_sums, "kind"_a, "samples"_a, "k"_a, "second"_a,
          py::arg("groups").noconvert().none(true), py::arg("permutations").noconvert(), py::arg("offsets").noconvert(),
          py::arg("digamma").noconvert(), "threads"_a,
          "Sums (P,) of the KSG terms with the second sample re-indexed by permutations (P, n) int32, and the fewest "
          "neighbours a row has.");
}

}  // namespace msma
