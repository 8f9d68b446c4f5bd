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

// A sample as Python gives it: the parts (rows, d), and the numbers (n,) of the rows that are meant, or None for all.
using Given = std::pair<std::vector<py::array>, OptionalArray>;

Stored stored_of(const std::string& name, const py::array& a) {
    if (is_plain<float>(a, 2)) return Stored::float32;
    if (is_plain<double>(a, 2)) return Stored::float64;
    if (is_plain<uint16_t>(a, 2)) return Stored::bfloat16;
    constexpr int wanted = py::array::c_style | kAligned;
    if (a.dtype().equal(py::dtype("float16")) && a.ndim() == 2 && (a.flags() & wanted) == wanted) {
        return Stored::float16;
    }
    refuse(name, "a contiguous float16, float32 or float64 array, or bits of bfloat16 as uint16, of shape (n, d)", a);
}

KsgSample sample_of(const std::string& name, const Given& given) {
    const auto& [parts, index] = given;
    if (parts.empty()) throw py::value_error(name + ": expected at least one part, got none");
    KsgSample sample{{}, stored_of(name, parts[0]), nullptr, 0, parts[0].shape(1)};
    for (const py::array& part : parts) {
        if (stored_of(name, part) != sample.stored || part.shape(0) < 1 || part.shape(1) < 1 ||
            part.shape(1) != sample.dimension) {
            refuse(name, "parts of one type and shape (n, d) with n, d >= 1", part);
        }
        sample.parts.push_back({part.data(), part.shape(0)});
        sample.count += part.shape(0);
    }
    if (index) {
        const int64_t all = sample.count, n = index->ndim() == 1 ? index->shape(0) : -1;
        sample.index = vector_of<int64_t>(name, *index, n, "int64");
        if (std::any_of(sample.index, sample.index + n, [all](int64_t i) { return i < 0 || i >= all; })) {
            refuse(name, "row numbers in [0, " + std::to_string(all) + ")", *index);
        }
        sample.count = n;
    }
    if (sample.count < 1 || sample.count > INT32_MAX) {
        throw py::value_error(name + ": expected 1 to 2^31 - 1 rows, got " + std::to_string(sample.count));
    }
    return sample;
}

// Calls run(samples, zero) with a zero of the type that holds all their values.
template <typename Run>
auto with_samples(const std::vector<Given>& given, size_t wanted, const Run& run) {
    if (given.empty() || (wanted && given.size() != wanted)) {
        const std::string expected = wanted ? std::to_string(wanted) : "at least one";
        throw py::value_error("samples: expected " + expected + ", got " + std::to_string(given.size()));
    }
    std::vector<KsgSample> samples;
    bool wide = false;
    for (size_t s = 0; s < given.size(); ++s) {
        const std::string name = "samples[" + std::to_string(s) + "]";
        samples.push_back(sample_of(name, given[s]));
        wide = wide || samples[s].stored == Stored::float64;
        if (samples[s].count != samples[0].count) {
            throw py::value_error(name + ": expected " + std::to_string(samples[0].count) +
                                  " rows as in samples[0], got " + std::to_string(samples[s].count));
        }
    }
    return wide ? run(samples, 0.0) : run(samples, 0.0f);
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

py::tuple counts(const std::string& kind, const std::vector<Given>& samples, const std::vector<int>& ks, bool second,
                 const OptionalArray& groups, int64_t window, int threads) {
    const KsgOptions options = options_of(ks, second, threads);
    return with_samples(samples, 2, [&](const auto& rows, auto zero) {
        const int64_t n = rows[0].count, count = options.count;
        const KsgRule rule = rule_of(groups, std::nullopt, window, n);
        const Kind formula = ksg_kind(kind);
        py::array_t<int64_t> n_x({n, count}), n_y({n, count});
        py::array_t<bool> tied({n, count});
        int64_t *x_out = n_x.mutable_data(), *y_out = n_y.mutable_data();
        bool* tied_out = tied.mutable_data();
        {
            const py::gil_scoped_release unlocked;
            ksg_counts<decltype(zero)>(formula, rows.data(), rule, options, x_out, y_out, tied_out);
        }
        return py::make_tuple(n_x, n_y, tied);
    });
}

py::array_t<double> sums(const std::string& kind, const std::vector<Given>& samples, const py::array& pairs,
                         const std::vector<int>& ks, bool second, const OptionalArray& groups,
                         const OptionalArray& partners, int64_t window, const py::array& offsets,
                         const py::array& digamma, const py::array& neighbors, int threads) {
    const KsgOptions options = options_of(ks, second, threads);
    return with_samples(samples, 0, [&](const auto& rows, auto zero) {
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
            ksg_sums<decltype(zero)>(formula, rows.data(), count, wanted.data(), pair_count, rule, options, terms,
                                     admissible, out);
        }
        return found;
    });
}

py::tuple permutation_sums(const std::string& kind, const std::vector<Given>& samples, int k, bool second,
                           const OptionalArray& groups, const py::array& permutations, const py::array& offsets,
                           const py::array& digamma, int threads) {
    const std::vector<int> ks{k};
    const KsgOptions options = options_of(ks, second, threads);
    return with_samples(samples, 2, [&](const auto& rows, auto zero) {
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
            fewest = ksg_permutation_sums<decltype(zero)>(formula, rows.data(), rule.groups, options, terms, orders,
                                                          count, out);
        }
        return py::make_tuple(found, fewest);
    });
}

}  // namespace

void bind_ksg_rows(py::module_& m) {
    using namespace pybind11::literals;

    m.def(
        "ksg_counts", &counts, "kind"_a, "samples"_a, "ks"_a, "second"_a, py::arg("groups").noconvert().none(true),
        "window"_a, "threads"_a,
        "n_x, n_y int64 and tied bool, each (n, K), of two samples: parts (rows, d) and the row numbers (n,) or None.");
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
