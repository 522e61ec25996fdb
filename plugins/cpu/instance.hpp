// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Turns lists of KernelDefs into the sy_kernels of an instance. Compiled for baseline x86-64.

#include "kernel.hpp"

namespace switchyard::cpu {

struct InstanceConfig {
  const KernelList *lists;
  uint32_t n_lists;
  Executor executor;
  uint32_t features;
  uint32_t max_threads;
  uint32_t extra_traits;
};

/// nullptr when out of memory. The lists must outlive the instance.
sy_instance *make_instance(const InstanceConfig &config) noexcept;
void destroy_instance(sy_instance *instance) noexcept;
uint32_t instance_kernel_count(const sy_instance *instance) noexcept;
const sy_kernel *instance_kernel_at(const sy_instance *instance, uint32_t index) noexcept;

/// Runs every piece on the calling thread.
void serial_for(const Executor *self, uint64_t n, sy_task_fn fn, void *arg, uint32_t max_threads);
/// Runs on the host's parallel_for.
void host_for(const Executor *self, uint64_t n, sy_task_fn fn, void *arg, uint32_t max_threads);

/// sy_plugin::create's answer to options in plugins that take none.
int32_t refuse_options(const sy_option *const *options, uint32_t n_options,
                       sy_error *error) noexcept;

/// What this processor, its operating system and the host's "isa" setting allow.
enum class Isa { none, avx2, avx512 };
Isa widest_isa(const sy_host *host) noexcept;
uint32_t extra_features(const sy_host *host) noexcept;  ///< kFeature*
/// SY_OK if `need` may be used, else the reason.
int32_t require_isa(const sy_host *host, Isa need, sy_error *error) noexcept;
/// sy_plugin::device_info for the one CPU device.
int32_t cpu_device_info(const sy_host *host, uint32_t device, sy_device_info *out,
                        sy_error *error) noexcept;

}  // namespace switchyard::cpu
