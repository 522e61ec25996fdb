// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What this machine can do at best, as `switchyard info --limits` measured it: bandwidth by
/// working set and threads, multiply-adds by type and threads. Kept in the cache directory of this
/// machine; the core reads it, to say what a call's time is spent on, and measures nothing itself.

#include <cstdint>
#include <span>
#include <string>
#include <switchyard/result.hpp>
#include <vector>

namespace switchyard {

/// Bytes a second of all threads together, 1e9 = 1 GB/s.
struct BandwidthLimit {
  std::string level;           ///< "L1d", "L2", "L3" or "memory"
  std::uint64_t capacity = 0;  ///< bytes that the level holds for these threads; 0 = no bound
  std::uint64_t bytes = 0;     ///< working set of all threads that was measured
  int threads = 1;
  double read = 0, write = 0, copy = 0;  ///< a copy moves each byte twice
  double best() const noexcept;
};

struct ComputeLimit {
  std::string kind;  ///< "f32", "f64", "bf16", "int8": of the factors
  std::string isa;   ///< that reached it
  int threads = 1;
  double ops = 0;  ///< a second, all threads together; a multiply-add counts two
};

struct MachineLimits {
  std::string fingerprint;  ///< Machine::fingerprint
  std::string cpu;
  std::vector<BandwidthLimit> bandwidth;  ///< smallest level first
  std::vector<ComputeLimit> compute;

  /// The limit of the smallest level that holds `bytes`, measured with the most threads that are
  /// not above `threads`; null where nothing was measured.
  const BandwidthLimit *bandwidth_at(double bytes, int threads) const noexcept;
  const ComputeLimit *compute_of(std::string_view kind, int threads) const noexcept;
};

/// What is kept under `cache_dir` (Options::cache_dir resolved) for this machine. The error says
/// why there is nothing: no cache, never measured, of another machine, or a damaged file.
Result<MachineLimits> cached_limits(const std::string &cache_dir);
/// Replaces the file in one step. Figures that were kept before and are higher stay: a limit is the
/// best that was ever reached, and this time the machine may have been busy.
Status keep_limits(const std::string &cache_dir, const MachineLimits &limits);
/// The file, "" without a cache.
std::string limits_path(const std::string &cache_dir);

/// What one call on average did, against the limits at its working set.
struct Bottleneck {
  /// "memory" or "compute": that limit explains at least a quarter of the time and more of it than
  /// the other; "overhead": neither does (latency, threads, instructions that are not counted);
  /// "" = no limits known.
  std::string bound;
  std::string level, kind;  ///< which limits it was held against
  double memory_share = 0;  ///< of the bandwidth
  double compute_share = 0;

  /// "memory-bound: 62 % of L2 bandwidth, 3 % of f32 peak"
  std::string text() const;
};

/// Least traffic and multiply-adds of a call that took `seconds` on `threads`.
Bottleneck find_bottleneck(const MachineLimits &limits, double bytes, double flops, double seconds,
                           int threads);

}  // namespace switchyard
