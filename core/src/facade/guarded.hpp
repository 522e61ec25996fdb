// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <new>
#include <switchyard/result.hpp>

#include "host/float_state.hpp"

namespace switchyard {

/// Nothing that runs out of memory throws at the caller, and the host's rounding mode changes no
/// bit of what is computed outside kernels.
template <class F>
auto guarded(F &&f) -> decltype(f()) {
  const FloatStateGuard state;
  try {
    return f();
  } catch (const std::bad_alloc &) {
    return fail(ErrorCode::out_of_memory, "out of memory");  // short enough to need none
  }
}

}  // namespace switchyard
