// SPDX-License-Identifier: Apache-2.0
#include "../../plugins/openmp/join.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace {

using switchyard::openmp::Join;

TEST(Join, ThreadsOfOneProcessorGiveWayToEachOther) {
  // All stand in line on one processor: who spins to the end of its quantum holds up the rest.
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  for (int round = 0; round < 100; ++round) {
    constexpr int kThreads = 4;
    Join end;
    std::atomic<int> done{0};
    std::vector<std::thread> team;
    for (int i = 0; i < kThreads; ++i)
      team.emplace_back([&] {
        sched_setaffinity(0, sizeof(one), &one);
        end.arrive(kThreads);
        ++done;
      });
    for (auto &t : team) t.join();
    EXPECT_EQ(done, kThreads);
  }
}

TEST(Join, NobodyWaitsForALoopThatGoesOnForLong) {
  Join end;
  end.arrive(2);  // the other never comes
}

TEST(Join, ALoneThreadDoesNotWait) {
  Join end;
  end.arrive(1);
}

}  // namespace
