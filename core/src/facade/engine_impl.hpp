// SPDX-License-Identifier: Apache-2.0
#pragma once
/// An engine's parts, in order of construction.

#include <switchyard/engine.hpp>

#include "dispatcher/dispatcher.hpp"
#include "facade/result_cache.hpp"
#include "machine/limits.hpp"
#include "machine/machine.hpp"

namespace switchyard {

struct Engine::Impl {
  Options options;
  std::uint32_t threads = 1;
  std::unique_ptr<VerdictStore> store;
  std::unique_ptr<TimingStore> timings;
  std::optional<LockFile> lock;
  std::unique_ptr<Registry> registry;
  std::unique_ptr<VerdictBook> verdicts;
  std::unique_ptr<Dispatcher> dispatcher;
  std::unique_ptr<ResultCache> results;
  std::mutex pinned_mutex;
  std::map<std::string, std::unique_ptr<Engine>> pinned;  ///< for Engine::pinned

  /// This machine's limits as kept on disk, or why there are none.
  Result<MachineLimits> limits() const {
    return cached_limits(resolve_cache_dir(options.cache_dir));
  }
  /// RunInfo's `requested_backend` for an op.
  std::string requested(std::string_view op) const { return pinned_backend(options, op); }
};

/// Preset and environment folded in; checks what the type system cannot.
Result<Options> resolve_options(Options given);

}  // namespace switchyard
