// SPDX-License-Identifier: Apache-2.0
/// OpenBLAS behind the plugin interface. Parallel pieces run on the host's threads; within a piece
/// OpenBLAS is asked to use one, so `openblas_set_num_threads(1)` holds for the whole process once
/// a kernel has run.
#include <cblas.h>
#include <stdio.h>

#include <failure.hpp>
#include <instance.hpp>

#include "kernels.hpp"

namespace {

using namespace switchyard::cpu;

int32_t probe(const sy_host *host, sy_error *error) { return require_isa(host, Isa::avx2, error); }

uint32_t device_count(const sy_host *) { return 1; }

int32_t device_info(const sy_host *host, uint32_t device, sy_device_info *out, sy_error *error) {
  const int32_t status = cpu_device_info(host, device, out, error);
  if (status != SY_OK) return status;
  // Which kernels OpenBLAS picked for this processor decides its speed and its roundings.
  snprintf(out->runtime_id, sizeof(out->runtime_id), "%s", openblas_get_config());
  return SY_OK;
}

int32_t create(const sy_host *host, uint32_t, const sy_option *const *options, uint32_t n_options,
               sy_instance **out, sy_error *error) {
  if (const int32_t status = refuse_options(options, n_options, error); status != SY_OK)
    return status;
  const KernelList lists[] = {openblas::kmeans_kernels(), openblas::kmeans_seed_kernels(),
                              openblas::matmul_kernels()};
  *out = make_instance({lists,
                        sizeof(lists) / sizeof(lists[0]),
                        {host_for, host},
                        0,
                        UINT32_MAX,
                        SY_TRAIT_OWN_THREADS});
  return *out != nullptr ? SY_OK : failure(error, SY_E_OUT_OF_MEMORY, "no memory for the instance");
}

}  // namespace

SY_EXPORT_PLUGIN("openblas") = {
    sizeof(sy_plugin),
    SY_ABI_MAJOR,
    SY_ABI_MINOR,
    "openblas",
    SWITCHYARD_VERSION,
    "",
    SY_PLUGIN_OWN_POOL,
    0,
    probe,
    device_count,
    device_info,
    create,
    destroy_instance,
    instance_kernel_count,
    instance_kernel_at,
    nullptr,
};
