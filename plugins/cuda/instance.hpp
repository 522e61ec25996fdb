// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the operations' files offer to the plugin's entry: lists of kernels.

#include <failure.hpp>

#include "work.hpp"

namespace switchyard::cuda {

/// One kernel of the plugin; functions as in sy_kernel. They may throw std::bad_alloc.
struct KernelDef {
  const char *op;
  const char *name;
  const char *numerics_class;
  std::uint32_t traits;
  std::uint32_t tag;  ///< the operation's own: a format
  std::int32_t (*supports)(const KernelDef &self, const Description &about, const sy_call &call,
                           sy_error *reason);
  std::uint64_t (*estimate)(const KernelDef &self, const Description &about, const sy_call &call);
  std::int32_t (*run)(const KernelDef &self, Device &device, const sy_call &call, sy_error *error);
  std::int32_t (*prepare)(const KernelDef &self, Device &device, const sy_call &call,
                          std::uint64_t constant_inputs, void **state, sy_error *error);
  void (*release)(Device &device, void *state);
};

struct KernelList {
  const KernelDef *defs;
  std::uint32_t count;
};

KernelList quantize_kernels() noexcept;
KernelList dequantize_kernels() noexcept;
KernelList kmeans_kernels() noexcept;
KernelList attention_kernels() noexcept;

/// The device of an instance.
Device &device_of(sy_instance *instance) noexcept;
/// switchyard.device-memory/1.
const void *device_memory() noexcept;

inline constexpr std::uint32_t kExactTraits =
    SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC | SY_TRAIT_DEVICE_MEMORY;

/// A guess for a call: launches, bytes over the bus (only of host tensors) and bytes in the
/// device's memory.
std::uint64_t estimate_of(const sy_call &call, double launches, double device_bytes,
                          double device_ns);
/// Are all tensors in host memory or on this device?
std::int32_t check_places(const Description &about, const sy_call &call, sy_error *reason);

}  // namespace switchyard::cuda
