// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What this machine can do at best: bandwidth by working-set size and thread count.

#include "machine_report.hpp"

namespace switchyard::cli {

struct Limit {
  std::string what;         ///< "read" or "copy"
  std::string where;        ///< "L1d", "L2", "L3" or "memory"
  std::uint64_t bytes = 0;  ///< working set of each thread
  int threads = 1;
  double gb_per_s = 0;  ///< 1e9 bytes moved per second, all threads together; the best of 3
};

/// Takes a few seconds.
std::vector<Limit> measure_limits(const MachineReport &machine, int threads);
Json limits_json(const std::vector<Limit> &limits);
std::string limits_text(const std::vector<Limit> &limits);

}  // namespace switchyard::cli
