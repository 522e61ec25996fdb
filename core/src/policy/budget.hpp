// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What an engine may spend on trying other candidates than the best known one. Trying on the
/// caller's own work costs only the difference, and only the difference is counted. Lock-free.

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace switchyard {

class Budget {
 public:
  /// `share` of all time in kernels, and `start_ms` on top for a start without measurements.
  Budget(double share, double start_ms) : share_(share), start_ns_(start_ms * 1e6) {}

  void earn(std::uint64_t ns) noexcept { total_ns_.fetch_add(ns, std::memory_order_relaxed); }
  void spend(double extra_ns) noexcept {
    extra_ns_.fetch_add(static_cast<std::uint64_t>(std::max(extra_ns, 0.0)),
                        std::memory_order_relaxed);
  }
  bool allows(double extra_ns) const noexcept {
    return share_ > 0 && this->extra_ns() + extra_ns <= std::max(start_ns_, share_ * total_ns());
  }
  double share() const noexcept { return share_; }
  double total_ns() const noexcept {
    return static_cast<double>(total_ns_.load(std::memory_order_relaxed));
  }
  double extra_ns() const noexcept {
    return static_cast<double>(extra_ns_.load(std::memory_order_relaxed));
  }

 private:
  const double share_, start_ns_;
  std::atomic<std::uint64_t> total_ns_{0}, extra_ns_{0};
};

}  // namespace switchyard
