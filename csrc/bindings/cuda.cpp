// The Python face of the CUDA kernels: addresses as integers, sizes, the stream as an integer. Checks sizes, releases
// the GIL, and knows nothing of torch or CUDA: the same file makes _cuda over the kernels and, in the tests,
// _cuda_emulated over the emulator of csrc/cuda/device.cuh.
//
// Who calls keeps every array alive until the stream has come so far; the kernels run on the current device.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <iterator>
#include <limits>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "arguments.hpp"
#include "msma/cuda.hpp"
#if MSMA_EMULATED
#include "settings.hpp"
#endif

namespace msma::cuda {
namespace {

using Address = std::uintptr_t;
// Values, norms (0 but for cosine), rows.
using Side = std::tuple<Address, Address, int64_t>;
// own, window, labels, point labels, partners; 0 where there are none.
using RuleParts = std::tuple<Address, int64_t, Address, Address, Address>;
// bfloat16 rows, near, far (of points: of each word of 32), rows.
using ScreenParts = std::tuple<Address, Address, Address, int64_t>;

constexpr int64_t kMost = std::numeric_limits<int32_t>::max();  // rows, columns, coordinates

void check(const char* name, int64_t value, int64_t least, int64_t most) {
    if (value >= least && value <= most) return;
    throw py::value_error(std::string(name) + ": expected an integer from " + std::to_string(least) + " to " +
                          std::to_string(most) + ", got " + std::to_string(value));
}

void check_multiple(const char* name, int64_t value, int64_t unit) {
    check(name, value, 0, kMost);
    if (value % unit == 0) return;
    throw py::value_error(std::string(name) + ": expected a multiple of " + std::to_string(unit) + ", got " +
                          std::to_string(value));
}

// The array at an address; 0 only where it has no entries.
template <typename T>
T* array_at(const char* name, Address address, int64_t entries = 1) {
    if (address == 0 && entries > 0) {
        throw py::value_error(std::string(name) + ": expected the address of an array, got 0");
    }
    return reinterpret_cast<T*>(address);
}

template <typename T>
T* array_or_null(Address address) {
    return reinterpret_cast<T*>(address);
}

// Canonical keys as the kernels know them.
Kernel kernel_of(const std::string& kind, int p) {
    const Kernel kernel{kind_of(kind), p, nullptr};
    if (kernel.kind == Kind::mahalanobis) {
        throw py::value_error("kind: expected a metric without a tensor, got 'mahalanobis'");
    }
    if (kernel.kind == Kind::minkowski) check("p", p, 1, kLargestPower);
    return kernel;
}

template <typename T>
Rows<T> rows_of(const char* name, const char* norms_name, const Side& side, int64_t d, Kind kind) {
    const auto [values, norms, count] = side;
    check(name, count, 0, kMost);
    check("d", d, 1, kMost);
    const auto* lengths = kind == Kind::cosine ? array_at<const double>(norms_name, norms, count) : nullptr;
    return {array_at<const T>(name, values, count), lengths, count, d};
}

Rule rule_of(const RuleParts& parts) {
    const auto [own, window, labels, point_labels, partners] = parts;
    check("window", window, 0, kMost);
    if ((labels == 0) != (point_labels == 0)) {
        throw py::value_error("labels: expected labels of both sides or of neither, got one side's");
    }
    return {array_or_null<const int32_t>(own), static_cast<int32_t>(window), array_or_null<const int32_t>(labels),
            array_or_null<const int32_t>(point_labels), array_or_null<const int32_t>(partners)};
}

ScreenSide screen_side(const char* name, const ScreenParts& parts) {
    const auto [b, near, far, rows] = parts;
    check_multiple(name, rows, 128);
    if (b % 16 != 0) throw py::value_error(std::string(name) + ": expected rows aligned to 16 bytes");
    return {array_at<const uint16_t>(name, b, rows), array_at<const float>(name, near, rows),
            array_at<const float>(name, far, rows), rows};
}

template <typename T>
void knn_of(const std::string& kind, int p, const Side& x, const Side& y, int64_t d, const RuleParts& rule, int64_t k,
            Address keys, Address indices, StreamHandle stream) {
    const Kernel kernel = kernel_of(kind, p);
    const auto left = rows_of<T>("x", "x_norms", x, d, kernel.kind),
               right = rows_of<T>("y", "y_norms", y, d, kernel.kind);
    const Rule who = rule_of(rule);
    check("k", k, 1, kMostNeighbors);
    auto* found = array_at<double>("keys", keys, left.count);
    auto* columns = array_at<int64_t>("indices", indices, left.count);
    const py::gil_scoped_release unlocked;
    knn<T>(kernel, left, right, who, k, found, columns, stream);
}

template <typename T>
void radius_count_of(const std::string& kind, int p, const Side& x, const Side& y, int64_t d, const RuleParts& rule,
                     Address thresholds, int64_t radii, Address counts, StreamHandle stream) {
    const Kernel kernel = kernel_of(kind, p);
    const auto left = rows_of<T>("x", "x_norms", x, d, kernel.kind),
               right = rows_of<T>("y", "y_norms", y, d, kernel.kind);
    const Rule who = rule_of(rule);
    check("radii", radii, 1, kMostRadii);
    const auto* tops = array_at<const double>("thresholds", thresholds, left.count);
    auto* found = array_at<int64_t>("counts", counts, left.count);
    const py::gil_scoped_release unlocked;
    radius_count<T>(kernel, left, right, who, tops, radii, found, stream);
}

template <typename T>
void finish_of(const std::string& kind, int p, const Side& x, const Side& y, int64_t d, Address columns, Address ends,
               int64_t n, int64_t first_row, int64_t k, Address keys, Address indices, StreamHandle stream) {
    const Kernel kernel = kernel_of(kind, p);
    const auto left = rows_of<T>("x", "x_norms", x, d, kernel.kind),
               right = rows_of<T>("y", "y_norms", y, d, kernel.kind);
    check("k", k, 1, kMostNeighbors);
    check("first_row", first_row, 0, left.count);
    check("n", n, 0, left.count - first_row);
    const auto* listed = array_or_null<const int64_t>(columns);  // 0 where nobody is listed
    const auto* last = array_at<const int64_t>("ends", ends, n);
    auto* found = array_at<double>("keys", keys, n);
    auto* where = array_at<int64_t>("indices", indices, n);
    const py::gil_scoped_release unlocked;
    finish<T>(kernel, left, right, listed, last, n, first_row, k, found, where, stream);
}

void select_k_of(Address values, Address ids, int64_t rows, int64_t m, int64_t k, Address keys, Address indices,
                 StreamHandle stream) {
    check("rows", rows, 0, kMost);
    check("m", m, 0, kMost);
    check("k", k, 1, kMostNeighbors);
    const auto* from = array_at<const double>("values", values, rows * m);
    auto* found = array_at<double>("keys", keys, rows);
    auto* where = array_at<int64_t>("indices", indices, rows);
    const py::gil_scoped_release unlocked;
    select_k(from, array_or_null<const int64_t>(ids), rows, m, k, found, where, stream);
}

void select_large_of(Address values, int64_t rows, int64_t m, int64_t k, Address keys, Address indices,
                     StreamHandle stream) {
    check("rows", rows, 0, kMost);
    check("m", m, 1, kMost);
    check("k", k, 1, m);
    const auto* from = array_at<const double>("values", values, rows);
    auto* found = array_at<double>("keys", keys, rows);
    auto* where = array_at<int64_t>("indices", indices, rows);
    const py::gil_scoped_release unlocked;
    select_large(from, rows, m, k, found, where, stream);
}

void collect_of(const ScreenParts& x, const ScreenParts& y, Address c, int64_t width, const RuleParts& rule,
                Address top, int64_t begin, int64_t end, int64_t limit, Address listed, Address low, Address count,
                StreamHandle stream) {
    const ScreenSide left = screen_side("x", x), right = screen_side("y", y);
    check_multiple("width", width, 64);
    check_multiple("begin", begin, 128);
    check_multiple("end", end, 128);
    check("end", end, begin, right.rows);
    check("limit", limit, 1, kMost);
    const Rule who = rule_of(rule);
    if (who.partners != nullptr) throw py::value_error("partners: expected 0, which the screen does not know");
    const auto* terms = array_at<const float>("c", c, right.rows);
    const auto* bound = array_at<const float>("top", top, left.rows);
    auto* words = array_at<int64_t>("listed", listed, left.rows);
    auto* least = array_at<float>("low", low, left.rows);
    auto* number = array_at<int32_t>("count", count, left.rows);
    const py::gil_scoped_release unlocked;
    collect(left, right, terms, width, who, bound, begin, end, limit, words, least, number, stream);
}

void ksg_of(const std::string& kind, Address samples, Address widths, Address pairs, int64_t count, int64_t n,
            Address ks, int64_t k_count, int64_t k_most, bool closed, const RuleParts& rule, int64_t partner_stride,
            Address n_x, Address n_y, Address tied, StreamHandle stream) {
    const Kind which = kind_of(kind);
    if (which != Kind::sqeuclidean && which != Kind::chebyshev) {
        throw py::value_error("kind: expected one of sqeuclidean, chebyshev, got '" + kind + "'");
    }
    check("count", count, 0, kMost);
    check("n", n, 0, kMost);
    check("k_count", k_count, 1, kMostRadii);
    check("k_most", k_most, 1, kMostNeighbors - 1);
    if (partner_stride != 0 && partner_stride != n) {
        throw py::value_error("partner_stride: expected 0 or n = " + std::to_string(n) + ", got " +
                              std::to_string(partner_stride));
    }
    const int64_t entries = count * n;
    const KsgBatch batch{array_at<const double* const>("samples", samples, entries),
                         array_at<const int32_t>("widths", widths, entries),
                         array_at<const int32_t>("pairs", pairs, entries),
                         count,
                         n,
                         array_at<const int32_t>("ks", ks),
                         k_count,
                         k_most,
                         closed,
                         rule_of(rule),
                         partner_stride};
    auto* left = array_at<int64_t>("n_x", n_x, entries);
    auto* right = array_at<int64_t>("n_y", n_y, entries);
    auto* shared = array_at<uint8_t>("tied", tied, entries);
    const py::gil_scoped_release unlocked;
    ksg(which, batch, left, right, shared, stream);
}

// MSMA_ARCHITECTURES: what the kernels were compiled for, "80 90a 120-ptx"; empty for the emulator.
std::vector<std::string> architectures() {
    std::istringstream words(MSMA_ARCHITECTURES);
    return {std::istream_iterator<std::string>(words), std::istream_iterator<std::string>()};
}

}  // namespace
}  // namespace msma::cuda

PYBIND11_MODULE(MSMA_MODULE_NAME, m) {
    namespace py = pybind11;
    namespace cuda = msma::cuda;
    using namespace pybind11::literals;

    m.doc() = "Launchers of CUDA kernels over raw addresses; see csrc/include/msma/cuda.hpp for what each computes.";
    m.attr("MOST_NEIGHBORS") = cuda::kMostNeighbors;
    m.attr("MOST_RADII") = cuda::kMostRadii;
    m.def("architectures", &cuda::architectures, "What the kernels were compiled for; -ptx: for that and all later.");
#if MSMA_EMULATED
    m.def("set_seed", &msma::emulator::set_seed, "seed"_a, "Of the order of threads and the rounding of products.");
    py::enum_<msma::emulator::ProductSign>(m, "ProductSign")
        .value("random", msma::emulator::ProductSign::random)
        .value("up", msma::emulator::ProductSign::up)
        .value("down", msma::emulator::ProductSign::down)
        .value("shrink", msma::emulator::ProductSign::shrink);
    m.def("set_product_error", &msma::emulator::set_product_error, "relative"_a,
          "sign"_a = msma::emulator::ProductSign::random,
          "Errors of the products a.b of bfloat16 rows, relative to |a||b|, beside their roundings.");
#endif
    m.def("emulated", [] { return MSMA_EMULATED != 0; }, "Whether a model of a GPU on the CPU takes its place.");
    m.def(
        "knn",
        [](const std::string& kind, int p, bool wide, const cuda::Side& x, const cuda::Side& y, int64_t d,
           const cuda::RuleParts& rule, int64_t k, cuda::Address keys, cuda::Address indices,
           cuda::StreamHandle stream) {
            (wide ? cuda::knn_of<double> : cuda::knn_of<float>)(kind, p, x, y, d, rule, k, keys, indices, stream);
        },
        "kind"_a, "p"_a, "wide"_a, "x"_a, "y"_a, "d"_a, "rule"_a, "k"_a, "keys"_a, "indices"_a, "stream"_a,
        "keys (n, k) float64, indices (n, k) int64 of the nearest; x, y: (values, norms, rows); wide: float64.");
    m.def(
        "radius_count",
        [](const std::string& kind, int p, bool wide, const cuda::Side& x, const cuda::Side& y, int64_t d,
           const cuda::RuleParts& rule, cuda::Address thresholds, int64_t radii, cuda::Address counts,
           cuda::StreamHandle stream) {
            (wide ? cuda::radius_count_of<double> : cuda::radius_count_of<float>)(kind, p, x, y, d, rule, thresholds,
                                                                                  radii, counts, stream);
        },
        "kind"_a, "p"_a, "wide"_a, "x"_a, "y"_a, "d"_a, "rule"_a, "thresholds"_a, "radii"_a, "counts"_a, "stream"_a,
        "counts (n, radii) int64 of keys at most thresholds (n, radii) float64.");
    m.def(
        "finish",
        [](const std::string& kind, int p, bool wide, const cuda::Side& x, const cuda::Side& y, int64_t d,
           cuda::Address columns, cuda::Address ends, int64_t n, int64_t first_row, int64_t k, cuda::Address keys,
           cuda::Address indices, cuda::StreamHandle stream) {
            (wide ? cuda::finish_of<double> : cuda::finish_of<float>)(kind, p, x, y, d, columns, ends, n, first_row, k,
                                                                      keys, indices, stream);
        },
        "kind"_a, "p"_a, "wide"_a, "x"_a, "y"_a, "d"_a, "columns"_a, "ends"_a, "n"_a, "first_row"_a, "k"_a, "keys"_a,
        "indices"_a, "stream"_a, "keys and indices (n, k) of the nearest of listed candidates.");
    m.def("select_k", &cuda::select_k_of, "values"_a, "ids"_a, "rows"_a, "m"_a, "k"_a, "keys"_a, "indices"_a,
          "stream"_a, "The k smallest of each row, in order.");
    m.def("select_large", &cuda::select_large_of, "values"_a, "rows"_a, "m"_a, "k"_a, "keys"_a, "indices"_a, "stream"_a,
          "The k smallest of each row, in the order of the columns.");
    m.def("collect", &cuda::collect_of, "x"_a, "y"_a, "c"_a, "width"_a, "rule"_a, "top"_a, "begin"_a, "end"_a,
          "limit"_a, "listed"_a, "low"_a, "count"_a, "stream"_a,
          "The words of points whose lower bounds are not above top.");
    m.def("ksg", &cuda::ksg_of, "kind"_a, "samples"_a, "widths"_a, "pairs"_a, "count"_a, "n"_a, "ks"_a, "k_count"_a,
          "k_most"_a, "closed"_a, "rule"_a, "partner_stride"_a, "n_x"_a, "n_y"_a, "tied"_a, "stream"_a,
          "n_x, n_y (P, n, K) int64 and tied (P, n, K) bytes.");
}
