// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What this process may use: processors, threads, places on disk.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace switchyard {

struct Machine {
  std::string cpu;          ///< brand string
  int logical_cpus = 1;     ///< online
  int allowed_cpus = 1;     ///< by affinity and cpuset
  int allowed_cores = 1;    ///< physical cores behind them
  double cgroup_cpus = 0;   ///< quota in processors; 0 = unlimited
  int thread_budget = 1;    ///< what an engine uses unless told otherwise
  std::string fingerprint;  ///< of all that stored measurements and verdicts depend on
};

/// Found once per process.
const Machine &machine();

/// The quota of a cgroup `cpu.max` line in processors ("200000 100000" -> 2); 0 = unlimited or bad.
double parse_cpu_max(std::string_view text) noexcept;

/// What a memory control group at `directory` (its limit less what it uses, file pages that the
/// kernel would give back not counted) leaves; nullopt without a limit.
std::optional<std::uint64_t> cgroup_memory_left(const std::string &directory);

/// Directories derived from where this code lies (the shared library, the program, or the Python
/// extension) and from the install prefix, in order of preference. They may not exist.
std::vector<std::string> builtin_plugin_directories();
/// The first existing `switchyard-worker`, or nullopt.
std::optional<std::string> find_worker();

/// Options::cache_dir resolved: given, else $XDG_CACHE_HOME/switchyard, else ~/.cache/switchyard;
/// "" when nothing is to be kept or no home is known.
std::string resolve_cache_dir(const std::optional<std::string> &option);

}  // namespace switchyard
