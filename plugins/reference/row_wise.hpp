// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the reference kernels share that take input 0 row by row.

#include <failure.hpp>

#include "kernels.hpp"
#include "quantize_values.hpp"

namespace switchyard::reference {

inline std::int32_t in_host_memory(const cpu::KernelDef &, const cpu::Context &,
                                   const sy_call &call, sy_error *reason) {
  if (call.inputs[0]->device_kind != SY_DEVICE_HOST)
    return cpu::failure(reason, SY_E_UNSUPPORTED, "the tensors are not in host memory");
  return SY_OK;
}

template <std::uint64_t kNsPerValue>
std::uint64_t estimate_values(const cpu::KernelDef &, const cpu::Context &, const sy_call &call) {
  const quant::Rows x(*call.inputs[0]);
  return 200 + static_cast<std::uint64_t>(x.count * x.cols) * kNsPerValue;
}

template <std::uint64_t kNsPerValue>
constexpr cpu::KernelDef row_wise_kernel(const char *op, const char *name, const char *numerics,
                                         const void *data, decltype(cpu::KernelDef::run) run) {
  return {.op = op,
          .name = name,
          .numerics_class = numerics,
          .traits = SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC,
          .data = data,
          .supports = in_host_memory,
          .estimate = estimate_values<kNsPerValue>,
          .workspace_size = nullptr,
          .run = run,
          .prepare = nullptr,
          .release = nullptr};
}

}  // namespace switchyard::reference
