// Builds the partitions of a problem, chooses the search for this machine and shares the queries out.
#include "msma/tree.hpp"

#include <algorithm>

#include "msma/cpu.hpp"
#include "parallel.hpp"
#include "tree_build.hpp"

namespace msma {
namespace {

TreeBody best_body() {
#ifdef MSMA_X86_BODIES
    if (at_least(InstructionSet::avx512)) return avx512::tree_body();
    if (at_least(InstructionSet::avx2)) return avx2::tree_body();
#endif
    return scalar::tree_body();
}

constexpr int64_t kTaskQueries = 64;    // neighbours in space, which share most of their paths
constexpr int64_t kThreadPoints = 512;  // points and queries that make a thread worth its start

// Calls run(search, positions) for all queries, in tasks.
template <typename T, typename Run>
void search_all(const TreeProblem<T>& problem, const Run& run) {
    const int64_t n = problem.x.count;
    if (n == 0) return;
    const bool self = problem.y == nullptr;
    const Rows<T>& y = self ? problem.x : *problem.y;
    const int64_t work = std::max<int64_t>(1, (n + y.count) / kThreadPoints);
    const int threads = static_cast<int>(std::min<int64_t>(problem.threads, work));
    const Tree points = build_tree(y, problem.point_groups, threads);
    const Tree queries = self ? Tree() : build_tree(problem.x, problem.groups, threads);
    const TreeSearch search{points.view,
                            self ? points.view : queries.view,
                            problem.kernel.kind,
                            problem.kernel.p,
                            self,
                            static_cast<int32_t>(std::min<int64_t>(problem.window, kTreePoints))};
    parallel_for((n + kTaskQueries - 1) / kTaskQueries, threads, [&](int64_t task, int) {
        run(search, Range{task * kTaskQueries, std::min(n, (task + 1) * kTaskQueries)});
    });
}

}  // namespace

template <typename T>
void tree_knn(const TreeProblem<T>& problem, int64_t k, double* keys, int64_t* indices, int64_t* candidates) {
    const TreeBody body = best_body();
    search_all(problem, [&](const TreeSearch& search, Range positions) {
        body.knn(search, positions, k, keys, indices, candidates);
    });
}

template <typename T>
void tree_count(const TreeProblem<T>& problem, const double* thresholds, int64_t* counts) {
    const TreeBody body = best_body();
    search_all(problem,
               [&](const TreeSearch& search, Range positions) { body.count(search, positions, thresholds, counts); });
}

template void tree_knn(const TreeProblem<float>&, int64_t, double*, int64_t*, int64_t*);
template void tree_knn(const TreeProblem<double>&, int64_t, double*, int64_t*, int64_t*);
template void tree_count(const TreeProblem<float>&, const double*, int64_t*);
template void tree_count(const TreeProblem<double>&, const double*, int64_t*);

}  // namespace msma
