// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Runs `switchyard-worker`, in which plugin code may crash, hang or exit without harm.

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

/// Spawns the worker in its own process group with `arguments`, and ends and reaps the whole group
/// at the deadline. Fails only when there is no worker or it cannot be started. [any-thread]
Result<WorkerRun> run_worker(const std::vector<std::string> &arguments, std::uint32_t deadline_ms);

}  // namespace switchyard
