// parallel_for: tasks shared out by an atomic counter among threads that live only for the call.
// There is no pool and no OpenMP, so nothing is left behind that a forked child would wait for.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "fp_environment.hpp"

namespace msma {

// Calls body(task, worker) once for every task in [0, tasks); worker < threads numbers the thread, 0 is the
// caller. The first exception stops the handing out of tasks and is thrown again here after every thread has
// ended.
template <typename Body>
void parallel_for(int64_t tasks, int threads, const Body& body) {
    std::atomic<int64_t> next{0};
    std::exception_ptr failure;
    std::mutex failure_lock;

    const auto work = [&](int worker) {
        const DefaultFpEnvironment environment;
        try {
            for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) body(task, worker);
        } catch (...) {
            next.store(tasks, std::memory_order_relaxed);
            const std::lock_guard<std::mutex> guard(failure_lock);
            if (!failure) failure = std::current_exception();
        }
    };

    const auto wanted = static_cast<int>(std::min<int64_t>(threads, tasks));
    std::vector<std::thread> helpers;
    helpers.reserve(static_cast<size_t>(std::max(wanted - 1, 0)));
    try {
        for (int worker = 1; worker < wanted; ++worker) helpers.emplace_back(work, worker);
    } catch (const std::system_error&) {
        // No more threads to be had: those that started, and the caller, do all the tasks.
    }
    work(0);
    for (std::thread& helper : helpers) helper.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace msma
