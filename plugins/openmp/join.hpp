// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The end of a parallel loop on a machine that does other work too. OpenMP's threads wait for each
/// other by spinning; where the one that is waited for stands in line behind the one that spins,
/// both lose the scheduler's whole quantum: milliseconds for a loop of microseconds. Here they give
/// way to each other before they reach OpenMP's barrier.

#include <immintrin.h>
#include <sched.h>

#include <atomic>

namespace switchyard::openmp {

class Join {
 public:
  /// Called once by each of the team's `threads` at its end of the loop; returns when all have, or
  /// when the others are evidently busy: from there OpenMP's barrier, which sleeps, does better.
  void arrive(int threads) noexcept {
    here_.fetch_add(1, std::memory_order_release);
    const auto all_here = [&] { return here_.load(std::memory_order_acquire) >= threads; };
    for (int i = 0; i < kSpins; ++i) {
      if (all_here()) return;
      _mm_pause();
    }
    for (int i = 0; i < kYields && !all_here(); ++i) sched_yield();
  }

 private:
  static constexpr int kSpins = 200;    // some microseconds
  static constexpr int kYields = 1000;  // some hundred, if nobody takes the turn

  std::atomic<int> here_{0};
};

}  // namespace switchyard::openmp
