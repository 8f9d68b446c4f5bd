// Runs the blocks of a launch one after another, in a random order, and the threads of a block as fibers, each until it
// waits, ends, or (at an atomic) lets others go first. A divergence is found where it happens: at a barrier or a warp
// operation all threads concerned have to come to the same place, and none may have ended.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "copies.hpp"
#include "fiber.hpp"
#include "region.hpp"
#include "shared_memory.hpp"
#include "watched_threads.hpp"

namespace msma::emulator {

constexpr size_t kPage = 4096;
constexpr size_t kStack = (kAddresses || kRaces ? 256 : 64) * size_t{1024};

// A kernel with its arguments.
struct Body {
    void (*call)(void*);
    void* arguments;
};

inline Body body;

MSMA_UNWATCHED inline void leave_exited() {
    machine.running->state = State::exited;
    leave(true);
}

MSMA_UNWATCHED inline void enter_first() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &machine.scheduler_stack, &machine.scheduler_stack_bytes);
#endif
}

// Where every fiber begins. It never returns; unwatched, so that ThreadSanitizer's thread has left all functions by its
// end.
MSMA_UNWATCHED inline void run_fiber() {
    enter_first();
    body.call(body.arguments);
    expect_no_copies();
    leave_exited();
}

// Lets a thread run until it leaves.
MSMA_UNWATCHED inline void resume(Fiber& fiber) {
    machine.running = &fiber;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&machine.scheduler_fake_stack, fiber.stack, kStack);
#endif
    watch(fiber.watched);
    switch_context(machine.scheduler, fiber.context);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(machine.scheduler_fake_stack, nullptr, nullptr);
#endif
}

// Threads that wait for each other: a warp or the block.
struct Group {
    int waiting = 0;
    int exited = 0;
    const Fiber* waits = nullptr;  // one of those
    const Fiber* left = nullptr;
};

class Block {
  public:
    // The turn-th of its launch.
    Block(int64_t turn, int threads)
        : turn_(turn), threads_(threads), order_(new Order()), warps_(static_cast<size_t>(threads / kLanes)) {
        const size_t step = kStack + kPage;
        const size_t count = static_cast<size_t>(threads);
        const bool fresh = stacks().hold(step * count);
        if (fibers().size() < count) fibers().resize(count);
        machine.fibers = fibers().data();
        machine.threads = threads;
        machine.order = order_.get();
        machine.scheduler_watched = watched_thread();
        release(&machine.begin);
        for (int t = 0; t < threads; ++t) {
            unsigned char* page = stacks().data() + step * static_cast<size_t>(t);
            if (fresh) mprotect(page, kPage, PROT_NONE);  // a stack that grows too far ends here
            begin(fibers()[static_cast<size_t>(t)], t, page + kPage);
            ready_.push_back(t);
        }
    }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;

    // Whatever the threads did comes before the launch's end. Those of a failed launch are left where they are.
    ~Block() {
        for (int t = 0; t < threads_; ++t) end(fibers()[static_cast<size_t>(t)]);
    }

    // `window`: of how many of the threads that became ready last the next is chosen.
    MSMA_UNWATCHED void run(uint32_t window) {
        while (!ready_.empty()) {
            const uint32_t count = static_cast<uint32_t>(ready_.size());
            const size_t place = count - 1 - machine.random.below(std::min(window, count));
            const int thread = ready_[place];
            ready_[place] = ready_.back();
            ready_.pop_back();
            Fiber& fiber = machine.fibers[thread];
            resume(fiber);
            switch (fiber.state) {
                case State::ready:
                    ready_.push_back(thread);
                    break;
                case State::waits:
                    arrive(fiber);
                    break;
                case State::exited:
                    exit(fiber);
                    break;
                case State::failed:
                    acquire(machine.error);
                    throw std::runtime_error(machine.error);
            }
        }
    }

  private:
    // Of all launches: fibers and stacks are used again.
    static std::vector<Fiber>& fibers() {
        struct All {
            std::vector<Fiber> fibers;
            ~All() {
                for (const Fiber& each : fibers) std::free(each.copies);
            }
        };
        static All all;
        return all.fibers;
    }
    static Region& stacks() {
        static Region all;
        return all;
    }

    static WatchedThreads& watched_threads() {
        static WatchedThreads all;
        return all;
    }

    MSMA_UNWATCHED void begin(Fiber& fiber, int thread, unsigned char* stack) {
        Copy* copies = fiber.copies;
        const int room = fiber.copies_room;
        fiber = Fiber();
        fiber.copies = copies;
        fiber.copies_room = room;
        fiber.thread = thread;
        fiber.stack = stack;
        unpoison(stack, kStack);  // what an abandoned fiber left
        fiber.context.prepare(stack, kStack, run_fiber);
        fiber.watched = watched_threads().of(turn_, thread);
        release(&machine.begin);  // what was written to the stack just now, where arguments of a kernel will lie
        watch(fiber.watched);
        acquire(&machine.begin);
        watch(machine.scheduler_watched);
    }

    MSMA_UNWATCHED void end(const Fiber& fiber) {
        watch(fiber.watched);
        release(&machine.end);
        watch(machine.scheduler_watched);
        if (fiber.state != State::exited) watched_threads().drop(turn_, fiber.thread);
    }

    Group& warp_of(const Fiber& fiber) { return warps_[static_cast<size_t>(fiber.thread / kLanes)]; }

    MSMA_UNWATCHED void arrive(const Fiber& fiber) {
        Group& warp = warp_of(fiber);
        const bool whole = fiber.site.scope == Scope::block;
        const char* kind = whole ? "barrier" : "warp";
        expect_company(kind, fiber, warp);
        warp.waits = &fiber;
        ++warp.waiting;
        if (!whole) {
            if (warp.waiting == kLanes) go_on(warp, fiber.thread / kLanes * kLanes, kLanes);
            return;
        }
        expect_company(kind, fiber, block_);
        block_.waits = &fiber;
        if (++block_.waiting < threads_) return;
        for (Group& each : warps_) each.waiting = 0;
        go_on(block_, 0, threads_);
    }

    MSMA_UNWATCHED void exit(const Fiber& fiber) {
        Group& warp = warp_of(fiber);
        for (Group* group : {&warp, &block_}) {
            if (group->waiting > 0) {
                const bool whole = group->waits->site.scope == Scope::block;
                diverge(whole ? "barrier" : "warp", *group->waits, name(fiber) + " has ended");
            }
            ++group->exited;
            group->left = &fiber;
        }
    }

    MSMA_UNWATCHED void go_on(Group& group, int first, int count) {
        group.waiting = 0;
        for (int t = first; t < first + count; ++t) {
            machine.fibers[t].state = State::ready;
            ready_.push_back(t);
        }
    }

    void expect_company(const char* kind, const Fiber& fiber, const Group& group) const {
        if (group.exited > 0) diverge(kind, fiber, name(*group.left) + " has ended");
        if (group.waiting > 0 && !same(fiber.site, group.waits->site)) {
            diverge(kind, fiber, name(*group.waits) + " waits at " + name(group.waits->site));
        }
    }

    static bool same(const Site& a, const Site& b) {
        return a.line == b.line && std::strcmp(a.operation, b.operation) == 0 && std::strcmp(a.file, b.file) == 0;
    }

    static std::string name(const Fiber& fiber) { return "thread " + std::to_string(fiber.thread); }
    static std::string name(const Site& site) {
        return std::string(site.operation) + " " + site.file + ":" + std::to_string(site.line);
    }

    [[noreturn]] static void diverge(const char* kind, const Fiber& fiber, const std::string& other) {
        throw std::runtime_error(std::string(kind) + " divergence: " + name(fiber) + " waits at " + name(fiber.site) +
                                 ", but " + other + " (block " + std::to_string(machine.block[0]) + ", " +
                                 std::to_string(machine.block[1]) + ")");
    }

    int64_t turn_;
    int threads_;
    std::unique_ptr<Order> order_;  // at a new address for every block, so that nothing orders blocks
    std::vector<Group> warps_;
    Group block_;
    std::vector<int> ready_;
};

// All blocks of a launch.
inline void run_launch(const Body& kernel, int64_t blocks_x, int64_t blocks_y, int threads, int64_t shared_bytes) {
    machine.random.seed(settings.seed);
    machine.truncates = machine.random.below(2) == 1;
    // Any thread, or one of those that came last: then a warp runs as far ahead of the others as it may.
    const uint32_t window = machine.random.below(2) == 1 ? kLanes : 1u << 30;
    machine.blocks[0] = blocks_x;
    machine.blocks[1] = blocks_y;
    body = kernel;
    std::vector<int64_t> order(static_cast<size_t>(blocks_x * blocks_y));
    for (size_t b = 0; b < order.size(); ++b) {
        order[b] = static_cast<int64_t>(b);
        std::swap(order[b], order[machine.random.next() % (b + 1)]);
    }
    struct End {
        ~End() { acquire(&machine.end); }
    } end;
    for (size_t turn = 0; turn < order.size(); ++turn) {
        machine.block[0] = order[turn] % blocks_x;
        machine.block[1] = order[turn] / blocks_x;
        arena.begin(shared_bytes);
        {
            Block block(static_cast<int64_t>(turn), threads);
            block.run(window);
        }
        arena.check_red_zones();
    }
}

}  // namespace msma::emulator
