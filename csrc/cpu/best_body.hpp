// The kernel body of the canonical keys for this machine, and the kernel as the bodies want it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "body.hpp"
#include "msma/cpu.hpp"

namespace msma {

template <typename T>
KeyBody<T> best_body(Kind kind) {
#ifdef MSMA_X86_BODIES
    if (at_least(InstructionSet::avx512)) return avx512::key_body<T>(kind);
    if (at_least(InstructionSet::avx2)) return avx2::key_body<T>(kind);
#endif
    return scalar::key_body<T>(kind);
}

// The mahalanobis tensor with rows of whole lanes; the kernel itself otherwise.
class PaddedKernel {
  public:
    PaddedKernel(const Kernel& kernel, int64_t d) : kernel_(kernel) {
        const int64_t width = padded(d);
        if (kernel.kind != Kind::mahalanobis || width == d) return;
        tensor_.assign(static_cast<size_t>(d * width), 0.0);
        for (int64_t r = 0; r < d; ++r) std::copy_n(kernel.tensor + r * d, d, tensor_.data() + r * width);
        kernel_.tensor = tensor_.data();
    }

    const Kernel& get() const { return kernel_; }

  private:
    Kernel kernel_;
    std::vector<double> tensor_;
};

}  // namespace msma
