// SPDX-License-Identifier: Apache-2.0
#include "registry/candidates.hpp"

namespace switchyard {
namespace {

const sy_device_memory *memory_of(const sy_plugin *api) {
  if (api == nullptr || api->struct_size < sizeof(sy_plugin) || api->get_extension == nullptr)
    return nullptr;
  const auto *memory =
      static_cast<const sy_device_memory *>(api->get_extension(SY_DEVICE_MEMORY_EXTENSION));
  const bool whole = memory != nullptr && memory->struct_size >= sizeof(sy_device_memory) &&
                     memory->totals != nullptr;
  return whole ? memory : nullptr;
}

}  // namespace

std::vector<std::unique_ptr<Candidate>> make_candidates(
    const MappedPlugin &plugin, const std::vector<DeviceInstance> &instances) {
  std::vector<std::unique_ptr<Candidate>> out;
  const sy_device_memory *memory = memory_of(plugin.api);
  for (const DeviceInstance &instance : instances)
    for (const sy_kernel *kernel : instance.kernels) {
      const auto op = find_op(kernel->op);
      if (!op) continue;
      auto c = std::make_unique<Candidate>();
      c->op = *op;
      c->kernel = kernel;
      c->instance = instance.instance;
      c->backend = instance.name;
      c->plugin_id = plugin.file.note.id;
      c->name = std::string(kernel->name) + "@" + instance.name;
      c->path = plugin.file.path;
      c->hash = plugin.file.hash;
      c->runtime_id = instance.runtime_id;
      c->device_kind = instance.kind;
      c->memory = memory;
      c->slow_start = instance.slow_start;
      out.push_back(std::move(c));
    }
  return out;
}

}  // namespace switchyard
