// What the emulator tells AddressSanitizer and ThreadSanitizer; nothing without them.
#pragma once

#include <cstddef>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

// The emulator's own records are shared by all fibers without barriers, and are no business of a sanitizer. Such a
// function holds plain loads and stores alone: what it calls is watched again.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MSMA_UNWATCHED __attribute__((no_sanitize("address"), no_sanitize("thread"), noinline))
#else
#define MSMA_UNWATCHED
#endif

namespace msma::emulator {

#ifdef __SANITIZE_ADDRESS__
constexpr bool kAddresses = true;
inline void poison(void* at, size_t bytes) { __asan_poison_memory_region(at, bytes); }
inline void unpoison(void* at, size_t bytes) { __asan_unpoison_memory_region(at, bytes); }
#else
constexpr bool kAddresses = false;
inline void poison(void*, size_t) {}
inline void unpoison(void*, size_t) {}
#endif

#ifdef __SANITIZE_THREAD__
constexpr bool kRaces = true;
constexpr unsigned kUnordered = 1;  // a switch of fibers orders no memory
inline void* make_watched_thread() { return __tsan_create_fiber(0); }
inline void end_watched_thread(void* thread) { __tsan_destroy_fiber(thread); }
inline void* watched_thread() { return __tsan_get_current_fiber(); }
MSMA_UNWATCHED inline void watch(void* thread) { __tsan_switch_to_fiber(thread, kUnordered); }
MSMA_UNWATCHED inline void release(void* at) { __tsan_release(at); }
MSMA_UNWATCHED inline void acquire(void* at) { __tsan_acquire(at); }
#else
constexpr bool kRaces = false;
inline void* make_watched_thread() { return nullptr; }
inline void end_watched_thread(void*) {}
inline void* watched_thread() { return nullptr; }
inline void watch(void*) {}
inline void release(void*) {}
inline void acquire(void*) {}
#endif

}  // namespace msma::emulator
