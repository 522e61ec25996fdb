// SPDX-License-Identifier: Apache-2.0
#include <instance.hpp>

#include <failure.hpp>

#include "kernels.hpp"

namespace {

using namespace switchyard::cpu;
namespace reference = switchyard::reference;

int32_t probe(const sy_host *, sy_error *) { return SY_OK; }

uint32_t device_count(const sy_host *) { return 1; }

int32_t create(const sy_host *host, uint32_t, const sy_option *const *options, uint32_t n_options,
               sy_instance **out, sy_error *error) {
  if (const int32_t status = refuse_options(options, n_options, error); status != SY_OK)
    return status;
  const KernelList lists[] = {reference::quantize_kernels(),  reference::dequantize_kernels(),
                              reference::kmeans_kernels(),    reference::kmeans_seed_kernels(),
                              reference::attention_kernels(), reference::matmul_kernels(),
                              reference::norm_kernels(),      reference::activation_kernels(),
                              reference::rope_kernels()};
  *out = make_instance({lists, sizeof(lists) / sizeof(lists[0]), {serial_for, host}, 0, 1, 0});
  return *out != nullptr ? SY_OK : failure(error, SY_E_OUT_OF_MEMORY, "no memory for the instance");
}

}  // namespace

SY_EXPORT_PLUGIN("reference") = {
    sizeof(sy_plugin),
    SY_ABI_MAJOR,
    SY_ABI_MINOR,
    "reference",
    SWITCHYARD_VERSION,
    "",
    SY_PLUGIN_REFERENCE,
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
