// The floating-point rules of one scope: round to nearest, subnormals kept; the caller's rules come back at
// its end. torch.set_flush_denormal and some libraries switch subnormals off for a whole thread, and keys
// must not notice.
#pragma once

#if defined(__SSE2__) || defined(_M_X64)
#include <immintrin.h>
#else
#include <cfenv>
#endif

namespace msma {

class DefaultFpEnvironment {
  public:
    DefaultFpEnvironment(const DefaultFpEnvironment&) = delete;
    DefaultFpEnvironment& operator=(const DefaultFpEnvironment&) = delete;

#if defined(__SSE2__) || defined(_M_X64)
    DefaultFpEnvironment() : saved_(_mm_getcsr()) { _mm_setcsr(0x1f80); }  // all exceptions masked, no flags
    ~DefaultFpEnvironment() { _mm_setcsr(saved_); }

  private:
    unsigned saved_;
#else
    DefaultFpEnvironment() {
        std::fegetenv(&saved_);
        std::fesetenv(FE_DFL_ENV);
    }
    ~DefaultFpEnvironment() { std::fesetenv(&saved_); }

  private:
    std::fenv_t saved_;
#endif
};

}  // namespace msma
