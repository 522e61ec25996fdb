// SPDX-License-Identifier: Apache-2.0
// What is recommended, and what to type to follow it.
#include "facade/recommend.hpp"

#include <fstream>

#include "machine/machine.hpp"
#include "support/engine_support.hpp"

namespace switchyard {
namespace {

TEST(Recommend, WhatAnEngineSaysHasCommands) {
  Options options = testing::test_options();
  options.threads = 1;
  const testing::TemporaryDirectory folder;
  std::ofstream(folder.path() + "/switchyard_broken.so") << "no object file";
  options.plugin_paths = {folder.path()};
  const Engine engine = testing::make_engine(options);
  int repair = 0, threads = 0;
  for (const Recommendation &r : engine.recommend()) {
    if (r.what.starts_with("repair")) {
      ++repair;
      EXPECT_TRUE(r.command.starts_with("switchyard plugin check /")) << r.command;
      EXPECT_TRUE(r.command.ends_with(".so")) << r.command;
    }
    if (r.what.starts_with("raise")) {
      ++threads;
      EXPECT_EQ(r.command,
                "switchyard run CONFIG.yaml --threads " + std::to_string(machine().thread_budget));
    }
  }
  EXPECT_EQ(repair, 1);
  EXPECT_EQ(threads, machine().thread_budget > 1 ? 1 : 0);
}

TEST(Recommend, APinMustPayOverAllShapes) {
  const MeasuredClass small{"quantize", "a", 1e6, {{"a", 100}, {"b", 50}}},
      large{"quantize", "a", 8e6, {{"a", 1000}, {"b", 1200}}},
      unknown{"quantize", "a", 1e3, {{"a", 10}}};
  const std::vector<MeasuredClass> pays{small};
  const auto pin = recommend_pins(pays);
  ASSERT_EQ(pin.size(), 1U);
  EXPECT_EQ(pin[0].what, "pin quantize to b");
  EXPECT_EQ(pin[0].expected_gain, 2);
  EXPECT_EQ(pin[0].command, "switchyard run CONFIG.yaml --set 'engine.pin={quantize: b}'");
  // Faster on one shape, slower where the time goes.
  EXPECT_TRUE(recommend_pins(std::vector{small, large}).empty());
  // A shape that nobody timed it on.
  EXPECT_TRUE(recommend_pins(std::vector{small, unknown}).empty());
  // A gain within the noise.
  EXPECT_TRUE(
      recommend_pins(std::vector{MeasuredClass{"q", "a", 1, {{"a", 104}, {"b", 100}}}}).empty());
  EXPECT_TRUE(recommend_pins({}).empty());
}

}  // namespace
}  // namespace switchyard
