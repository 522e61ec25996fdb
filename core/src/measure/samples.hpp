// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A few timings of one kernel on one class of calls, summed up robustly.

#include <array>
#include <cstdint>

namespace switchyard {

class Samples {
 public:
  static constexpr int kKept = 32;  ///< the newest are kept

  void add(std::uint64_t ns) noexcept {
    values_[static_cast<std::size_t>(count_ % kKept)] = ns;
    ++count_;
  }
  void clear() noexcept { count_ = 0; }
  int count() const noexcept { return count_; }
  double median() const noexcept { return quantile(0.5); }
  double minimum() const noexcept { return quantile(0); }
  /// Distribution-free 95 % interval of the median (order statistics); the whole range below 6
  /// samples.
  struct Interval {
    double low = 0, high = 0;
  };
  Interval interval() const noexcept;

 private:
  int sorted(std::array<std::uint64_t, kKept> &out) const noexcept;
  double quantile(double q) const noexcept;

  std::array<std::uint64_t, kKept> values_{};
  int count_ = 0;
};

}  // namespace switchyard
