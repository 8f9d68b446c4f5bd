// Every pair of blocks of one row set, shared out among threads so that each owns the blocks it works on. Unlike the
// tiles of tiles.hpp the order may differ from run to run, and a body may throw.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

#include "parallel.hpp"

namespace msma {

// Runs body(a, b, worker) once for every unordered pair of blocks, a = b included. A thread owns both blocks while it
// works on them, so that what belongs to a row is only touched by one thread at a time.
template <typename Body>
void for_block_pairs(int64_t blocks, int threads, const Body& body) {
    struct Task {
        int64_t a, b, next;
    };
    std::vector<Task> tasks;
    tasks.reserve(static_cast<size_t>(blocks * (blocks + 1) / 2));
    // By distance around a circle: every block is met equally often at each stage.
    for (int64_t apart = 0; apart <= blocks / 2; ++apart) {
        const int64_t rounds = apart > 0 && 2 * apart == blocks ? apart : blocks;
        for (int64_t a = 0; a < rounds; ++a) {
            tasks.push_back({a, (a + apart) % blocks, static_cast<int64_t>(tasks.size()) + 1});
        }
    }
    const auto end = static_cast<int64_t>(tasks.size());
    int64_t head = 0;
    bool failed = false;
    std::vector<char> busy(static_cast<size_t>(blocks), 0);
    std::mutex lock;
    std::condition_variable freed;

    const auto flag = [&](int64_t block) -> char& { return busy[static_cast<size_t>(block)]; };
    // The first task whose blocks are both free, taken out of the list; `end` when there is none now.
    const auto take = [&] {
        int64_t* link = &head;
        for (int64_t t = head; t < end; t = *link) {
            Task& task = tasks[static_cast<size_t>(t)];
            if (!flag(task.a) && !flag(task.b)) {
                *link = task.next;
                flag(task.a) = flag(task.b) = 1;
                return t;
            }
            link = &task.next;
        }
        return end;
    };

    const auto workers = static_cast<int>(std::min<int64_t>(threads, end));
    parallel_for(workers, workers, [&](int64_t, int worker) {
        std::unique_lock<std::mutex> held(lock);
        while (head < end && !failed) {
            const int64_t t = take();
            if (t == end) {
                freed.wait(held);
                continue;
            }
            const Task task = tasks[static_cast<size_t>(t)];
            held.unlock();
            try {
                body(task.a, task.b, worker);
            } catch (...) {
                held.lock();
                failed = true;
                freed.notify_all();
                throw;
            }
            held.lock();
            flag(task.a) = flag(task.b) = 0;
            freed.notify_all();
        }
    });
}

}  // namespace msma
