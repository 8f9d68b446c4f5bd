// Builds the partitions of a problem, chooses the search for this machine and shares the queries out.
#include "msma/tree.hpp"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "msma/cpu.hpp"
#include "parallel.hpp"
#include "tree_build.hpp"
#include "work.hpp"

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

int threads_for(int64_t rows, int threads) {
    return static_cast<int>(std::clamp<int64_t>(rows / kThreadPoints, 1, threads));
}

// Calls run(search, threads) with the partitions of the problem.
template <typename T, typename Run>
void with_search(const TreeProblem<T>& problem, const Run& run) {
    const int64_t n = problem.x.count;
    if (n == 0) return;
    const bool self = problem.y == nullptr;
    const Rows<T>& y = self ? problem.x : *problem.y;
    const int threads = threads_for(n + y.count, problem.threads);
    const Tree points = build_tree(y, problem.point_groups, threads, true);
    const Tree queries = self ? Tree() : build_tree(problem.x, problem.groups, threads, false);
    const TreeSearch search{points.view,
                            self ? points.view : queries.view,
                            problem.kernel.kind,
                            problem.kernel.p,
                            self,
                            static_cast<int32_t>(std::min<int64_t>(problem.window, kTreePoints))};
    run(search, threads);
}

// Calls run(positions, worker) for all queries, in tasks.
template <typename Run>
void share_out(const TreeSearch& search, int threads, const Run& run) {
    const int64_t n = search.queries.count;
    parallel_for(ceil_div(n, kTaskQueries), threads,
                 [&](int64_t task, int worker) { run(nth(task, kTaskQueries, n), worker); });
}

// One thread's counts of pairs.
class OwnedTally {
  public:
    explicit OwnedTally(const TreeView& points) : counts_(static_cast<size_t>(size_of(points))) {
        int32_t* next = counts_.data();
        view.points = next;
        next += points.blocks * kBlock;
        for (int level = 0; level < points.levels; ++level) {
            view.nodes[level] = next;
            next += int64_t{1} << points.level[level].depth;
        }
    }

    Tally view{};

  private:
    static int64_t size_of(const TreeView& points) {
        int64_t size = points.blocks * kBlock;
        for (int level = 0; level < points.levels; ++level) size += int64_t{1} << points.level[level].depth;
        return size;
    }

    std::vector<int32_t> counts_;
};

void count_pairs(const TreeBody& body, const TreeSearch& search, int threads, double threshold, int64_t* counts) {
    const TreeView& view = search.points;
    const std::vector<OwnedTally> tallies = [&] {
        std::vector<OwnedTally> made;
        made.reserve(static_cast<size_t>(threads));
        for (int worker = 0; worker < threads; ++worker) made.emplace_back(view);
        return made;
    }();
    share_out(search, threads, [&](Range positions, int worker) {
        body.count_pairs(search, positions, threshold, tallies[static_cast<size_t>(worker)].view);
    });
    const int last = view.levels - 1;
    for (int64_t leaf = 0; leaf < int64_t{1} << view.level[last].depth; ++leaf) {
        int64_t common = 0;
        for (const OwnedTally& tally : tallies) {
            for (int level = 0; level <= last; ++level) common += tally.view.nodes[level][leaf >> 3 * (last - level)];
        }
        const Range blocks = view.blocks_of(last, leaf);
        for (int64_t at = blocks.begin * kBlock; at < std::min(blocks.end * kBlock, view.count); ++at) {
            int64_t count = common;
            for (const OwnedTally& tally : tallies) count += tally.view.points[at];
            counts[view.index[at]] = count;
        }
    }
}

void count_within(const TreeSearch& search, int threads, const double* thresholds, int64_t* counts) {
    const TreeBody body = best_body();
    const double* const end = thresholds + search.queries.count;
    if (search.self && std::all_of(thresholds, end, [&](double t) { return t == thresholds[0]; })) {
        count_pairs(body, search, threads, thresholds[0], counts);
        return;
    }
    share_out(search, threads, [&](Range positions, int) { body.count(search, positions, thresholds, counts); });
}

}  // namespace

template <typename T>
void tree_knn(const TreeProblem<T>& problem, int64_t k, double* keys, int64_t* indices, int64_t* candidates) {
    const TreeBody body = best_body();
    with_search(problem, [&](const TreeSearch& search, int threads) {
        share_out(search, threads,
                  [&](Range positions, int) { body.knn(search, positions, k, keys, indices, candidates); });
    });
}

template <typename T>
void tree_count(const TreeProblem<T>& problem, const double* thresholds, int64_t* counts) {
    with_search(problem,
                [&](const TreeSearch& search, int threads) { count_within(search, threads, thresholds, counts); });
}

struct TreeCounter::Parts {
    Tree points;
    TreeSearch search;
};

TreeCounter::TreeCounter(const TreeProblem<double>& problem) {
    const int threads = threads_for(2 * problem.x.count, problem.threads);
    Tree points = build_tree(problem.x, problem.groups, threads, true);
    const TreeSearch search{
        points.view,      points.view, problem.kernel.kind,
        problem.kernel.p, true,        static_cast<int32_t>(std::min<int64_t>(problem.window, kTreePoints))};
    parts_.reset(new Parts{std::move(points), search});
}

TreeCounter::~TreeCounter() = default;

void TreeCounter::count(const double* thresholds, int threads, int64_t* counts) const {
    const TreeSearch& search = parts_->search;
    count_within(search, threads_for(2 * search.points.count, threads), thresholds, counts);
}

template void tree_knn(const TreeProblem<float>&, int64_t, double*, int64_t*, int64_t*);
template void tree_knn(const TreeProblem<double>&, int64_t, double*, int64_t*, int64_t*);
template void tree_count(const TreeProblem<float>&, const double*, int64_t*);
template void tree_count(const TreeProblem<double>&, const double*, int64_t*);

}  // namespace msma
