// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Kernels see the default floating-point state whatever the host program has set.

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace switchyard {

/// Sets round-to-nearest, no flush to zero, exceptions masked; restores on destruction.
class FloatStateGuard {
 public:
#if defined(__x86_64__)
  static constexpr unsigned kDefault = 0x1F80;
  FloatStateGuard() noexcept : saved_(_mm_getcsr()) {
    // The six sticky status flags do not matter, and writing the register is not free.
    if ((saved_ & ~0x3Fu) != kDefault) _mm_setcsr(kDefault);
  }
  ~FloatStateGuard() {
    if ((saved_ & ~0x3Fu) != kDefault) _mm_setcsr(saved_);
  }

 private:
  unsigned saved_;
#else
  FloatStateGuard() noexcept {}
  ~FloatStateGuard() {}

 public:
#endif
  FloatStateGuard(const FloatStateGuard &) = delete;
  FloatStateGuard &operator=(const FloatStateGuard &) = delete;
};

}  // namespace switchyard
