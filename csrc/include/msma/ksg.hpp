// Counting for the Kraskov-Stoegbauer-Grassberger estimators: raw pointers and sizes, no Python and no torch.
//
// Key K_x(i, j) of a marginal: canonical (see keys.hpp), sqeuclidean or chebyshev. Joint key: max(K_x, K_y).
//   KSG1  eps the k-th smallest joint key of row i;             n_x = #{j: K_x < eps}
//   KSG2  eps_x the largest K_x of the k joint neighbours by (key, index); n_x = #{j: K_x <= eps_x}
// over the admissible j: not i, not of i's label, not at most `window` rows away. N_i = 1 + how many these are.
//   KSG1  local = psi(k) + psi(N_i) - psi(n_x + 1) - psi(n_y + 1)
//   KSG2  local = psi(k) + psi(N_i) - 1/k - psi(n_x) - psi(n_y)
// Source: Phys. Rev. E 69, 066138 (2004).
#pragma once

#include <cstdint>

#include "msma/keys.hpp"

namespace msma {

constexpr int64_t kLowDimension = 3;  // the most coordinates of a marginal here

struct LowKsg {
    Kind kind;              // sqeuclidean or chebyshev
    bool closed;            // KSG2
    const int64_t* ks;      // (count,) each from 1 to n - 1
    int64_t count;          // K
    const int32_t* groups;  // (n,) labels, or null
    int64_t window;
    const double* psi;  // (n + 1,) psi[c] = digamma(c)
    int threads;
};

// Arrays of one paired sample, by rows.
struct LowCounts {
    double* local;       // (n, K)
    int64_t *n_x, *n_y;  // (n, K)
    bool* tied;          // (n, K) whether another row has the k-th joint key
    int64_t* neighbors;  // (n,) N_i
};

// Samples x (n, dx) and y (n, dy), 1 <= dx, dy <= 3. False, and nothing is written, where a value is not finite or a
// key might overflow.
bool ksg_low(const Rows<double>& x, const Rows<double>& y, const LowKsg& asked, const LowCounts& out);

// means (L, L, K) of the local terms of (left[a], right[b]), a <= b, mirrored; every row needs max(ks) admissible ones.
// False as above. right null: left.
bool ksg_low_matrix(const Rows<double>* left, const Rows<double>* right, int64_t layers, const LowKsg& asked,
                    double* means);

}  // namespace msma
