// One CUDA thread of the running block: its stack, where it stands, what it showed its warp, its open copies.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>

#include "context.hpp"
#include "random.hpp"
#include "sanitizers.hpp"

namespace msma::emulator {

constexpr int kLanes = 32;

enum class Scope { warp, block };

// A place of the program where threads wait for each other.
struct Site {
    Scope scope;
    const char* operation;
    const char* file;
    int line;
};

enum class State { ready, waits, exited, failed };

struct Copy {
    void* to;
    const void* from;
    int group;
};

struct Fiber {
    int thread = 0;
    State state = State::ready;
    Site site{};
    unsigned block_barriers = 0;   // so far
    unsigned warp_operations = 0;  // so far
    uint64_t shown[2][3] = {};     // by even and odd warp operations

    Copy* copies = nullptr;
    int copies_open = 0;
    int copies_room = 0;
    int groups = 0;  // committed

    Context context;
    unsigned char* stack = nullptr;
    void* watched = nullptr;  // ThreadSanitizer's thread
    void* fake_stack = nullptr;
};

// What barriers order, for ThreadSanitizer: even and odd ones on different words. A thread may release the next barrier
// before another acquires this one, which would order too much; it cannot be two ahead.
struct Order {
    uint64_t block[2];
    uint64_t warp[kLanes][2];
};

// The launch that runs; one at a time.
struct Machine {
    Fiber* running = nullptr;
    Fiber* fibers = nullptr;  // of the block
    int threads = 0;
    int64_t block[2] = {};
    int64_t blocks[2] = {};
    Order* order = nullptr;
    Random random;
    bool truncates = false;  // sums of products, see products.hpp

    Context scheduler;
    void* scheduler_watched = nullptr;
    void* scheduler_fake_stack = nullptr;
    const void* scheduler_stack = nullptr;
    size_t scheduler_stack_bytes = 0;

    char error[512] = {};
    uint64_t begin = 0;  // what a block's beginning and the launch's end order
    uint64_t end = 0;
};

inline Machine machine;

MSMA_UNWATCHED inline int own_thread() { return machine.running->thread; }

// From a thread back to the scheduler, until it is chosen again; never where `last`.
MSMA_UNWATCHED inline void leave([[maybe_unused]] bool last) {
    Fiber* self = machine.running;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(last ? nullptr : &self->fake_stack, machine.scheduler_stack,
                                   machine.scheduler_stack_bytes);
#endif
    watch(machine.scheduler_watched);
    switch_context(self->context, machine.scheduler);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(self->fake_stack, nullptr, nullptr);
#endif
}

MSMA_UNWATCHED inline void leave_failed() {
    machine.running->state = State::failed;
    leave(true);
}

// The launch fails with this message; the thread goes no further.
[[noreturn]] inline void fail(const char* format, ...) {
    va_list values;
    va_start(values, format);
    std::vsnprintf(machine.error, sizeof machine.error, format, values);
    va_end(values);
    release(machine.error);
    leave_failed();
    __builtin_unreachable();
}

MSMA_UNWATCHED inline void wait_at(const Site& site) {
    Fiber* self = machine.running;
    self->site = site;
    self->state = State::waits;
    leave(false);
}

// Gives other threads a turn, now and then.
MSMA_UNWATCHED inline void let_others() {
    if (machine.random.below(4) == 0) leave(false);
}

}  // namespace msma::emulator
