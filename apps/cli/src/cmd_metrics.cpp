// SPDX-License-Identifier: Apache-2.0
// switchyard metrics FILE: shows what `run --metrics FILE` wrote.
#include <fmt/format.h>

#include "config/options.hpp"
#include "io/file.hpp"
#include "machine/limits.hpp"
#include "machine/machine.hpp"
#include "session.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

constexpr std::uint64_t kMostBytes = 64u << 20;

double number(const Json &object, const char *key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_number() ? at->get<double>() : 0;
}

void add_rows(Table &table, const std::string &op, const Json &backends) {
  for (const auto &[name, m] : backends.items()) {
    if (!m.is_object()) continue;
    const double total = number(m, "total_time_ms");
    table.add({op, name, fmt::format("{:.0f}", number(m, "count")), duration(total),
               duration(number(m, "avg_time_ms")), duration(number(m, "p50_ms")),
               duration(number(m, "p95_ms")),
               total > 0 ? fmt::format("{:.3g}", number(m, "bytes") / total / 1e6) : "-",
               total > 0 ? fmt::format("{:.3g}", number(m, "flops") / total / 1e6) : "-",
               fmt::format("{:.0f}", number(m, "fallbacks"))});
  }
}

/// A file written before the limits were measured is held against them now, on the same machine.
void add_bounds(Json &metrics, const MachineLimits &limits) {
  if (!metrics.contains("operations") || !metrics["operations"].is_object()) return;
  for (auto &backends : metrics["operations"])
    for (auto &m : backends) {
      if (!m.is_object() || !m.contains("sizes") || !m["sizes"].is_array()) continue;
      for (Json &size : m["sizes"]) {
        if (!size.is_object() || size.value("bound", Json("")) != Json("")) continue;
        const Bottleneck b = find_bottleneck(limits, number(size, "bytes"), number(size, "flops"),
                                             number(size, "avg_time_ms") / 1e3,
                                             static_cast<int>(number(size, "threads")));
        size["bound"] = b.bound;
        size["level"] = b.level;
        size["memory_share"] = b.memory_share;
        size["compute_share"] = b.compute_share;
        size["text"] = b.text();
      }
    }
}

/// Each op, backend and size against the machine's limits, or why that cannot be said.
std::string bounds_text(const Json &metrics, const std::string &why_not) {
  Table table(
      {"op", "backend", "bytes a call", "timed", "mean", "GB/s", "GFLOP/s", "what limits it"},
      "llrrrrrl");
  bool any = false;
  const auto by_op = metrics.find("operations");
  if (by_op == metrics.end() || !by_op->is_object()) return "";
  for (const auto &[op, backends] : by_op->items())
    for (const auto &[name, m] : backends.items()) {
      if (!m.is_object() || !m.contains("sizes")) continue;
      for (const Json &size : m["sizes"]) {
        const std::string words = size.value("text", "");
        any = any || !words.empty();
        table.add(
            {op, name, byte_size(number(size, "bytes")),
             fmt::format("{:.0f}", number(size, "timed_count")),
             duration(number(size, "avg_time_ms")), fmt::format("{:.3g}", number(size, "gb_per_s")),
             fmt::format("{:.3g}", number(size, "gflop_per_s")), words.empty() ? "-" : words});
      }
    }
  if (any) return "\n" + table.text();
  return fmt::format("\nno bottlenecks named: {}\n",
                     why_not.empty() ? "nothing was timed" : why_not);
}

/// Kernels and transfers apart, where an instance has a device of its own.
std::string devices_text(const Json &metrics) {
  Table table({"device", "kernels", "their time", "transfers", "to device", "from device",
               "programs built", "from files", "build time"},
              "lrrrrrrrr");
  const auto devices = metrics.find("devices");
  if (devices == metrics.end() || !devices->is_object() || devices->empty()) return "";
  for (const auto &[name, m] : devices->items())
    table.add({name, fmt::format("{:.0f}", number(m, "kernels")), duration(number(m, "kernel_ms")),
               duration(number(m, "transfer_ms")), byte_size(number(m, "bytes_to_device")),
               byte_size(number(m, "bytes_from_device")),
               fmt::format("{:.0f}", number(m, "programs_built")),
               fmt::format("{:.0f}", number(m, "programs_cached")),
               duration(number(m, "build_ms"))});
  return "\n" + table.text();
}

Outcome run(const std::string &path, const Common &common) {
  if (auto ok = check_common(common); !ok) return tl::unexpected(ok.error());
  auto options = make_options(common);
  if (!options) return tl::unexpected(options.error());
  auto content = read_text_file(path, kMostBytes);
  if (!content) return tl::unexpected(content.error());
  Json metrics = Json::parse(*content, nullptr, false);
  const bool known = metrics.is_object() && metrics.contains("total_operations") &&
                     metrics.contains("backend_summary") && metrics["backend_summary"].is_object();
  if (!known) return file_error(path, "this is not a metrics file of `switchyard run --metrics`");

  const bool here = metrics.value("machine", Json()) == Json(machine().fingerprint);
  const auto limits =
      here ? cached_limits(resolve_cache_dir(options->cache_dir))
           : tl::unexpected<Error>(
                 Error{ErrorCode::io, "the file comes from another machine", {}, 0, 0, -1, {}});
  if (limits) add_bounds(metrics, *limits);
  Json doc = document("metrics");
  doc["file"] = path;
  doc["metrics"] = metrics;
  std::string text = fmt::format("{:.0f} operations\n\n", number(metrics, "total_operations"));
  Table table(
      {"op", "backend", "calls", "total", "mean", "p50", "p95", "GB/s", "GFLOP/s", "fallbacks"},
      "llrrrrrrrr");
  if (const auto by_op = metrics.find("operations"); by_op != metrics.end() && by_op->is_object()) {
    for (const auto &[op, backends] : by_op->items()) add_rows(table, op, backends);
  }
  add_rows(table, "all", metrics["backend_summary"]);
  text += table.text();
  text += bounds_text(metrics, limits ? "" : limits.error().text());
  text += devices_text(metrics);
  if (const auto reasons = metrics.find("fallback_reasons"); reasons != metrics.end())
    for (const Json &reason : *reasons)
      text += fmt::format("fell back {} times: {}\n", reason.value("count", Json(0)).dump(),
                          reason.value("reason", ""));
  text += fmt::format("\nexploring took {}; a decided call costs {:.0f} ns\n",
                      duration(number(metrics, "exploration_ms")), number(metrics, "dispatch_ns"));
  print_result(common, doc, text);
  return 0;
}

}  // namespace

void add_metrics(Program &program) {
  auto path = std::make_shared<std::string>();
  CLI::App *app = add_command(program, nullptr, "metrics", "Show a metrics file of `run --metrics`",
                              [path, &program] { return run(*path, program.common); });
  app->add_option("FILE", *path, "Written by `switchyard run --metrics FILE`")->required();
}

}  // namespace switchyard::cli
