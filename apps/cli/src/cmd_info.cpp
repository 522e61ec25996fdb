// SPDX-License-Identifier: Apache-2.0
// switchyard info: the machine, its limits, the plugins, and every path tried.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cancel.hpp"
#include "limits.hpp"
#include "machine/machine.hpp"
#include "machine_report.hpp"
#include "measure.hpp"
#include "session.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

constexpr double kLimitSeconds = 0.1;  // of each figure

std::string backends_text(const Engine &engine) {
  std::string text;
  for (const PluginInfo &p : engine.plugins()) {
    if (p.status != "loaded") {
      text += fmt::format("  {:<12} {}: {} ({})\n", p.id.empty() ? "?" : p.id, p.status, p.reason,
                          p.path);
      continue;
    }
    for (std::size_t i = 0; i < p.instances.size(); ++i)
      text +=
          fmt::format("  {:<12} {} kernels on {}, version {}\n", p.instances[i], p.kernels.size(),
                      i < p.devices.size() ? p.devices[i] : "this machine", p.version);
  }
  return text;
}

Outcome run(bool limits, const Common &common) {
  if (auto ok = check_common(common); !ok) return tl::unexpected(ok.error());
  auto engine = make_engine(common);
  if (!engine) return tl::unexpected(engine.error());
  const MachineReport machine = read_machine();
  Json doc = document("info");
  doc["version"] = std::string(version());
  doc["machine"] = machine_json(machine);
  doc["threads"] = engine->threads();
  doc["cache_dir"] = resolve_cache_dir(engine->options().cache_dir);
  doc["backends"] = backend_names(*engine);
  doc["plugins"] = plugins_json(*engine);
  doc["search_log"] = engine->search_log();

  std::string text = fmt::format("switchyard {}\n", version()) + machine_text(machine);
  text += fmt::format("threads  {} for each call\n", engine->threads());
  const std::string cache = resolve_cache_dir(engine->options().cache_dir);
  text += fmt::format("cache    {}\n\nbackends\n", cache.empty() ? "none" : cache);
  text += backends_text(*engine);
  text += "\npaths tried for plugins\n";
  for (const std::string &line : engine->search_log()) text += "  " + line + '\n';

  if (limits) {
    const auto watch = [](const std::string &what) {
      show_status("measuring " + what);
      return !cancelled();
    };
    auto measured = limits::measure(engine->threads(), kLimitSeconds, watch);
    clear_status();
    if (!measured) return cancelled() ? cancelled_error() : tl::unexpected(measured.error());
    doc["limits"] = bandwidth_json(*measured);
    doc["compute_limits"] = compute_json(*measured);
    const auto kept = keep_limits(cache, *measured);
    doc["limits_file"] = kept && !cache.empty() ? Json(limits_path(cache)) : Json(nullptr);
    text += "\nlimits measured now\n" + limits_text(*measured);
    text += cache.empty() ? "not kept: there is no cache directory\n"
            : kept        ? fmt::format("kept in {}\n", limits_path(cache))
                          : fmt::format("not kept: {}\n", kept.error().text());
  } else if (const auto kept = cached_limits(cache)) {
    doc["limits"] = bandwidth_json(*kept);
    doc["compute_limits"] = compute_json(*kept);
    doc["limits_file"] = limits_path(cache);
    text += "\nlimits measured earlier\n" + limits_text(*kept);
  }
  print_result(common, doc, text);
  return 0;
}

}  // namespace

void add_info(Program &program) {
  auto limits = std::make_shared<bool>(false);
  CLI::App *app =
      add_command(program, nullptr, "info", "The machine, the backends, the paths tried",
                  [limits, &program] { return run(*limits, program.common); });
  app->add_flag("--limits", *limits,
                "Measure and keep bandwidth and arithmetic peaks (some seconds)");
}

}  // namespace switchyard::cli
