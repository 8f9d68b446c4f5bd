// Copies to shared memory that arrive late. Nothing is copied before the wait that promises it; until then the
// destination is poisoned, or all ones (NaN) without AddressSanitizer. For ThreadSanitizer the asking thread writes the
// destination twice, when it asks and when it waits: the hardware may write at any time between.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "fiber.hpp"
#include "shared_memory.hpp"

namespace msma::emulator {

typedef uint64_t Word __attribute__((may_alias));

inline bool aligned_16(const void* at) { return reinterpret_cast<uintptr_t>(at) % 16 == 0; }

MSMA_UNWATCHED inline void queue_copy(void* to, const void* from) {
    Fiber* self = machine.running;
    if (self->copies_open == self->copies_room) {
        self->copies_room = 2 * self->copies_room + 16;
        self->copies =
            static_cast<Copy*>(std::realloc(self->copies, sizeof(Copy) * static_cast<size_t>(self->copies_room)));
    }
    self->copies[self->copies_open++] = {to, from, self->groups};
}

// Takes the oldest copy of a group before `group` out of the queue, if there is one.
MSMA_UNWATCHED inline bool next_copy(int group, int& done, Copy& found) {
    const Fiber* self = machine.running;
    if (done == self->copies_open || self->copies[done].group >= group) return false;
    found = self->copies[done++];
    return true;
}

MSMA_UNWATCHED inline void drop_copies(int done) {
    Fiber* self = machine.running;
    for (int i = done; i < self->copies_open; ++i) self->copies[i - done] = self->copies[i];
    self->copies_open -= done;
}

MSMA_UNWATCHED inline int committed_groups() { return machine.running->groups; }

// At a thread's end.
MSMA_UNWATCHED inline void expect_no_copies() {
    const Fiber* self = machine.running;
    if (self->copies_open > 0) {
        fail("copies: thread %d ended with %d copies that it never waited for", self->thread, self->copies_open);
    }
}

}  // namespace msma::emulator

namespace msma::device {

inline void copy_16(void* shared, const void* global) {
    const int self = emulator::own_thread();
    if (!emulator::aligned_16(shared))
        emulator::fail("copy_16: thread %d: the destination is not aligned to 16 bytes", self);
    if (!emulator::aligned_16(global))
        emulator::fail("copy_16: thread %d: the source is not aligned to 16 bytes", self);
    if (!emulator::arena.holds(shared, 16)) {
        emulator::fail("copy_16: thread %d: the destination does not lie in shared memory that was taken", self);
    }
    emulator::Word* to = static_cast<emulator::Word*>(shared);
    to[0] = to[1] = ~uint64_t{0};
    emulator::poison(shared, 16);
    emulator::queue_copy(shared, global);
}

MSMA_UNWATCHED inline void commit_copies() { ++emulator::machine.running->groups; }

template <int kOpen>
void wait_copies() {
    static_assert(kOpen >= 0, "groups that may stay open");
    int done = 0;
    emulator::Copy copy;
    while (emulator::next_copy(emulator::committed_groups() - kOpen, done, copy)) {
        emulator::unpoison(copy.to, 16);
        const emulator::Word* from = static_cast<const emulator::Word*>(copy.from);
        emulator::Word* to = static_cast<emulator::Word*>(copy.to);
        to[0] = from[0];
        to[1] = from[1];
    }
    emulator::drop_copies(done);
}

}  // namespace msma::device
