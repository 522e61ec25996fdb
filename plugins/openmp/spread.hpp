// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Moves the threads of a loop to processors of their own. The system may start a thread, or wake
/// it, on the processor of the one that asked for it, and leave it there for many milliseconds
/// until the load balancer looks: all that while two threads are as slow as one. Affinities are as
/// before afterwards.

#include <sched.h>

#include <atomic>
#include <cstdint>

namespace switchyard::openmp {

class Spread {
 public:
  /// Called once by each thread of the team, at the start of the loop; one that is alone on its
  /// processor, as nearly all are, is through in some nanoseconds. The processor it ends on: no
  /// other thread's unless there are fewer processors than threads; -1 = not known.
  int join() noexcept {
    const int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE || claim(here)) return here;
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return here;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &allowed) || !claim(cpu)) continue;
      cpu_set_t there;
      CPU_ZERO(&there);
      CPU_SET(cpu, &there);
      if (sched_setaffinity(0, sizeof(there), &there) != 0) continue;
      sched_setaffinity(0, sizeof(allowed), &allowed);
      return cpu;
    }
    return here;
  }

 private:
  bool claim(int cpu) noexcept {
    const std::uint64_t bit = std::uint64_t{1} << cpu % 64;
    return (taken_[cpu / 64].fetch_or(bit, std::memory_order_relaxed) & bit) == 0;
  }

  std::atomic<std::uint64_t> taken_[CPU_SETSIZE / 64]{};
};

}  // namespace switchyard::openmp
