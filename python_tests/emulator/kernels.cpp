// Every kernel of csrc/cuda on the emulator, over sizes that fit no tile, against loops that say the same in the
// plainest way: the same bits, the same order. Arrays are as long as they must be, so that a sanitizer sees a step too
// far; python_tests/ test_cuda_kernels.py builds this file plainly, under the address sanitizer and under the thread
// sanitizer, and runs it under several seeds and contents of untouched shared memory.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "msma/cuda.hpp"
#include "settings.hpp"

namespace {

using msma::Kind;
using Neighbor = std::pair<double, int64_t>;

std::mt19937_64 numbers;
int failures = 0;

void check(bool right, const std::string& what) {
    if (right) return;
    std::printf("wrong: %s\n", what.c_str());
    ++failures;
}

double uniform() { return static_cast<double>(numbers() >> 11) * 0x1p-53; }

// An array of exactly this size, on the heap.
template <typename T>
std::unique_ptr<T[]> array(int64_t size) {
    return std::unique_ptr<T[]>(new T[static_cast<size_t>(size)]);
}

template <typename T>
struct Sample {
    int64_t count, dimension;
    std::unique_ptr<T[]> values;
    std::unique_ptr<double[]> norms;

    msma::Rows<T> rows() const { return {values.get(), norms.get(), count, dimension}; }
    double at(int64_t i, int64_t c) const { return static_cast<double>(values[i * dimension + c]); }
};

// Small integers now and then, so that keys tie and rows repeat.
template <typename T>
Sample<T> sample(int64_t count, int64_t dimension, bool coarse) {
    Sample<T> made{count, dimension, array<T>(count * dimension), array<double>(count)};
    for (int64_t t = 0; t < count * dimension; ++t) {
        made.values[t] = static_cast<T>(coarse ? 1.0 + std::floor(3.0 * uniform()) : 4.0 * uniform() - 2.0);
    }
    for (int64_t i = 0; i < count; ++i) {
        double lanes[8] = {};
        for (int64_t c = 0; c < dimension; ++c) {
            const double square = made.at(i, c) * made.at(i, c);
            lanes[c % 8] += square;
        }
        made.norms[i] = std::sqrt(((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
                                  ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7])));
    }
    return made;
}

template <typename T>
double key_of(Kind kind, int p, const Sample<T>& x, int64_t i, const Sample<T>& y, int64_t j) {
    double lanes[8] = {};
    bool equal = true;
    for (int64_t c = 0; c < x.dimension; ++c) {
        const double a = x.at(i, c), b = y.at(j, c), size = std::fabs(a - b);
        equal = equal && a == b;
        double& lane = lanes[c % 8];
        double power = size;
        for (int factor = 1; factor < p; ++factor) power *= size;
        if (kind == Kind::sqeuclidean) lane += size * size;
        if (kind == Kind::manhattan) lane += size;
        if (kind == Kind::chebyshev) lane = std::max(lane, size);
        if (kind == Kind::minkowski) lane += power;
        if (kind == Kind::inner_product || kind == Kind::cosine) lane += a * b;
    }
    if (kind == Kind::chebyshev) return *std::max_element(lanes, lanes + 8);
    const double total =
        ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
    if (kind == Kind::inner_product) return 0.0 - total;
    if (kind == Kind::cosine) return equal ? 0.0 : std::max(0.0, 1.0 - total / (x.norms[i] * y.norms[j]));
    return total;
}

// Labels, own columns, a window and second labels, each where it is asked for.
struct Excluded {
    std::unique_ptr<int32_t[]> own, labels, point_labels, partners;
    int32_t window;

    Excluded(int64_t n, int64_t m, bool self, bool labelled, bool partnered, int32_t wide) : window(wide) {
        const auto some = [](int64_t count, int most) {
            auto made = array<int32_t>(count);
            for (int64_t i = 0; i < count; ++i) made[i] = static_cast<int32_t>(numbers() % static_cast<unsigned>(most));
            return made;
        };
        if (self) {
            own = array<int32_t>(n);
            for (int64_t i = 0; i < n; ++i) own[i] = i % 7 == 3 ? -(1 << 30) : static_cast<int32_t>(i);
        }
        if (labelled) {
            labels = some(n, 5);
            point_labels = some(m, 5);
            if (self) std::copy(labels.get(), labels.get() + std::min(n, m), point_labels.get());
        }
        if (partnered) partners = some(n, 9);
    }
    msma::cuda::Rule rule() const { return {own.get(), window, labels.get(), point_labels.get(), partners.get()}; }
    bool admits(int64_t i, int64_t j) const {
        if (own != nullptr && std::abs(j - static_cast<int64_t>(own[i])) <= window) return false;
        if (labels != nullptr && labels[i] == point_labels[j]) return false;
        return partners == nullptr || partners[i] != partners[j];
    }
};

std::vector<Neighbor> least(std::vector<Neighbor> all, int64_t k) {
    std::sort(all.begin(), all.end());
    all.resize(static_cast<size_t>(k), {HUGE_VAL, -1});
    return all;
}

bool same(const double* keys, const int64_t* indices, const std::vector<Neighbor>& wanted) {
    for (size_t t = 0; t < wanted.size(); ++t) {
        if (keys[t] != wanted[t].first || indices[t] != wanted[t].second) return false;
    }
    return true;
}

constexpr Kind kKinds[] = {Kind::sqeuclidean, Kind::manhattan,     Kind::chebyshev,
                           Kind::minkowski,   Kind::inner_product, Kind::cosine};

template <typename T>
void neighbors(Kind kind, int64_t n, int64_t m, int64_t d, int64_t k, bool coarse, bool excluded) {
    const int p = kind == Kind::minkowski ? 3 : 0;
    const Sample<T> x = sample<T>(n, d, coarse), y = sample<T>(m, d, coarse);
    const Excluded who(n, m, excluded, excluded, false, excluded ? 2 : 0);
    const auto keys = array<double>(n * k);
    const auto indices = array<int64_t>(n * k);
    msma::cuda::knn({kind, p, nullptr}, x.rows(), y.rows(), who.rule(), k, keys.get(), indices.get(), 0);
    const std::string name = "kind " + std::to_string(static_cast<int>(kind)) + ", n " + std::to_string(n) + ", m " +
                             std::to_string(m) + ", d " + std::to_string(d) + ", k " + std::to_string(k);
    const auto thresholds = array<double>(n * 3);
    const auto counts = array<int64_t>(n * 3);
    std::vector<int64_t> columns, ends;
    std::vector<std::vector<Neighbor>> listed;
    for (int64_t i = 0; i < n; ++i) {
        std::vector<Neighbor> all, some;
        for (int64_t j = 0; j < m; ++j) {
            const double key = key_of(kind, p, x, i, y, j);
            if (who.admits(i, j)) all.emplace_back(key, j);
            if ((i + j) % 3 != 0 && i % 5 != 1) {
                some.emplace_back(key, j);
                columns.insert(columns.begin() + static_cast<int64_t>(columns.size()) - j % 2 * (some.size() > 1), j);
            }
        }
        ends.push_back(static_cast<int64_t>(columns.size()));
        listed.push_back(least(some, k));
        check(same(keys.get() + i * k, indices.get() + i * k, least(all, k)), "knn, " + name);
        for (int64_t t = 0; t < 3; ++t) {  // at a key, below all, above all
            thresholds[i * 3 + t] = t == 0 && !all.empty() ? all[all.size() / 2].first : t == 1 ? -HUGE_VAL : HUGE_VAL;
        }
    }
    msma::cuda::radius_count({kind, p, nullptr}, x.rows(), y.rows(), who.rule(), thresholds.get(), 3, counts.get(), 0);
    for (int64_t i = 0; i < n; ++i) {
        for (int64_t t = 0; t < 3; ++t) {
            int64_t inside = 0;
            for (int64_t j = 0; j < m; ++j) {
                inside += who.admits(i, j) && key_of(kind, p, x, i, y, j) <= thresholds[i * 3 + t];
            }
            check(counts[i * 3 + t] == inside, "radius_count, " + name);
        }
    }
    const auto list = array<int64_t>(static_cast<int64_t>(columns.size()));
    std::copy(columns.begin(), columns.end(), list.get());
    msma::cuda::finish({kind, p, nullptr}, x.rows(), y.rows(), list.get(), ends.data(), n, 0, k, keys.get(),
                       indices.get(), 0);
    for (int64_t i = 0; i < n; ++i) {
        check(same(keys.get() + i * k, indices.get() + i * k, listed[static_cast<size_t>(i)]), "finish, " + name);
    }
}

void selection(int64_t rows, int64_t m, int64_t k, bool with_ids) {
    const auto values = array<double>(rows * m);
    const auto ids = array<int64_t>(rows * m);
    for (int64_t t = 0; t < rows * m; ++t) {
        values[t] = t % 11 == 0 ? (t % 2 ? 0.0 : -0.0) : std::floor(40.0 * uniform()) - 20.0;
        if (t % 13 == 0) values[t] = std::nan("");
        ids[t] = static_cast<int64_t>(numbers() >> 2);
    }
    const auto keys = array<double>(rows * k);
    const auto indices = array<int64_t>(rows * k);
    const std::string name = "rows " + std::to_string(rows) + ", m " + std::to_string(m) + ", k " + std::to_string(k);
    const auto wanted = [&](int64_t row, bool use_ids) {
        std::vector<Neighbor> all;
        for (int64_t c = 0; c < m; ++c) {
            const double value = values[row * m + c];
            if (value == value) all.emplace_back(value, use_ids ? ids[row * m + c] : c);
        }
        return least(all, k);
    };
    if (k <= msma::cuda::kMostNeighbors) {
        msma::cuda::select_k(values.get(), with_ids ? ids.get() : nullptr, rows, m, k, keys.get(), indices.get(), 0);
        for (int64_t r = 0; r < rows; ++r) {
            check(same(keys.get() + r * k, indices.get() + r * k, wanted(r, with_ids)), "select_k, " + name);
        }
    }
    msma::cuda::select_large(values.get(), rows, m, k, keys.get(), indices.get(), 0);
    for (int64_t r = 0; r < rows; ++r) {
        std::vector<Neighbor> found;
        bool ordered = true;
        for (int64_t t = 0; t < k; ++t) {
            if (indices[r * k + t] < 0) continue;
            ordered = ordered && (found.empty() || found.back().second < indices[r * k + t]);
            found.emplace_back(keys[r * k + t], indices[r * k + t]);
        }
        check(ordered && least(found, k) == wanted(r, false), "select_large, " + name);
    }
}

void information(Kind kind, int64_t n, int64_t width_x, int64_t width_y, std::vector<int32_t> ks, bool closed,
                 bool coarse, bool partnered) {
    std::vector<Sample<double>> samples;
    for (const int64_t width : {width_x, width_y, width_x}) samples.push_back(sample<double>(n, width, coarse));
    const double* pointers[] = {samples[0].values.get(), samples[1].values.get(), samples[2].values.get()};
    const int32_t widths[] = {static_cast<int32_t>(width_x), static_cast<int32_t>(width_y),
                              static_cast<int32_t>(width_x)};
    const int32_t pairs[] = {0, 1, 2, 1, 1, 1};
    const Excluded who(n, n, true, true, partnered, 1);
    const int64_t count = 3, k_count = static_cast<int64_t>(ks.size()),
                  k_most = *std::max_element(ks.begin(), ks.end());
    msma::cuda::Rule rule = who.rule();
    rule.point_labels = rule.labels;
    const msma::cuda::KsgBatch batch{pointers, widths, pairs, count, n, ks.data(), k_count, k_most, closed, rule, 0};
    const auto n_x = array<int64_t>(count * n * k_count), n_y = array<int64_t>(count * n * k_count);
    const auto tied = array<uint8_t>(count * n * k_count);
    msma::cuda::ksg(kind, batch, n_x.get(), n_y.get(), tied.get(), 0);
    for (int64_t pair = 0; pair < count; ++pair) {
        const Sample<double>&x = samples[pairs[2 * pair]], &y = samples[pairs[2 * pair + 1]];
        for (int64_t i = 0; i < n; ++i) {
            std::vector<Neighbor> joint;
            std::vector<double> keys_x(n), keys_y(n);
            for (int64_t j = 0; j < n; ++j) {
                keys_x[j] = key_of(kind, 0, x, i, x, j);
                keys_y[j] = key_of(kind, 0, y, i, y, j);
                if (std::abs(j - static_cast<int64_t>(who.own[i])) <= 1 || who.labels[i] == who.labels[j]) continue;
                if (partnered && who.partners[i] == who.partners[j]) continue;
                joint.emplace_back(std::max(keys_x[j], keys_y[j]), j);
            }
            std::sort(joint.begin(), joint.end());
            for (int64_t t = 0; t < k_count; ++t) {
                const size_t k = static_cast<size_t>(ks[t]);
                if (joint.size() < k) continue;
                double top_x = joint[k - 1].first, top_y = top_x;
                if (closed) {
                    top_x = top_y = -HUGE_VAL;
                    for (size_t s = 0; s < k; ++s) {
                        top_x = std::max(top_x, keys_x[joint[s].second]);
                        top_y = std::max(top_y, keys_y[joint[s].second]);
                    }
                }
                int64_t in_x = 0, in_y = 0;
                for (const Neighbor& each : joint) {
                    in_x += closed ? keys_x[each.second] <= top_x : keys_x[each.second] < top_x;
                    in_y += closed ? keys_y[each.second] <= top_y : keys_y[each.second] < top_y;
                }
                const bool tie = joint.size() > k && joint[k].first == joint[k - 1].first;
                const int64_t at = (pair * n + i) * k_count + t;
                check(n_x[at] == in_x && n_y[at] == in_y && (tied[at] != 0) == tie,
                      "ksg, n " + std::to_string(n) + ", k " + std::to_string(k) + (closed ? ", closed" : ", open"));
            }
        }
    }
}

uint16_t bfloat16_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
double of_bfloat16(uint16_t half) {
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// (rows, width) row by row to panels of 128 rows and 64 coordinates.
std::unique_ptr<uint16_t[]> panels(const uint16_t* values, int64_t rows, int64_t width) {
    auto made = array<uint16_t>(rows * width);
    for (int64_t i = 0; i < rows; ++i) {
        for (int64_t t = 0; t < width; ++t) {
            made[((i / 128 * (width / 64) + t / 64) * 128 + i % 128) * 64 + t % 64] = values[i * width + t];
        }
    }
    return made;
}

// What must be listed is, what must not is not, and between them, within what float32 sums may lose, either may be.
void collecting(int64_t n, int64_t m, int64_t width, int64_t limit, bool self, bool labelled) {
    const int64_t n_rows = (n + 127) / 128 * 128, m_rows = (m + 127) / 128 * 128, words = m_rows / 32;
    const auto b = array<uint16_t>(n_rows * width), p = array<uint16_t>(m_rows * width);
    for (int64_t t = 0; t < n_rows * width; ++t)
        b[t] = t < n * width ? bfloat16_of(static_cast<float>(uniform() - 0.5)) : 0;
    for (int64_t t = 0; t < m_rows * width; ++t)
        p[t] = t < m * width ? bfloat16_of(static_cast<float>(uniform() - 0.5)) : 0;
    const auto near_i = array<float>(n_rows), far_i = array<float>(n_rows), top = array<float>(n_rows);
    const auto c = array<float>(m_rows), near_word = array<float>(words), far_word = array<float>(words);
    for (int64_t i = 0; i < n_rows; ++i) {
        near_i[i] = static_cast<float>(0.02 * uniform());
        far_i[i] = static_cast<float>(0.01 * uniform());
        top[i] = static_cast<float>(2.0 * uniform() - 1.0);
        if (i % 9 == 4) top[i] = i % 2 ? -1e30f : 3.4028235e38f;
        if (i / 8 % 3 == 2) top[i] = -1e30f;  // eight queries that keep nobody but what is no number
    }
    for (int64_t j = 0; j < m_rows; ++j) c[j] = j < m ? static_cast<float>(uniform()) : HUGE_VALF;
    if (m > 40) c[40] = std::nanf("");
    for (int64_t w = 0; w < words; ++w) {
        near_word[w] = static_cast<float>(uniform());
        far_word[w] = static_cast<float>(uniform());
    }
    const Excluded who(n_rows, m_rows, self, labelled, false, self ? 3 : 0);
    const auto listed = array<int64_t>(n_rows * limit);
    const auto low = array<float>(n_rows * limit);
    const auto count = array<int32_t>(n_rows);
    std::fill(count.get(), count.get() + n_rows, 0);
    const auto b_panels = panels(b.get(), n_rows, width), p_panels = panels(p.get(), m_rows, width);
    const auto collect = [&](int64_t begin, int64_t end) {
        msma::cuda::collect({b_panels.get(), near_i.get(), far_i.get(), n_rows},
                            {p_panels.get(), near_word.get(), far_word.get(), m_rows}, c.get(), width, who.rule(),
                            top.get(), begin, end, limit, listed.get(), low.get(), count.get(), 0);
    };
    const int64_t middle = m_rows / 256 * 128;  // in two parts, the first of which may be empty
    collect(0, middle);
    collect(middle, m_rows);
    for (int64_t i = 0; i < n; ++i) {
        int64_t surely = 0, perhaps = 0, maskless = 0;  // words of which nobody may be left
        std::vector<uint32_t> must(words), may(words);
        std::vector<double> least_low(words, HUGE_VAL), most_low(words, HUGE_VAL);
        std::vector<bool> unknown(words);
        for (int64_t j = 0; j < m; ++j) {
            double product = 0.0, sizes = 0.0;
            for (int64_t t = 0; t < width; ++t) {
                const double term = of_bfloat16(b[i * width + t]) * of_bfloat16(p[j * width + t]);
                product += term;
                sizes += std::fabs(term);
            }
            const int64_t w = j / 32;
            const double margin =
                static_cast<double>(near_i[i]) * near_word[w] + static_cast<double>(far_i[i]) * far_word[w];
            const double lower = static_cast<double>(c[j]) - 2.0 * product - margin;
            const double slack =
                0x1p-21 * (static_cast<double>(width) + 16.0) * sizes + 0x1p-20 * (std::fabs(c[j]) + 2.0);
            const bool out = lower - slack > static_cast<double>(top[i]);
            const bool in = !(lower + slack > static_cast<double>(top[i]));
            if (who.admits(i, j)) {
                if (in) must[w] |= 1u << j % 32;
                if (!out) may[w] |= 1u << j % 32;
            } else if (!out) {
                unknown[w] = true;
            }
            if (lower != lower) unknown[w] = true;
            least_low[w] = std::min(least_low[w], lower - slack);
            most_low[w] = std::min(most_low[w], lower + slack);
        }
        for (int64_t w = 0; w < words; ++w) {
            surely += must[w] != 0;
            perhaps += may[w] != 0;
            maskless += may[w] == 0 && unknown[w];
        }
        check(count[i] >= surely && count[i] <= perhaps + maskless, "collect: the number of words");
        std::vector<bool> met(words);
        for (int64_t place = 0; place < std::min<int64_t>(count[i], limit); ++place) {
            const int64_t entry = listed[i * limit + place], w = entry & 0xFFFFFFFF;
            const uint32_t bits = static_cast<uint32_t>(entry >> 32);
            check(w < words && !met[w], "collect: a word once");
            if (w >= words) continue;
            met[w] = true;
            check((bits & ~may[w]) == 0 && (must[w] & ~bits) == 0, "collect: who is kept");
            const float bound = low[i * limit + place];
            check(!(bound > most_low[w]) && (unknown[w] || bound >= least_low[w]), "collect: the least bound");
        }
        if (count[i] <= limit) {
            for (int64_t w = 0; w < words; ++w) check(met[w] || must[w] == 0, "collect: nobody is lost");
        }
    }
}

void all(bool small) {
    for (const Kind kind : kKinds) {
        neighbors<float>(kind, 37, 71, 11, 5, false, true);
        neighbors<double>(kind, 18, 40, 35, 40, true, false);
    }
    neighbors<double>(Kind::manhattan, 1, 1, 1, 1, false, false);
    neighbors<float>(Kind::sqeuclidean, 5, 33, 64, 3, true, true);
    neighbors<float>(Kind::chebyshev, 3, 150, 3, 100, true, true);
    selection(3, 77, 9, true);
    selection(2, 300, 130, false);
    information(Kind::chebyshev, 45, 2, 9, {3, 1, 7}, false, false, false);
    information(Kind::sqeuclidean, 45, 3, 2, {4, 2}, true, true, true);
    information(Kind::chebyshev, 60, 2, 1, {33, 2}, true, false, false);
    collecting(130, 200, 64, 8, true, false);
    collecting(60, 140, 192, 4, true, true);
    collecting(100, 1100, 64, 9, true, false);  // several tiles of a block, the last block with fewer
    if (small) return;
    neighbors<double>(Kind::cosine, 4, 1500, 9, 1024, true, false);
    neighbors<float>(Kind::manhattan, 6, 700, 40, 65, false, true);
    for (const int64_t k : {1, 31, 32, 33, 64, 65, 255, 256, 257, 1023, 1024, 1500}) selection(2, 1500, k, k % 2 == 0);
    selection(1, 5000, 4999, false);
    information(Kind::chebyshev, 90, 1, 1, {60, 31, 32, 5}, true, true, false);
    information(Kind::sqeuclidean, 70, 40, 5, {33}, false, false, true);
    collecting(200, 900, 576, 40, false, false);
    collecting(128, 256, 128, 3, false, true);
}

}  // namespace

// kernels SEED FILL [small]
int main(int argc, char** argv) {
    if (argc < 3) return 2;
    const uint64_t seed = std::strtoull(argv[1], nullptr, 10);
    msma::emulator::set_seed(seed);
    msma::emulator::set_fill(static_cast<unsigned char>(std::strtoul(argv[2], nullptr, 16)));
    numbers.seed(seed);
    all(argc > 3);
    std::printf("%d wrong\n", failures);
    return failures == 0 ? 0 : 1;
}
