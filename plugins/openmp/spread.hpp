// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Moves the threads of a new team to processors of their own. The system may start a thread on the
/// processor of the one that made it; at the end of a loop that one waits by spinning, and the
/// other gets its turn only when the scheduler's quantum ends: milliseconds for a loop of
/// microseconds, until the load balancer looks. Affinities are as before afterwards.

#include <sched.h>

#include <atomic>

namespace switchyard::openmp {

class Spread {
 public:
  /// Called once by each thread of the team, at the same time. The processor it ends on: no other
  /// thread's unless there are fewer processors than threads; -1 = not known.
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
  bool claim(int cpu) noexcept { return !taken_[cpu].exchange(true, std::memory_order_relaxed); }

  std::atomic<bool> taken_[CPU_SETSIZE]{};
};

}  // namespace switchyard::openmp
