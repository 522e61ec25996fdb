// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "failure.hpp"

namespace switchyard::cpu {

/// Refuses calls with an input in the memory of a device.
[[gnu::always_inline]] static inline int32_t inputs_in_host_memory(const sy_call &call,
                                                                   sy_error *reason) {
  for (uint32_t i = 0; i < call.n_inputs; ++i)
    if (call.inputs[i] != nullptr && call.inputs[i]->device_kind != SY_DEVICE_HOST)
      return failure(reason, SY_E_UNSUPPORTED, "a tensor is not in host memory");
  return SY_OK;
}

}  // namespace switchyard::cpu
