// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Measures machine/limits.hpp's figures. Best of several short runs, so that a busy machine shows
/// what it can do rather than what it is doing.

#include <functional>

#include "machine/limits.hpp"

namespace switchyard::limits {

/// A data cache of the first processor; `shared` when other cores fill it too.
struct Cache {
  std::string name;  ///< "L1d", "L2", "L3"
  std::uint64_t bytes = 0;
  bool shared = false;
};
std::vector<Cache> caches();

/// Told before each measurement; false stops.
using Watch = std::function<bool(const std::string &what)>;

/// Every level and type with 1, 2, 4, ... and `threads` threads; about `seconds` for each figure.
/// Fails with cancelled, or out_of_memory.
Result<MachineLimits> measure(int threads, double seconds = 0.1, const Watch &watch = {});

}  // namespace switchyard::limits

namespace switchyard {

/// This machine's limits: those kept in `cache_dir`, or measured now and kept there. With
/// `cached_only` nothing is measured and the error says why there are none.
Result<MachineLimits> machine_limits(bool cached_only, const std::string &cache_dir, int threads);

}  // namespace switchyard
