// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the operations' files offer to the plugin's entry: lists of kernels.

#include <failure.hpp>

#include "device.hpp"

namespace switchyard::opencl {

/// One kernel of the plugin; functions as in sy_kernel.
struct KernelDef {
  const char *op;
  const char *name;
  bool exact;         ///< the reference's bits, so of the class "exact"; else of the device's own
  std::uint32_t tag;  ///< the operation's own: a format
  std::int32_t (*supports)(const KernelDef &self, const Description &about, const sy_call &call,
                           sy_error *reason);
  std::uint64_t (*estimate)(const KernelDef &self, const Description &about, const sy_call &call);
  std::int32_t (*run)(const KernelDef &self, Device &device, const sy_call &call, sy_error *error);
};

struct KernelList {
  const KernelDef *defs;
  std::uint32_t count;
};

KernelList quantize_kernels() noexcept;
KernelList dequantize_kernels() noexcept;
KernelList kmeans_kernels() noexcept;
KernelList kmeans_seed_kernels() noexcept;
KernelList attention_kernels() noexcept;

/// The device of an instance.
Device &device_of(sy_instance *instance) noexcept;
/// switchyard.device-memory/1.
const void *device_memory() noexcept;

/// Time until a launched kernel's first instruction, a result's way back included.
inline constexpr double kLaunchNs = 60'000;
/// Of a transfer to or from a device with memory of its own, in bytes per ns.
inline constexpr double kTransferBytesPerNs = 10;

}  // namespace switchyard::opencl
