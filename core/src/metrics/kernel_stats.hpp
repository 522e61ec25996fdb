// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What one kernel did in this engine: exact counts, sampled times. Lock-free.

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

namespace switchyard {

/// Times in classes of an eighth of an octave: quantiles within 6 %.
class TimeHistogram {
 public:
  static constexpr unsigned kPerOctave = 8;
  static constexpr std::size_t kBuckets = 44 * kPerOctave;

  void add(std::uint64_t ns) noexcept {
    buckets_[index(ns)].fetch_add(1, std::memory_order_relaxed);
  }
  /// 0 when empty. `q` in 0..1.
  double quantile(double q) const noexcept;
  void copy_into(std::array<std::uint64_t, kBuckets> &sum) const noexcept;
  static double quantile_of(const std::array<std::uint64_t, kBuckets> &counts, double q) noexcept;

 private:
  static std::size_t index(std::uint64_t ns) noexcept {
    if (ns < kPerOctave) return ns;
    const auto e = static_cast<unsigned>(std::bit_width(ns)) - 1;
    const std::uint64_t fraction = (ns >> (e - 3)) & (kPerOctave - 1);
    return std::min<std::size_t>((e - 2) * kPerOctave + fraction, kBuckets - 1);
  }
  std::array<std::atomic<std::uint32_t>, kBuckets> buckets_{};
};

/// What timed calls of one class of sizes did.
struct SizeStats {
  std::atomic<std::uint64_t> count{0}, ns{0}, bytes{0}, flops{0};
};

struct KernelStats {
  std::atomic<std::uint64_t> count{0}, timed_count{0}, timed_ns{0}, fallbacks{0};
  std::atomic<std::uint64_t> bytes{0}, flops{0};
  TimeHistogram histogram;
  /// By the bytes a call moves, in steps of four: below 4 KiB, 16 KiB, ..., 4 GiB, and above.
  static constexpr std::size_t kSizes = 12;
  std::array<SizeStats, kSizes> sizes;

  static std::size_t size_class(double bytes) noexcept {
    const auto kib = static_cast<std::uint64_t>(bytes / 1024);
    return std::min((static_cast<std::size_t>(std::bit_width(kib / 4)) + 1) / 2, kSizes - 1);
  }

  void timed(std::uint64_t ns, double moved, double ops) noexcept {
    timed_count.fetch_add(1, std::memory_order_relaxed);
    timed_ns.fetch_add(ns, std::memory_order_relaxed);
    histogram.add(ns);
    SizeStats &size = sizes[size_class(moved)];
    size.count.fetch_add(1, std::memory_order_relaxed);
    size.ns.fetch_add(ns, std::memory_order_relaxed);
    size.bytes.fetch_add(static_cast<std::uint64_t>(moved), std::memory_order_relaxed);
    size.flops.fetch_add(static_cast<std::uint64_t>(ops), std::memory_order_relaxed);
  }
};

}  // namespace switchyard
