// Barriers, votes and shuffles. A thread shows its words, waits for its warp, and reads the others' words; even and odd
// operations use different words, because a lane may be one operation ahead of another, and no more.
#pragma once

#include <cstdint>
#include <cstring>

#include "fiber.hpp"

namespace msma::emulator {

// Shows these words at this operation and waits for the warp; the operation's parity, for seen().
MSMA_UNWATCHED inline int meet_warp(const Site& site, uint64_t first, uint64_t second = 0, uint64_t third = 0) {
    Fiber* self = machine.running;
    const int parity = static_cast<int>(self->warp_operations++ & 1);
    self->shown[parity][0] = first;
    self->shown[parity][1] = second;
    self->shown[parity][2] = third;
    wait_at(site);
    return parity;
}

MSMA_UNWATCHED inline uint64_t seen(int lane, int parity, int word = 0) {
    const int first = machine.running->thread / kLanes * kLanes;
    return machine.fibers[first + lane].shown[parity][word];
}

MSMA_UNWATCHED inline uint64_t* block_order() { return &machine.order->block[machine.running->block_barriers++ & 1]; }

MSMA_UNWATCHED inline uint64_t* warp_order() {
    const Fiber* self = machine.running;
    return &machine.order->warp[self->thread / kLanes][self->warp_operations & 1];
}

template <typename T>
T shuffled(T value, int from, const Site& site) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    if (from < 0 || from >= kLanes) {
        fail("%s: thread %d asks for lane %d of 0 to 31, at %s:%d", site.operation, own_thread(), from, site.file,
             site.line);
    }
    uint64_t word = 0;
    std::memcpy(&word, &value, sizeof(T));
    word = seen(from, meet_warp(site, word));
    std::memcpy(&value, &word, sizeof(T));
    return value;
}

}  // namespace msma::emulator

namespace msma::device {

inline void sync_block(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    uint64_t* order = emulator::block_order();
    emulator::release(order);
    emulator::wait_at({emulator::Scope::block, "sync_block", file, line});
    emulator::acquire(order);
}

inline void sync_warp(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    uint64_t* order = emulator::warp_order();
    emulator::release(order);
    emulator::meet_warp({emulator::Scope::warp, "sync_warp", file, line}, 0);
    emulator::acquire(order);
}

inline unsigned ballot(bool yes, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    const int parity = emulator::meet_warp({emulator::Scope::warp, "ballot", file, line}, yes);
    unsigned votes = 0;
    for (int l = 0; l < emulator::kLanes; ++l) votes |= static_cast<unsigned>(emulator::seen(l, parity)) << l;
    return votes;
}

inline bool any(bool yes, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return ballot(yes, file, line) != 0;
}

template <typename T>
T shuffle(T value, int from, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return emulator::shuffled(value, from, {emulator::Scope::warp, "shuffle", file, line});
}

template <typename T>
T shuffle_xor(T value, int mask, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    const int own = emulator::own_thread() % emulator::kLanes;
    return emulator::shuffled(value, own ^ mask, {emulator::Scope::warp, "shuffle_xor", file, line});
}

}  // namespace msma::device
