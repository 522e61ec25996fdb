// SPDX-License-Identifier: Apache-2.0
// switchyard plugin list: what the loader found, and what became of it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "machine_report.hpp"
#include "plugin_author.hpp"
#include "session.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

Outcome list(const Common &common) {
  if (auto ok = check_common(common); !ok) return tl::unexpected(ok.error());
  auto engine = make_engine(common);
  if (!engine) return tl::unexpected(engine.error());
  Json doc = document("plugin list");
  doc["plugins"] = plugins_json(*engine);
  Table table({"plugin", "version", "status", "instances", "kernels", "file"}, "llllr");
  std::string refused;
  for (const PluginInfo &p : engine->plugins()) {
    table.add({p.id.empty() ? "?" : p.id, p.version.empty() ? "-" : p.version, p.status,
               p.instances.empty() ? "-" : fmt::format("{}", fmt::join(p.instances, ", ")),
               fmt::format("{}", p.kernels.size()), p.path});
    if (p.status != "loaded") refused += fmt::format("{}: {}: {}\n", p.path, p.status, p.reason);
    for (const auto &[kernel, why] : p.quarantined)
      refused += fmt::format("{}: quarantined: {} ('switchyard plugin check {}' re-admits it)\n",
                             kernel, why, p.path);
    if (common.verbose > 0)
      for (const std::string &kernel : p.kernels) refused += fmt::format("  {}\n", kernel);
  }
  print_result(common, doc, table.text() + refused);
  return 0;
}

}  // namespace

void add_plugin(Program &program) {
  CLI::App *group = add_command(program, nullptr, "plugin", "Plugins", nullptr);
  group->require_subcommand(1);
  add_command(program, group, "list", "Every plugin found, its backends and its state",
              [&program] { return list(program.common); });
  add_plugin_check(program, group);
  add_plugin_new(program, group);
}

}  // namespace switchyard::cli
