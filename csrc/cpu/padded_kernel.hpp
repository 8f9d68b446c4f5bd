// A kernel as the bodies want it: the mahalanobis tensor has rows of whole lanes, the padding zero.
#pragma once

#include <algorithm>
#include <vector>

#include "body.hpp"

namespace msma {

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
