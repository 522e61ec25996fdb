// SPDX-License-Identifier: Apache-2.0
#include "registry/registry.hpp"

#include <dirent.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "host/host.hpp"
#include "host/log.hpp"
#include "machine/machine.hpp"
#include "worker/client.hpp"
#include "worker/protocol.hpp"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

std::map<std::string, std::string> host_settings(const Options &options, std::uint32_t threads) {
  std::map<std::string, std::string> settings;
  if (!options.isa.empty()) settings["isa"] = options.isa;
  settings["threads"] = std::to_string(threads);
  return settings;
}

/// Shared objects of a directory, by name.
std::vector<std::string> shared_objects(const std::string &directory, std::string &note) {
  std::vector<std::string> out;
  // Not std::filesystem's iterator, which ends the process where memory is out.
  const std::unique_ptr<DIR, int (*)(DIR *)> open(opendir(directory.c_str()), closedir);
  if (open == nullptr) {
    note = std::strerror(errno);
    return out;
  }
  while (const dirent *entry = readdir(open.get()))
    if (const std::string_view name = entry->d_name; name.size() > 3 && name.ends_with(".so"))
      out.push_back((fs::path(directory) / name).string());
  std::sort(out.begin(), out.end());
  note = fmt::format("{} plugin files", out.size());
  return out;
}

/// Whether the file may be mapped into this process; else the reason.
Status admit(const PluginFile &file, const Options &options, VerdictStore &verdicts) {
  if (options.isolation == Isolation::off) return {};
  auto known = verdicts.find(file.hash, VerdictStore::kProbe);
  if (!known) {
    auto answer = probe_in_worker({file.path, options.isa});
    if (!answer) return tl::unexpected(answer.error());
    known = *answer;
    verdicts.put(file.hash, VerdictStore::kProbe, *known);
  }
  if (known->empty()) return {};
  return fail(ErrorCode::backend,
              fmt::format("quarantined: when tried in a separate process it {}", *known));
}

}  // namespace

Result<std::unique_ptr<Registry>> Registry::load(const Options &options, VerdictStore &verdicts,
                                                 std::uint32_t threads) {
  copy_environment_for_workers();
  auto registry = std::make_unique<Registry>();
  registry->by_op_.resize(all_ops().size());
  const sy_host *host = make_host(host_settings(options, threads));
  std::vector<Place> places;
  for (const std::string &directory : options.plugin_paths) places.push_back({directory, false});
  for (const std::string &directory : builtin_plugin_directories())
    places.push_back({directory, true});
  for (const Place &place : places) registry->scan(place, options, verdicts, host);
  if (registry->reference_path_.empty())
    return fail(
        ErrorCode::backend,
        fmt::format("no reference backend was found, so nothing could be verified; looked in {}",
                    fmt::join(registry->log_, "; ")));
  std::uint32_t id = 0;
  for (const auto &c : registry->all_) {
    c->id = id++;
    registry->by_op_[c->op].push_back(c.get());
    if (c->reference) registry->reference_.add(*c);
  }
  return registry;
}

void Registry::scan(const Place &place, const Options &options, VerdictStore &verdicts,
                    const sy_host *host) {
  if (!fs::path(place.directory).is_absolute()) {
    log_.push_back(place.directory + ": ignored, not an absolute path");
    return;
  }
  std::string note;
  const auto files = shared_objects(place.directory, note);
  log_.push_back(place.directory + ": " + note);
  for (const std::string &path : files) {
    const bool seen = std::any_of(plugins_.begin(), plugins_.end(), [&](const PluginInfo &p) {
      std::error_code ignored;
      return fs::equivalent(p.path, path, ignored);
    });
    if (seen) continue;
    PluginInfo info;
    info.path = path;
    const auto loaded = load_file(path, place.builtin, options, verdicts, host, info);
    if (!loaded) {
      info.reason = loaded.error().message;
      if (info.status.empty()) info.status = "refused";
      log(info.status == "refused" ? SY_LOG_WARNING : SY_LOG_INFO,
          fmt::format("plugin {} {}: {}", path, info.status, info.reason));
    }
    plugins_.push_back(std::move(info));
  }
}

Status Registry::add_remote(const PluginFile &file, remote::RemotePlugin plugin, PluginInfo &info) {
  info.version = plugin.version;
  info.build_id = plugin.build_id;
  if (!plugin.unavailable.empty()) {
    info.status = "unavailable";
    return fail(ErrorCode::backend, plugin.unavailable);
  }
  const MappedPlugin described{file, nullptr};
  add_candidates(described, plugin.instances, false, info);
  return {};
}

void Registry::add_candidates(const MappedPlugin &plugin,
                              const std::vector<DeviceInstance> &instances, bool reference,
                              PluginInfo &info) {
  for (const DeviceInstance &i : instances) {
    info.instances.push_back(i.name);
    info.devices.push_back(i.device);
  }
  for (auto &c : make_candidates(plugin, instances)) {
    c->reference = reference;
    info.kernels.push_back(c->name);
    all_.push_back(std::move(c));
  }
  info.status = "loaded";
}

Status Registry::load_file(const std::string &path, bool builtin, const Options &options,
                           VerdictStore &verdicts, const sy_host *host, PluginInfo &info) {
  const auto file = check_plugin_file(path);
  if (!file) return tl::unexpected(file.error());
  info.id = file->note.id;
  info.content_hash = file->hash;
  for (const PluginInfo &other : plugins_)
    if (other.id == info.id && other.status == "loaded")
      return fail(
          ErrorCode::backend,
          fmt::format("a plugin with the id '{}' was found before, at {}", info.id, other.path));
  if (const auto ok = admit(*file, options, verdicts); !ok) return ok;
  if (options.isolation == Isolation::always) {
    auto remote = remote::open_remote(*file, options.isa);
    if (!remote) return tl::unexpected(remote.error());
    // The reference answers when a worker is lost: it stays here.
    if (!builtin || (remote->flags & SY_PLUGIN_REFERENCE) == 0)
      return add_remote(*file, std::move(*remote), info);
  }
  const auto plugin = map_plugin(*file);
  if (!plugin) return tl::unexpected(plugin.error());
  info.version = plugin->api->version != nullptr ? plugin->api->version : "";
  info.build_id = plugin->api->build_id != nullptr ? plugin->api->build_id : "";
  auto instances = make_instances(*plugin, host);
  if (!instances) {
    info.status = "unavailable";
    return tl::unexpected(instances.error());
  }
  // Only a plugin that came with this library may define what is right.
  const bool reference = builtin && (plugin->api->flags & SY_PLUGIN_REFERENCE) != 0;
  if (reference) {
    reference_path_ = file->path;
    reference_hash_ = file->hash;
  }
  add_candidates(*plugin, *instances, reference, info);
  return {};
}

}  // namespace switchyard
