// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Runs `switchyard-worker`, in which plugin code may crash, hang or exit without harm.

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <switchyard/result.hpp>
#include <vector>

namespace switchyard {

struct WorkerRun {
  std::string output;   ///< what the worker wrote before it ended
  std::string failure;  ///< "" if it ended by itself with status 0; else in words what happened
  bool illegal_instruction = false;
};

/// Workers get the environment as it is at the first call of this. Call it on the host's own thread
/// before any worker runs.
void copy_environment_for_workers();

/// Starts the worker in a process group of its own. Pairs of `descriptors`: ours, and the number it
/// has there. Whoever gets the process id ends it with `end_worker`.
Result<pid_t> spawn_worker(const std::vector<std::string> &arguments,
                           const std::vector<std::pair<int, int>> &descriptors);
/// Waits so long for a worker that may have ended, ends and reaps its group; how it ended in words.
std::string end_worker(pid_t pid, int patience_ms);

/// How long the process was ready to run while others had the processors, in ns, its threads added
/// up; 0 where the system does not tell. On a busy machine a worker gets that much more time, up to
/// kPatience times its limit: a driver that compiles slowly does not hang.
std::uint64_t waited_for_processor_ns(pid_t pid);
inline constexpr std::uint64_t kPatience = 4;

/// Spawns the worker in its own process group with `arguments`, and ends and reaps the whole group
/// at the deadline; in the background it yields the cores to the host's threads. Fails only when
/// there is no worker or it cannot be started. [any-thread]
Result<WorkerRun> run_worker(const std::vector<std::string> &arguments, std::uint32_t deadline_ms,
                             bool background = false);

}  // namespace switchyard
