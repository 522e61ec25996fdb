// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What `info`, `doctor` and `plugin list` say about the machine and the plugins.

#include <string>
#include <vector>

#include "program.hpp"

namespace switchyard::cli {

struct MachineReport {
  std::string cpu;                  ///< model name
  std::string os;                   ///< "Linux 6.1.0"
  int cores = 0;                    ///< logical, online
  int allowed = 0;                  ///< in this process's affinity mask
  double cgroup_cpus = 0;           ///< quota in CPUs; 0 = none
  std::uint64_t memory = 0;         ///< bytes of the machine
  std::uint64_t cgroup_memory = 0;  ///< limit in bytes; 0 = none
  std::vector<std::string> isa;     ///< flags that backends care about, as the kernel names them
  std::vector<std::pair<std::string, std::uint64_t>> caches;  ///< "L1d" -> bytes, of CPU 0
};

/// Reads /proc and /sys; what cannot be read stays empty or 0.
MachineReport read_machine();
Json machine_json(const MachineReport &machine);
std::string machine_text(const MachineReport &machine);

Json plugins_json(const Engine &engine);

/// OpenMP runtimes mapped into this process; more than one is a defect.
std::vector<std::string> openmp_runtimes();

}  // namespace switchyard::cli
