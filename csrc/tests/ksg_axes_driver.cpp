// KSG in few dimensions against every pair's key, for the sanitizers: both estimators, sizes around blocks of points,
// more neighbours than registers, ties, constants, labels, windows, one thread and three, and a matrix with its right
// side.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include "msma/cpu.hpp"
#include "msma/keys.hpp"
#include "msma/ksg.hpp"

namespace {

using namespace msma;

struct Shape {
    int64_t n, dx, dy;
};

enum class Data { normal, lattice, mostly_equal };

std::vector<double> made(std::mt19937& generator, Data data, int64_t size) {
    std::normal_distribution<double> normal;
    std::vector<double> values(static_cast<size_t>(size));
    for (double& v : values) {
        v = normal(generator);
        if (data == Data::lattice) v = std::round(2.0 * v);
        if (data == Data::mostly_equal && generator() % 10) v = 0.25;
    }
    return values;
}

// One row by its definition.
struct Row {
    int64_t n_x, n_y, neighbors;
    bool tied;
    double local;
};

Row row_of(const Rows<double>& x, const Rows<double>& y, const LowKsg& asked, int64_t k, int64_t i) {
    struct Other {
        double joint, x, y;
    };
    const Kernel kernel{asked.kind, 0, nullptr};
    std::vector<double> in_x(static_cast<size_t>(x.count)), in_y(in_x.size());
    block_keys(kernel, Rows<double>{x.row(i), nullptr, 1, x.dimension}, x, 1, in_x.data());
    block_keys(kernel, Rows<double>{y.row(i), nullptr, 1, y.dimension}, y, 1, in_y.data());
    std::vector<Other> others;  // in increasing row
    for (int64_t j = 0; j < x.count; ++j) {
        if (std::abs(i - j) <= asked.window || (asked.groups && asked.groups[i] == asked.groups[j])) continue;
        const auto at = static_cast<size_t>(j);
        others.push_back({std::max(in_x[at], in_y[at]), in_x[at], in_y[at]});
    }
    std::stable_sort(others.begin(), others.end(), [](const Other& a, const Other& b) { return a.joint < b.joint; });
    const double eps = others[static_cast<size_t>(k - 1)].joint;
    double reach_x = 0.0, reach_y = 0.0;
    for (size_t t = 0; t < static_cast<size_t>(k); ++t) {
        reach_x = std::max(reach_x, others[t].x);
        reach_y = std::max(reach_y, others[t].y);
    }
    const auto count = [&](double Other::* key, double reach) {
        return std::count_if(others.begin(), others.end(),
                             [&](const Other& other) { return asked.closed ? other.*key <= reach : other.*key < eps; });
    };
    const auto found = static_cast<int64_t>(others.size());
    Row row{count(&Other::x, reach_x), count(&Other::y, reach_y), found + 1,
            k < found && others[static_cast<size_t>(k)].joint == eps, 0.0};
    const int64_t more = asked.closed ? 0 : 1;
    double term = asked.psi[k] + asked.psi[row.neighbors];
    if (asked.closed) term -= 1.0 / static_cast<double>(k);
    row.local = term - asked.psi[row.n_x + more] - asked.psi[row.n_y + more];
    return row;
}

bool agree(Kind kind, Shape shape, Data data, bool closed, bool labelled, int64_t window, int threads) {
    std::mt19937 generator(7);
    const int64_t n = shape.n;
    const std::vector<double> a = made(generator, data, n * shape.dx), b = made(generator, data, n * shape.dy);
    const Rows<double> x{a.data(), nullptr, n, shape.dx}, y{b.data(), nullptr, n, shape.dy};
    std::vector<int32_t> labels(static_cast<size_t>(n));
    for (int32_t& label : labels) label = static_cast<int32_t>(generator() % 9) - 4;
    std::vector<int64_t> ks{1, std::min<int64_t>(5, n - 1)};
    if (n > 60) ks.push_back(20);
    std::vector<double> psi(static_cast<size_t>(n + 1));  // any table will do
    for (size_t c = 0; c < psi.size(); ++c) psi[c] = std::sqrt(static_cast<double>(c));
    const auto count = static_cast<int64_t>(ks.size());
    const LowKsg asked{kind, closed, ks.data(), count, labelled ? labels.data() : nullptr, window, psi.data(), threads};

    const auto size = static_cast<size_t>(n * count);
    std::vector<double> local(size);
    std::vector<int64_t> n_x(size), n_y(size), neighbors(static_cast<size_t>(n));
    const auto tied = std::make_unique<bool[]>(size);
    if (!ksg_low(x, y, asked, {local.data(), n_x.data(), n_y.data(), tied.get(), neighbors.data()})) return false;
    std::vector<double> sums(ks.size());
    const int64_t step = n > 1000 ? n / 40 : 1;
    for (int64_t i = 0; i < n; i += step) {
        for (int64_t c = 0; c < count; ++c) {
            const Row row = row_of(x, y, asked, ks[static_cast<size_t>(c)], i);
            const auto at = static_cast<size_t>(i * count + c);
            if (n_x[at] != row.n_x || n_y[at] != row.n_y || tied[at] != row.tied || local[at] != row.local ||
                neighbors[static_cast<size_t>(i)] != row.neighbors) {
                return false;
            }
        }
    }
    // (x, y) again, as a pair of two layers; and as the left and the right side of one.
    const Rows<double> layers[] = {x, y};
    std::vector<double> both(static_cast<size_t>(4 * count)), one(static_cast<size_t>(count));
    if (!ksg_low_matrix(layers, nullptr, 2, asked, both.data())) return false;
    if (!ksg_low_matrix(layers, layers + 1, 1, asked, one.data())) return false;
    for (int64_t c = 0; c < count; ++c) {
        double sum = 0.0;
        for (int64_t i = 0; i < n; ++i) sum += local[static_cast<size_t>(i * count + c)];
        const double mean = sum / static_cast<double>(n), limit = 1e-9 * static_cast<double>(n);
        const auto at = static_cast<size_t>(c), wide = static_cast<size_t>(count);
        for (const double found : {both[wide + at], both[2 * wide + at], one[at]}) {
            if (!(std::fabs(found - mean) <= limit)) return false;
        }
    }
    return true;
}

}  // namespace

int main() {
    int wrong = 0;
    const auto check = [&](Kind kind, Shape shape, Data data, bool closed, bool labelled, int64_t window, int threads) {
        if (agree(kind, shape, data, closed, labelled, window, threads)) return;
        std::printf("kind %d, %d rows of %d and %d, data %d: counts differ\n", static_cast<int>(kind),
                    static_cast<int>(shape.n), static_cast<int>(shape.dx), static_cast<int>(shape.dy),
                    static_cast<int>(data));
        ++wrong;
    };
    for (const Kind kind : {Kind::sqeuclidean, Kind::chebyshev}) {
        for (const bool closed : {false, true}) {
            for (const Data data : {Data::normal, Data::lattice, Data::mostly_equal}) {
                for (const int64_t n : {2, 8, 9}) check(kind, {n, 1, 2}, data, closed, false, 0, 1);
                for (const auto& [dx, dy] : {std::pair{1, 1}, {1, 3}, {2, 1}, {2, 2}, {3, 2}, {3, 3}}) {
                    check(kind, {137, dx, dy}, data, closed, false, 0, 3);
                    check(kind, {137, dx, dy}, data, closed, true, 4, 1);
                    check(kind, {137, dx, dy}, data, closed, false, 7, 1);
                }
            }
        }
        check(kind, {33000, 1, 1}, Data::normal, false, false, 0, 3);
    }
    std::printf("%s: %s\n", name_of(instruction_set()), wrong ? "FAILED" : "passed");
    return wrong ? 1 : 0;
}
