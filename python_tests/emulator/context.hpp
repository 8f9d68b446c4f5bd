// A stack and a place in a program, to leave and to come back to. On x86-64 a switch saves what the calling convention
// asks a function to keep and changes the stack (System V ABI, 3.2.1); swapcontext, for other machines, asks the kernel
// for its signal mask every time.
#pragma once

#include <cstddef>
#include <cstdint>

#ifndef __x86_64__
#include <ucontext.h>
#endif

#include "sanitizers.hpp"

namespace msma::emulator {

#ifdef __x86_64__

// noipa: the compiler may not conclude that registers survive which it does not see written.
__attribute__((naked, noipa, no_sanitize("address"), no_sanitize("thread"))) inline void switch_stack(void** /*from*/,
                                                                                                      void* /*to*/) {
    asm("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
        "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
        "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}

struct Context {
    void* top = nullptr;

    // The first switch here calls entry, which never returns.
    void prepare(unsigned char* stack, size_t bytes, void (*entry)()) {
        uint64_t* end = reinterpret_cast<uint64_t*>(stack + bytes);
        end[-1] = 0;  // where entry would return to
        end[-2] = reinterpret_cast<uint64_t>(entry);
        for (int r = 3; r <= 8; ++r) end[-r] = 0;  // the six registers
        top = end - 8;
    }
};

MSMA_UNWATCHED inline void switch_context(Context& from, Context& to) { switch_stack(&from.top, to.top); }

#else

struct Context {
    ucontext_t state;

    void prepare(unsigned char* stack, size_t bytes, void (*entry)()) {
        getcontext(&state);
        state.uc_stack.ss_sp = stack;
        state.uc_stack.ss_size = bytes;
        state.uc_link = nullptr;
        makecontext(&state, entry, 0);
    }
};

MSMA_UNWATCHED inline void switch_context(Context& from, Context& to) { swapcontext(&from.state, &to.state); }

#endif

}  // namespace msma::emulator
