// SPDX-License-Identifier: Apache-2.0
#include "metrics/kernel_stats.hpp"

#include <cmath>

namespace switchyard {
namespace {

/// The middle of a class, in ns.
double middle(std::size_t bucket) {
  constexpr auto per = TimeHistogram::kPerOctave;
  if (bucket < per) return static_cast<double>(bucket);
  const double octave = static_cast<double>(bucket / per) + 2;
  const double fraction = (static_cast<double>(bucket % per) + 0.5) / per;
  return std::exp2(octave) * (1 + fraction);
}

}  // namespace

void TimeHistogram::copy_into(std::array<std::uint64_t, kBuckets> &sum) const noexcept {
  for (std::size_t i = 0; i < kBuckets; ++i) sum[i] += buckets_[i].load(std::memory_order_relaxed);
}

double TimeHistogram::quantile_of(const std::array<std::uint64_t, kBuckets> &counts,
                                  double q) noexcept {
  std::uint64_t total = 0;
  for (const auto c : counts) total += c;
  if (total == 0) return 0;
  const auto rank = static_cast<std::uint64_t>(std::ceil(q * static_cast<double>(total)));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    seen += counts[i];
    if (seen >= rank && counts[i] > 0) return middle(i);
  }
  return middle(kBuckets - 1);
}

double TimeHistogram::quantile(double q) const noexcept {
  std::array<std::uint64_t, kBuckets> counts{};
  copy_into(counts);
  return quantile_of(counts, q);
}

}  // namespace switchyard
