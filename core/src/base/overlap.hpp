// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Whether two elements of a strided tensor may share an address: outputs must not.

#include <switchyard/plugin.h>
#include <algorithm>
#include <cstdlib>

namespace switchyard {

/// Dimensions in order of their stride must not reach into the next one.
inline bool may_overlap(const sy_tensor &t) noexcept {
  std::int64_t strides[SY_MAX_RANK], extents[SY_MAX_RANK];
  int n = 0;
  for (int k = 0; k < t.rank; ++k) {
    if (t.shape[k] == 0) return false;
    if (t.shape[k] == 1) continue;
    const std::int64_t stride = std::abs(t.strides[k]);
    int at = n++;
    for (; at > 0 && strides[at - 1] > stride; --at) {
      strides[at] = strides[at - 1];
      extents[at] = extents[at - 1];
    }
    strides[at] = stride;
    extents[at] = t.shape[k] - 1;
  }
  std::int64_t reach = 0;
  for (int i = 0; i < n; ++i) {
    if (strides[i] <= reach) return true;
    reach += extents[i] * strides[i];
  }
  return false;
}

}  // namespace switchyard
