// SPDX-License-Identifier: Apache-2.0
#include "../../plugins/openmp/spread.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

namespace {

using switchyard::openmp::Spread;

std::vector<int> allowed_processors() {
  cpu_set_t set;
  sched_getaffinity(0, sizeof(set), &set);
  std::vector<int> out;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) out.push_back(cpu);
  return out;
}

void pin_to(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  ASSERT_EQ(sched_setaffinity(0, sizeof(set), &set), 0);
}

TEST(Spread, ThreadsOfOneProcessorEndOnDifferentOnesWithTheirAffinityUntouched) {
  const auto processors = allowed_processors();
  if (processors.size() < 2) GTEST_SKIP() << "one processor";
  cpu_set_t all;
  sched_getaffinity(0, sizeof(all), &all);
  Spread spread;
  std::vector<int> places;
  for (std::size_t i = 0; i < processors.size(); ++i) {
    std::thread([&] {
      pin_to(processors[0]);  // starts there, as a new thread of a team may
      sched_setaffinity(0, sizeof(all), &all);
      places.push_back(spread.join());
      EXPECT_EQ(allowed_processors(), processors);
    }).join();
  }
  std::ranges::sort(places);
  EXPECT_EQ(places, processors);
}

TEST(Spread, MoreThreadsThanProcessorsShareThem) {
  const auto processors = allowed_processors();
  Spread spread;
  for (std::size_t i = 0; i <= processors.size(); ++i) {
    const int place = spread.join();
    EXPECT_NE(std::ranges::find(processors, place), processors.end());
  }
}

TEST(Spread, AThreadThatMayNotMoveStays) {
  const auto processors = allowed_processors();
  Spread spread;
  std::thread([&] {
    pin_to(processors[0]);
    EXPECT_EQ(spread.join(), processors[0]);
    EXPECT_EQ(spread.join(), processors[0]);
    EXPECT_EQ(allowed_processors(), std::vector<int>{processors[0]});
  }).join();
}

}  // namespace
