// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Sampled checks of kernels at work: parts of finished calls are recomputed by the reference,
/// within a share of the time that the calls take.

#include <atomic>
#include <cstdint>
#include <string>

#include "verify/gate.hpp"

namespace switchyard {

/// What one class of calls may still spend on checks. Any number of threads at once; a lost race
/// costs a check more or less.
class ShadowBudget {
 public:
  /// `ns` of kernel time went by; true when a check is due, which then has to be paid.
  bool earn(double share, std::uint64_t ns) noexcept {
    const auto earned = static_cast<std::int64_t>(share * static_cast<double>(ns));
    const std::int64_t credit = credit_.fetch_add(earned, std::memory_order_relaxed) + earned;
    return credit >= cost_.load(std::memory_order_relaxed);
  }
  /// What the first check will take, where that is known beforehand.
  void expect(std::uint64_t ns) noexcept {
    cost_.store(static_cast<std::int64_t>(ns), std::memory_order_relaxed);
  }
  void pay(std::uint64_t ns) noexcept {
    const auto spent = static_cast<std::int64_t>(ns);
    credit_.fetch_sub(spent, std::memory_order_relaxed);
    const std::int64_t before = cost_.load(std::memory_order_relaxed);
    cost_.store(before + (spent - before) / 4, std::memory_order_relaxed);
    checks_.fetch_add(1, std::memory_order_relaxed);
    spent_.fetch_add(ns, std::memory_order_relaxed);
  }
  std::uint64_t checks() const noexcept { return checks_.load(std::memory_order_relaxed); }
  std::uint64_t spent_ns() const noexcept { return spent_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> credit_{0};
  std::atomic<std::int64_t> cost_{20'000};  ///< expected ns of a check; the first is a guess
  std::atomic<std::uint64_t> checks_{0}, spent_{0};
};

/// Recomputes a part of a call that `candidate` has just finished. "" = right, or nothing could be
/// checked (the reference does not offer it, an output lies on an input, no memory); else what is
/// wrong, confirmed by a comparison of the whole call.
std::string shadow_check(const Candidate &candidate, const Reference &reference,
                         const sy_call &done) noexcept;

}  // namespace switchyard
