// SPDX-License-Identifier: Apache-2.0
// What to type to follow a recommendation: as the engine words them.
#include "facade/recommend.hpp"

#include <fstream>

#include "machine/machine.hpp"
#include "support/engine_support.hpp"

namespace switchyard {
namespace {

TEST(Recommend, CommandsFollowTheEnginesWords) {
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
      EXPECT_TRUE(command_of(r).starts_with("switchyard plugin check /")) << command_of(r);
      EXPECT_TRUE(command_of(r).ends_with(".so")) << command_of(r);
    }
    if (r.what.starts_with("raise")) {
      ++threads;
      EXPECT_EQ(command_of(r),
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
  EXPECT_EQ(command_of(pin[0]), "switchyard run CONFIG.yaml --set 'engine.pin={quantize: b}'");
  // Faster on one shape, slower where the time goes.
  EXPECT_TRUE(recommend_pins(std::vector{small, large}).empty());
  // A shape that nobody timed it on.
  EXPECT_TRUE(recommend_pins(std::vector{small, unknown}).empty());
  // A gain within the noise.
  EXPECT_TRUE(
      recommend_pins(std::vector{MeasuredClass{"q", "a", 1, {{"a", 104}, {"b", 100}}}}).empty());
  EXPECT_TRUE(recommend_pins({}).empty());
}

TEST(Recommend, AMissingPluginAndWhatNoCommandMends) {
  EXPECT_EQ(command_of({"build or install the plugin x: 2.0x on y", "shipped measurements of", 2}),
            "switchyard doctor");
  EXPECT_EQ(command_of({"move fewer bytes in quantize calls", "measured here", 0}), "");
}

}  // namespace
}  // namespace switchyard
