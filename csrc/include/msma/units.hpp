// Exactly duplicate rows are searched once: points that are equal in every coordinate and in their label form a unit.
// msma_fast/backends/torch/collapse.py says why the nearest units hold the nearest points.
#pragma once

#include <cstdint>
#include <vector>

#include "msma/keys.hpp"

namespace msma {

// Unit u owns members[start[u]] to members[start[u] + size[u] - 1], ascending; units are numbered by first member.
struct Units {
    std::vector<int64_t> first, start, size;  // (u,)
    std::vector<int64_t> unit, members;       // (m,)
};

// Empty where no row is repeated. labels (m,) or null; -0.0 equals 0.0.
template <typename T>
Units find_units(const Rows<T>& rows, const int32_t* labels, int threads);

// near (n, w) units ascending by (key, first member) with their keys, -1 for none -> (n, k) points ascending by
// (key, index), inf and -1 where there are fewer. The row of a self-search is left out; own null: another point set.
struct Expansion {
    const int64_t *start, *size, *members;
    const double* keys;
    const int64_t* near;
    const int64_t* own;
    int64_t n, width;
};
void expand_units(const Expansion& given, int64_t k, int threads, double* keys, int64_t* indices);

// roots[t] = sqrt(values[t]), correctly rounded.
void roots(const double* values, int64_t count, int threads, double* roots);

}  // namespace msma
