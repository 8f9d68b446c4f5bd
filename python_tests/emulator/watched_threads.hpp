// ThreadSanitizer's threads. One costs about a millisecond and 0.8 MB to make, so blocks use them again. But what a
// thread did before comes, to ThreadSanitizer, before all it does: of two blocks with the same threads no race is
// found. So three sets of threads take turns, and two of three pairs of blocks have different ones; which pairs, the
// seed decides by the order of blocks.
#pragma once

#include <cstdint>
#include <vector>

#include "sanitizers.hpp"

namespace msma::emulator {

class WatchedThreads {
  public:
    WatchedThreads() = default;
    WatchedThreads(const WatchedThreads&) = delete;
    WatchedThreads& operator=(const WatchedThreads&) = delete;
    ~WatchedThreads() {  // a program's end waits a second for threads that live
        for (const std::vector<void*>& set : sets_) {
            for (void* each : set) {
                if (each != nullptr) end_watched_thread(each);
            }
        }
    }

    // Of the turn-th block of a launch.
    void* of(int64_t turn, int thread) {
        if (!kRaces) return nullptr;
        void*& found = place(turn, thread);
        if (found == nullptr) found = make_watched_thread();
        return found;
    }

    // A thread that did not come to its end still stands in a kernel's functions.
    void drop(int64_t turn, int thread) {
        if (!kRaces) return;
        end_watched_thread(place(turn, thread));
        place(turn, thread) = nullptr;
    }

  private:
    static constexpr int kSets = 3;

    void*& place(int64_t turn, int thread) {
        std::vector<void*>& set = sets_[turn % kSets];
        const size_t index = static_cast<size_t>(thread);
        if (set.size() <= index) set.resize(index + 1, nullptr);
        return set[index];
    }

    std::vector<void*> sets_[kSets];
};

}  // namespace msma::emulator
