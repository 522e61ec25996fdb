// SPDX-License-Identifier: Apache-2.0
#include "facade/backends.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/suggest.hpp"

namespace switchyard {

std::vector<std::string> backend_names(const Engine &engine) {
  std::vector<std::string> names;
  for (const PluginInfo &plugin : engine.plugins())
    if (plugin.status == "loaded")
      for (const std::string &instance : plugin.instances)
        if (std::find(names.begin(), names.end(), instance) == names.end())
          names.push_back(instance);
  return names;
}

Status check_backend(const Engine &engine, const std::string &name) {
  for (const PluginInfo &plugin : engine.plugins()) {
    if (plugin.status == "loaded") {
      if (plugin.id == name) return {};
      if (std::find(plugin.instances.begin(), plugin.instances.end(), name) !=
          plugin.instances.end())
        return {};
    } else if (plugin.id == name) {
      return fail(ErrorCode::backend, fmt::format("backend '{}' is {}: {} ({})", name,
                                                  plugin.status, plugin.reason, plugin.path));
    }
  }
  const std::vector<std::string> names = backend_names(engine);
  const std::vector<std::string_view> views(names.begin(), names.end());
  return fail(ErrorCode::backend, fmt::format("unknown backend '{}'{}; known: {}", name,
                                              did_you_mean(name, views), fmt::join(names, ", ")));
}

}  // namespace switchyard
