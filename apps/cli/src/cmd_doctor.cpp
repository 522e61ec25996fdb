// SPDX-License-Identifier: Apache-2.0
// switchyard doctor: what is wrong or missing on this machine, and what to do about it.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "cancel.hpp"
#include "host/host.hpp"
#include "machine/machine.hpp"
#include "machine_report.hpp"
#include "session.hpp"

namespace switchyard::cli {
namespace {

enum class Level { ok, note, warning, error };

struct Finding {
  Level level;
  std::string check, message, cure;
};

std::string_view name_of(Level level) {
  switch (level) {
    case Level::ok:
      return "ok";
    case Level::note:
      return "note";
    case Level::warning:
      return "warning";
    case Level::error:
      return "error";
  }
  return "error";
}

using Findings = std::vector<Finding>;

void check_plugins(const Engine &engine, Findings &out) {
  int loaded = 0;
  for (const PluginInfo &p : engine.plugins()) {
    if (p.status == "loaded") {
      ++loaded;
    } else if (p.status == "unavailable") {
      out.push_back({Level::note, "plugins",
                     fmt::format("{} cannot run here: {}", p.id.empty() ? p.path : p.id, p.reason),
                     ""});
    } else {
      out.push_back({Level::warning, "plugins", fmt::format("{} refused: {}", p.path, p.reason),
                     "see 'switchyard plugin list'"});
    }
  }
  if (loaded > 0)
    out.push_back({Level::ok, "plugins",
                   fmt::format("{} loaded: {}", loaded, fmt::join(backend_names(engine), ", ")),
                   ""});
  else
    out.push_back({Level::error, "plugins", "none loaded",
                   "set SWITCHYARD_PLUGIN_PATH to the folder that holds them"});
}

/// Runs a small problem of every kind and checks it against the reference's meaning by the gate.
void check_work(Engine &engine, Findings &out) {
  std::vector<float> x(256);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17) - 8.0f;
  const auto say = [&](const char *op, const auto &result) {
    if (!result)
      out.push_back({Level::error, op, result.error().message, ""});
    else if (result->info.verified == "no" && result->info.backend != "reference")
      out.push_back(
          {Level::warning, op, fmt::format("answered by {} unverified", result->info.backend), ""});
    else
      out.push_back(
          {Level::ok, op, fmt::format("answered by {}, verified", result->info.backend), ""});
  };
  EndAtOnce scope;
  say("quantize", engine.quantize({x.data(), {4, 64}}, {.format = "mlx_affine4"}));
  say("kmeans", engine.kmeans({x.data(), {64, 4}}, {.k = 4}));
  const TensorView heads(x.data(), {1, 2, 16, 8});
  say("attention", engine.attention(heads, heads, heads));
}

void check_cache(const Options &options, Findings &out) {
  namespace fs = std::filesystem;
  const std::string dir = resolve_cache_dir(options.cache_dir);
  if (dir.empty()) {
    out.push_back({Level::note, "cache", "nothing is kept on disk",
                   "set SWITCHYARD_CACHE_DIR, or HOME, to keep verdicts between runs"});
    return;
  }
  std::error_code ignored;
  fs::path at = dir;
  while (!fs::exists(at, ignored) && at.has_parent_path() && at != at.parent_path())
    at = at.parent_path();
  if (fs::is_directory(at, ignored) && access(at.c_str(), W_OK | X_OK) == 0)
    out.push_back({Level::ok, "cache", dir, ""});
  else
    out.push_back({Level::warning, "cache", fmt::format("{} cannot be written", dir),
                   "set SWITCHYARD_CACHE_DIR to a folder that can be"});
}

void check_threads(const Engine &engine, const MachineReport &m, Findings &out) {
  if (m.allowed < m.cores)
    out.push_back({Level::note, "threads",
                   fmt::format("this process may use {} of {} cores", m.allowed, m.cores),
                   "the affinity mask says so (taskset, cpuset)"});
  if (m.cgroup_cpus > 0 && m.cgroup_cpus < m.allowed)
    out.push_back({Level::note, "threads",
                   fmt::format("the control group allows {:.3g} CPUs of time", m.cgroup_cpus), ""});
  out.push_back({Level::ok, "threads", fmt::format("{} for each call", engine.threads()), ""});
  const auto runtimes = openmp_runtimes();
  if (runtimes.size() > 1)
    out.push_back({Level::warning, "openmp",
                   fmt::format("{} OpenMP runtimes in one process: {}", runtimes.size(),
                               fmt::join(runtimes, ", ")),
                   "their threads compete; build all plugins against the same one"});
}

/// AMX needs the processor and the permission of the operating system.
void check_amx(const MachineReport &m, Findings &out) {
  if (std::ranges::find(m.isa, "amx_tile") == m.isa.end()) return;
  if (request_amx() != SY_OK) {
    out.push_back({Level::warning, "amx", "the processor has AMX, the system does not permit it",
                   "a newer kernel, or another container runtime"});
    return;
  }
  out.push_back({Level::ok, "amx", "permitted", ""});
}

void check_worker(Findings &out) {
  if (auto path = find_worker())
    out.push_back({Level::ok, "worker", *path, ""});
  else
    out.push_back({Level::warning, "worker", "switchyard-worker is missing",
                   "plugins not seen before are refused without it"});
}

Outcome run(const Common &common) {
  if (auto ok = check_common(common); !ok) return tl::unexpected(ok.error());
  auto options = make_options(common);
  if (!options) return tl::unexpected(options.error());
  const MachineReport machine = read_machine();
  Findings findings;
  check_worker(findings);
  check_cache(*options, findings);
  check_amx(machine, findings);
  if (auto engine = make_engine(common)) {
    check_plugins(*engine, findings);
    check_work(*engine, findings);
    check_threads(*engine, machine, findings);
  } else {
    findings.push_back({Level::error, "engine", engine.error().message, ""});
  }

  const bool works =
      std::ranges::none_of(findings, [](const Finding &f) { return f.level == Level::error; });
  Json doc = document("doctor");
  doc["works"] = works;
  doc["findings"] = Json::array();
  std::string text = works ? "the yard works\n" : "the yard does NOT work\n";
  std::ranges::stable_sort(findings,
                           [](const Finding &a, const Finding &b) { return a.level > b.level; });
  for (const Finding &f : findings) {
    doc["findings"].push_back(Json{{"level", std::string(name_of(f.level))},
                                   {"check", f.check},
                                   {"message", f.message},
                                   {"cure", f.cure.empty() ? Json(nullptr) : Json(f.cure)}});
    text += fmt::format("{:<8} {:<10} {}\n", name_of(f.level), f.check, f.message);
    if (!f.cure.empty()) text += fmt::format("{:<19} {}\n", "", f.cure);
  }
  print_result(common, doc, text);
  return works ? 0 : 1;
}

}  // namespace

void add_doctor(Program &program) {
  add_command(program, nullptr, "doctor", "What is wrong or missing on this machine",
              [&program] { return run(program.common); });
}

}  // namespace switchyard::cli
