// SPDX-License-Identifier: Apache-2.0
/// The kernels of plugins/cpu built for avx512, on the calling thread only.
#include <instance.hpp>

#include <failure.hpp>
#include <lists.hpp>

namespace {

using namespace switchyard::cpu;

int32_t probe(const sy_host *host, sy_error *error) {
  return require_isa(host, Isa::avx512, error);
}

uint32_t device_count(const sy_host *) { return 1; }

int32_t create(const sy_host *host, uint32_t, const sy_option *const *options, uint32_t n_options,
               sy_instance **out, sy_error *error) {
  if (const int32_t status = refuse_options(options, n_options, error); status != SY_OK)
    return status;
  const KernelList lists[] = {SY_CPU_ALL_LISTS(avx512)};
  *out = make_instance(
      {lists, sizeof(lists) / sizeof(lists[0]), {serial_for, host}, extra_features(host), 1, 0});
  return *out != nullptr ? SY_OK : failure(error, SY_E_OUT_OF_MEMORY, "no memory for the instance");
}

}  // namespace

SY_EXPORT_PLUGIN("avx512") = {
    sizeof(sy_plugin),
    SY_ABI_MAJOR,
    SY_ABI_MINOR,
    "avx512",
    SWITCHYARD_VERSION,
    "",
    0,
    0,
    probe,
    device_count,
    cpu_device_info,
    create,
    destroy_instance,
    instance_kernel_count,
    instance_kernel_at,
    nullptr,
};
