// SPDX-License-Identifier: Apache-2.0
#pragma once
/// D* of switchyard/ops/kmeans.h, and tensors as pointers.

#include <switchyard/plugin.h>

#include <cmath>
#include <cstdint>

namespace switchyard::reference {

template <class T>
T *data(const sy_tensor *t) noexcept {
  return t == nullptr ? nullptr
                      : reinterpret_cast<T *>(static_cast<char *>(t->handle) + t->byte_offset);
}

/// D*(x, c).
inline float distance(const float *x, const float *c, std::int64_t d) noexcept {
  float a[16] = {};
  for (std::int64_t m = 0; m < d; ++m) {
    const float t = x[m] - c[m];
    a[m & 15] = std::fma(t, t, a[m & 15]);
  }
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) a[i] += a[i + half];
  return a[0];
}

}  // namespace switchyard::reference
