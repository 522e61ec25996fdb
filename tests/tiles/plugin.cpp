// SPDX-License-Identifier: Apache-2.0
/// The kernels for AMX tiles, and no others, where the tiles are emulated. On the host's threads.
#include <instance.hpp>

#include <string.h>
#include <failure.hpp>
#include <lists.hpp>

namespace {

using namespace switchyard::cpu;

constexpr uint32_t kMost = 16;
KernelDef chosen[kMost];

bool needs_tiles(const char *name) {
  const size_t length = strlen(name);
  return length > 3 && strcmp(name + length - 3, "amx") == 0;
}

uint32_t choose() {
  const KernelList lists[] = {SY_CPU_ALL_LISTS(avx512)};
  uint32_t count = 0;
  for (const KernelList &list : lists)
    for (uint32_t i = 0; i < list.count; ++i)
      if (needs_tiles(list.defs[i].name) && count < kMost) chosen[count++] = list.defs[i];
  return count;
}

int32_t probe(const sy_host *host, sy_error *error) {
  return require_isa(host, Isa::avx512, error);
}

uint32_t device_count(const sy_host *) { return 1; }

int32_t create(const sy_host *host, uint32_t, const sy_option *const *options, uint32_t n_options,
               sy_instance **out, sy_error *error) {
  if (const int32_t status = refuse_options(options, n_options, error); status != SY_OK)
    return status;
  static const KernelList list{chosen, choose()};
  *out = make_instance({&list,
                        1,
                        {host_for, host},
                        extra_features(host) | kFeatureAmx,
                        UINT32_MAX,
                        SY_TRAIT_OWN_THREADS});
  return *out != nullptr ? SY_OK : failure(error, SY_E_OUT_OF_MEMORY, "no memory for the instance");
}

}  // namespace

SY_EXPORT_PLUGIN("emulated_tiles") = {
    sizeof(sy_plugin),
    SY_ABI_MAJOR,
    SY_ABI_MINOR,
    "emulated_tiles",
    "1",
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
