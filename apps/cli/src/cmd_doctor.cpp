// SPDX-License-Identifier: Apache-2.0
// switchyard doctor: what is wrong or missing on this machine, and what to do about it.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <switchyard/batch.hpp>

#include "cancel.hpp"
#include "host/host.hpp"
#include "io/file.hpp"
#include "machine/limits.hpp"
#include "machine/machine.hpp"
#include "machine_report.hpp"
#include "session.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

enum class Level { ok, note, warning, error };

struct Finding {
  Level level;
  std::string check, message, cure;
  ErrorCode code = ErrorCode::internal;  ///< of an error: decides the exit code
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
namespace fs = std::filesystem;

constexpr std::uint64_t kLeastDisk = 16u << 20, kLeastMemory = 256u << 20;
constexpr int kMostFiles = 10'000;

void check_plugins(const Engine &engine, Findings &out) {
  int loaded = 0;
  for (const PluginInfo &p : engine.plugins()) {
    if (p.status == "loaded") {
      ++loaded;
    } else if (p.status == "unavailable") {
      out.push_back({Level::note, "plugins",
                     fmt::format("{} cannot run here: {}", p.id.empty() ? p.path : p.id, p.reason),
                     "nothing, unless this machine should have that hardware or library"});
    } else {
      out.push_back(
          {Level::warning, "plugins", fmt::format("{} refused: {}", p.path, p.reason),
           fmt::format("put right what the reason says, or remove the file: {}", p.path)});
    }
  }
  if (loaded > 0)
    out.push_back({Level::ok, "plugins",
                   fmt::format("{} loaded: {}", loaded, fmt::join(backend_names(engine), ", ")),
                   ""});
  else
    out.push_back({Level::error, "plugins", "none loaded",
                   "set SWITCHYARD_PLUGIN_PATH to the folder that holds them", ErrorCode::backend});
}

/// Runs a small problem of every kind and checks it against the reference's meaning by the gate.
void check_work(Engine &engine, const std::string &pinned, Findings &out) {
  std::vector<float> x(256);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17) - 8.0f;
  const auto say = [&](const char *op, const auto &result) {
    if (!result)
      out.push_back(
          {Level::error, op, result.error().message,
           fmt::format("'switchyard explain {} ...' shows every candidate and its reason", op),
           result.error().code});
    else if (result->info.verified == "no" && result->info.backend != "reference")
      out.push_back({Level::warning, op,
                     fmt::format("answered by {} unverified", result->info.backend),
                     "isolation is off, or the worker is missing: see the other findings"});
    else if (result->info.backend == "reference" && pinned.empty())
      out.push_back(
          {Level::warning, op, "only plain loops answer: right, but slow",
           "build or install plugins for this processor; 'switchyard info' lists the paths "
           "that were searched"});
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

/// Damaged files do no harm, they are misses; but somebody may want to know.
void check_files(const std::string &dir, Findings &out) {
  std::error_code error;
  int read = 0;
  for (fs::recursive_directory_iterator
           it(dir, fs::directory_options::skip_permission_denied, error),
       end;
       !error && it != end && read < kMostFiles; it.increment(error)) {
    if (it->path().extension() != ".json" || !it->is_regular_file(error)) continue;
    ++read;
    const auto text = read_text_file(it->path().string(), 64u << 20);
    if (text && !Json::parse(*text, nullptr, false).is_discarded()) continue;
    out.push_back(
        {Level::warning, "cache",
         fmt::format("{} is damaged; it counts as if it were not there", it->path().string()),
         "remove it; it is written again when needed"});
  }
}

void check_cache(const Options &options, Findings &out) {
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
  if (!fs::is_directory(at, ignored) || access(at.c_str(), W_OK | X_OK) != 0) {
    out.push_back({Level::warning, "cache", fmt::format("{} cannot be written", dir),
                   "set SWITCHYARD_CACHE_DIR to a folder that can be"});
    return;
  }
  struct statvfs disk;
  const auto room = statvfs(at.c_str(), &disk) == 0
                        ? static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize
                        : UINT64_MAX;
  if (room < kLeastDisk)
    out.push_back(
        {Level::warning, "cache",
         fmt::format("{} is on a disk with {} left", dir, byte_size(static_cast<double>(room))),
         "free some, or set SWITCHYARD_CACHE_DIR to another disk"});
  else
    out.push_back({Level::ok, "cache", dir, ""});
  check_files(dir, out);
}

void check_threads(const Engine &engine, const MachineReport &m, Findings &out) {
  if (m.allowed < m.cores)
    out.push_back({Level::note, "threads",
                   fmt::format("this process may use {} of {} cores", m.allowed, m.cores),
                   "the affinity mask says so (taskset, cpuset)"});
  if (m.cgroup_cpus > 0 && m.cgroup_cpus < m.allowed)
    out.push_back({Level::note, "threads",
                   fmt::format("the control group allows {:.3g} CPUs of time", m.cgroup_cpus),
                   "raise its cpu.max if that is not meant"});
  out.push_back({Level::ok, "threads", fmt::format("{} for each call", engine.threads()), ""});
  const auto runtimes = openmp_runtimes();
  if (runtimes.size() > 1)
    out.push_back({Level::warning, "openmp",
                   fmt::format("{} OpenMP runtimes in one process: {}", runtimes.size(),
                               fmt::join(runtimes, ", ")),
                   "their threads compete; build all plugins against the same one"});
}

void check_limits(const std::string &cache, Findings &out) {
  if (const auto limits = cached_limits(cache))
    out.push_back({Level::ok, "limits", "measured; bottlenecks are named", ""});
  else
    out.push_back({Level::note, "limits", limits.error().message,
                   "'switchyard info --limits' measures them, so that bottlenecks can be named"});
}

void check_memory(Findings &out) {
  const std::uint64_t left = available_memory();
  const std::string text =
      fmt::format("{} available to this process", byte_size(static_cast<double>(left)));
  if (left < kLeastMemory)
    out.push_back({Level::warning, "memory", text,
                   "raise the control group's memory.max, or work in batches"});
  else
    out.push_back({Level::ok, "memory", text, ""});
}

/// Measured choices are as good as the clock and as steady as the processor.
void check_timing(Findings &out) {
  std::uint64_t step = UINT64_MAX;
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t start = now_ns();
    std::uint64_t end = start;
    while (end == start) end = now_ns();
    step = std::min(step, end - start);
  }
  if (step > 1000)
    out.push_back({Level::warning, "clock", fmt::format("it moves in steps of {} ns", step),
                   "choose the tsc clock source; short calls cannot be compared"});
  std::ifstream file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  std::string governor;
  if (file >> governor && governor == "powersave")
    out.push_back({Level::note, "clock", "the frequency governor is powersave",
                   "'performance' makes timings steadier"});
  double load = 0;
  if (getloadavg(&load, 1) == 1 && load > machine().allowed_cpus)
    out.push_back({Level::note, "load",
                   fmt::format("{:.1f} programs want {} processors", load, machine().allowed_cpus),
                   "what is measured now is measured in a crowd"});
}

/// AMX needs the processor and the permission of the operating system.
void check_amx(const MachineReport &m, Findings &out) {
  if (std::ranges::find(m.isa, "amx_tile") == m.isa.end()) return;
  if (request_amx() != SY_OK) {
    out.push_back({Level::warning, "amx", "the processor has AMX, but " + amx_refusal(),
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
  check_memory(findings);
  check_timing(findings);
  check_limits(resolve_cache_dir(options->cache_dir), findings);
  if (auto engine = make_engine(common)) {
    check_plugins(*engine, findings);
    check_work(*engine, options->pin.empty() ? "" : options->pin.begin()->second, findings);
    check_threads(*engine, machine, findings);
  } else {
    findings.push_back({Level::error, "engine", engine.error().message,
                        "'switchyard plugin list' shows what was found, and why not more",
                        engine.error().code});
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
  if (works) return 0;
  const auto worst = std::ranges::find(findings, Level::error, &Finding::level);
  return exit_code(worst->code);
}

}  // namespace

void add_doctor(Program &program) {
  add_command(program, nullptr, "doctor", "What is wrong or missing on this machine",
              [&program] { return run(program.common); });
}

}  // namespace switchyard::cli
