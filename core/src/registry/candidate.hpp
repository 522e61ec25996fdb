// SPDX-License-Identifier: Apache-2.0
#pragma once
/// One kernel of one instance, as the dispatcher sees it, and how it is called.

#include <memory>
#include <string>

#include <switchyard/device_memory.h>
#include "loader/plugin.hpp"
#include "metrics/kernel_stats.hpp"
#include "op/op_spec.hpp"

namespace switchyard {

struct Candidate {
  std::uint32_t id = 0;  ///< position among all candidates of the engine
  OpIndex op = 0;
  const sy_kernel *kernel = nullptr;
  std::shared_ptr<sy_instance> instance;
  std::string backend;     ///< instance name, "avx512"
  std::string plugin_id;   ///< "avx512"
  std::string name;        ///< "quantize.f32_q4_0.block@avx512"
  std::string path, hash;  ///< of the plugin file
  std::string runtime_id;
  std::int32_t device_kind = SY_DEVICE_HOST;  ///< sy_device_kind of the instance
  const sy_device_memory *memory = nullptr;   ///< of an instance with an account of its device
  bool slow_start = false;                    ///< of an instance that is (DeviceInstance)
  bool reference = false;                     ///< defines the meaning: always trusted to answer
  mutable KernelStats stats;

  bool supports(const sy_call &call, sy_error *reason) const noexcept {
    return kernel->supports(kernel, instance.get(), &call, reason) == SY_OK;
  }
  /// The author's prior in ns, 0 = none.
  std::uint64_t estimate(const sy_call &call) const noexcept {
    return kernel->estimate != nullptr ? kernel->estimate(kernel, instance.get(), &call) : 0;
  }
  std::uint64_t workspace_size(const sy_call &call) const noexcept {
    return kernel->workspace_size != nullptr ? kernel->workspace_size(kernel, instance.get(), &call)
                                             : 0;
  }
  /// Both optional members lie past what the oldest plugins fill in.
  bool stateful() const noexcept {
    return kernel->struct_size >= sizeof(sy_kernel) && kernel->prepare != nullptr &&
           kernel->release != nullptr;
  }
};

/// Runs the kernel with a workspace from this thread's arena and the default floating-point state.
/// `call`'s workspace fields are overwritten. SY_E_OUT_OF_MEMORY when there is no workspace.
/// `workspace` is what workspace_size answered for such a call.
std::int32_t invoke(const Candidate &candidate, sy_call &call, std::uint64_t workspace,
                    sy_error *error) noexcept;
inline std::int32_t invoke(const Candidate &candidate, sy_call &call, sy_error *error) noexcept {
  return invoke(candidate, call, candidate.workspace_size(call), error);
}

}  // namespace switchyard
