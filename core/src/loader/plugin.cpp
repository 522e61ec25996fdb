// SPDX-License-Identifier: Apache-2.0
#include "loader/plugin.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstddef>
#include <cstring>

#include "base/status_codes.hpp"
#include "host/float_state.hpp"
#include "op/op_spec.hpp"

namespace switchyard {
namespace {

/// A struct must reach at least to the last member every 1.0 plugin has.
constexpr std::size_t kPluginSize = offsetof(sy_plugin, get_extension);
constexpr std::size_t kKernelSize = offsetof(sy_kernel, prepare);

std::string bounded(const char *text) {
  return text == nullptr ? std::string() : std::string(text, strnlen(text, 256));
}

std::string check_struct(const sy_plugin &p, const PluginNote &note) {
  if (p.abi_major != SY_ABI_MAJOR)
    return fmt::format("built for plugin ABI {}.{}, this is {}.{}", p.abi_major, p.abi_minor,
                       SY_ABI_MAJOR, SY_ABI_MINOR);
  if (p.struct_size < kPluginSize)
    return fmt::format("its sy_plugin has {} bytes, ABI {}.{} needs at least {}", p.struct_size,
                       SY_ABI_MAJOR, SY_ABI_MINOR, kPluginSize);
  if (p.abi_major != note.abi_major || p.abi_minor != note.abi_minor || bounded(p.id) != note.id)
    return fmt::format("its ELF note ('{}', ABI {}.{}) and its struct ('{}', ABI {}.{}) disagree",
                       note.id, note.abi_major, note.abi_minor, bounded(p.id), p.abi_major,
                       p.abi_minor);
  if (note.id.empty() ||
      note.id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") != std::string::npos)
    return fmt::format("its id '{}' is not of the form [a-z][a-z0-9_]*", note.id);
  if (p.probe == nullptr || p.device_count == nullptr || p.device_info == nullptr ||
      p.create == nullptr || p.destroy == nullptr || p.kernel_count == nullptr ||
      p.kernel_at == nullptr)
    return "a function pointer of its sy_plugin is null";
  return "";
}

std::string check_kernel(const sy_kernel *k) {
  if (k == nullptr) return "a kernel is null";
  if (k->struct_size < kKernelSize)
    return fmt::format("a kernel's struct has {} bytes, at least {} are needed", k->struct_size,
                       kKernelSize);
  if (k->op == nullptr || k->name == nullptr || k->name[0] == '\0')
    return "a kernel lacks its op or name";
  if (k->numerics_class == nullptr || k->numerics_class[0] == '\0')
    return fmt::format("kernel {} lacks its numerics_class", bounded(k->name));
  if (k->supports == nullptr || k->run == nullptr)
    return fmt::format("kernel {} lacks supports or run", bounded(k->name));
  return "";
}

Result<DeviceInstance> make_instance(const MappedPlugin &plugin, const sy_host *host,
                                     std::uint32_t device, bool only_device) {
  const sy_plugin &api = *plugin.api;
  DeviceInstance out;
  out.name = only_device ? plugin.file.note.id : fmt::format("{}:{}", plugin.file.note.id, device);
  sy_error error = make_abi_error();
  sy_device_info info{};
  info.struct_size = sizeof(info);
  if (const auto status = api.device_info(host, device, &info, &error); status != SY_OK)
    return tl::unexpected(from_abi(error, status, out.name));
  out.kind = info.kind;
  out.device.assign(info.name, strnlen(info.name, sizeof(info.name)));
  out.runtime_id.assign(info.runtime_id, strnlen(info.runtime_id, sizeof(info.runtime_id)));
  sy_instance *instance = nullptr;
  if (const auto status = api.create(host, device, nullptr, 0, &instance, &error);
      status != SY_OK || instance == nullptr)
    return tl::unexpected(from_abi(error, status, out.name));
  out.instance = std::shared_ptr<sy_instance>(instance, api.destroy);
  const std::uint32_t count = api.kernel_count(instance);
  for (std::uint32_t i = 0; i < count; ++i) {
    const sy_kernel *k = api.kernel_at(instance, i);
    if (const std::string wrong = check_kernel(k); !wrong.empty())
      return fail(ErrorCode::backend, fmt::format("{}: {}", out.name, wrong));
    if (find_op(bounded(k->op))) out.kernels.push_back(k);
    out.slow_start =
        out.slow_start || (out.kind == SY_DEVICE_HOST && (k->traits & SY_TRAIT_DEVICE_MEMORY) != 0);
  }
  return out;
}

}  // namespace

Result<MappedPlugin> map_plugin(const PluginFile &file) {
  const auto refuse = [&file](std::string_view why) {
    return fail(ErrorCode::backend, fmt::format("{}: {}", file.path, why));
  };
  const FloatStateGuard guard;
  void *handle = dlopen(file.path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) {
    const char *why = dlerror();
    return refuse(why != nullptr ? why : "the dynamic loader refused it");
  }
  const auto close_and_refuse = [&](std::string_view why) {
    dlclose(handle);
    return refuse(why);
  };
  if (!still_same(file))
    return close_and_refuse("refused: the file was exchanged while it was being loaded");
  const auto *api = static_cast<const sy_plugin *>(dlsym(handle, SY_PLUGIN_SYMBOL));
  if (api == nullptr) return close_and_refuse("it does not export the symbol " SY_PLUGIN_SYMBOL);
  if (const std::string wrong = check_struct(*api, file.note); !wrong.empty())
    return close_and_refuse(wrong);
  // The handle is kept for good: plugins stay mapped.
  return MappedPlugin{file, api};
}

Result<std::vector<DeviceInstance>> make_instances(const MappedPlugin &plugin,
                                                   const sy_host *host) {
  const FloatStateGuard guard;
  sy_error error = make_abi_error();
  if (const auto status = plugin.api->probe(host, &error); status != SY_OK)
    return tl::unexpected(from_abi(error, status, ""));
  const std::uint32_t count = plugin.api->device_count(host);
  if (count == 0) return fail(ErrorCode::backend, "it found no device");
  std::vector<DeviceInstance> out;
  for (std::uint32_t device = 0; device < count; ++device) {
    auto instance = make_instance(plugin, host, device, count == 1);
    if (!instance) return tl::unexpected(instance.error());
    out.push_back(std::move(*instance));
  }
  return out;
}

}  // namespace switchyard
