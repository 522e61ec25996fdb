// SPDX-License-Identifier: Apache-2.0
// What shipped measurements recommend, and that those that ship can be read.
#include "metrics/measurements.hpp"

#include <gtest/gtest.h>

#include <filesystem>

namespace switchyard {
namespace {

Measurements example() {
  return {"an idle hour",
          "0123",
          "Some Processor",
          2,
          {{"kmeans.step",
            "n=10000,d=16,k=8,dtype=f32",
            {{"fast:0", 1.0}, {"middle", 1.9}, {"slow", 3.8}}},
           {"kmeans.step", "n=1000000,d=16,k=8,dtype=f32", {{"fast:0", 50}, {"slow", 400}}},
           {"quantize", "n=1000,format=q4_0,dtype=f32", {{"slow", 2.0}, {"middle", 2.05}}}}};
}

PluginInfo plugin(const std::string &id, const std::string &status,
                  const std::string &reason = "") {
  PluginInfo p;
  p.id = id;
  p.status = status;
  p.reason = reason;
  if (status == "loaded") p.instances = {id};
  return p;
}

std::vector<Recommendation> ask(const std::vector<PluginInfo> &plugins,
                                const std::vector<Usage> &usage,
                                const std::string &fingerprint = "0123", int threads = 2) {
  const std::vector<Measurements> known{example()};
  return recommend_plugins(known, fingerprint, threads, plugins, usage);
}

const Usage kCall{"kmeans.step", "n=20000,d=16,k=8,dtype=f32", "middle"};

TEST(Measurements, NameWhatIsNotThereWithTheFigure) {
  const auto found = ask({plugin("middle", "loaded"), plugin("slow", "loaded")}, {kCall});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_DOUBLE_EQ(found[0].expected_gain, 1.9);
  EXPECT_EQ(found[0].what, "build and install the plugin fast: 1.9x on kmeans.step at these sizes");
  for (const char *part : {"a like machine", "Some Processor", "2 threads", "an idle hour",
                           "n=10000,d=16,k=8", "1.9 ms on middle", "1 ms at best on fast:0"})
    EXPECT_NE(found[0].evidence.find(part), std::string::npos) << found[0].evidence;
  EXPECT_EQ(found[0].command, "switchyard doctor");
}

TEST(Measurements, SayWhyAPluginThatIsThereIsNotLoaded) {
  const auto found =
      ask({plugin("middle", "loaded"), plugin("fast", "unavailable", "no device")}, {kCall});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NE(found[0].what.find("unavailable here: no device"), std::string::npos) << found[0].what;
}

TEST(Measurements, ClaimNothingWithoutAMeasurement) {
  const std::vector<PluginInfo> here{plugin("middle", "loaded")};
  EXPECT_TRUE(ask(here, {kCall}, "4567").empty());
  EXPECT_TRUE(ask(here, {kCall}, "0123", 4).empty());
  EXPECT_TRUE(ask(here, {}).empty());
  EXPECT_TRUE(ask(here, {{"attention", kCall.shape, "middle"}}).empty());
  EXPECT_TRUE(ask(here, {{"kmeans.step", kCall.shape, "unheard"}}).empty());
  EXPECT_TRUE(ask(here, {{"kmeans.step", "n=100,d=16,k=8,dtype=f32", "middle"}}).empty()) << "size";
  EXPECT_TRUE(ask(here, {{"kmeans.step", "n=20000,d=16,k=8,dtype=f16", "middle"}}).empty())
      << "another type";
  EXPECT_TRUE(ask(here, {{"kmeans.step", kCall.shape + ",layout=permuted", "middle"}}).empty());
  EXPECT_EQ(ask(here, {{"kmeans.step", kCall.shape + ",previous=1", "middle"}}).size(), 1u);
  PluginInfo fast = plugin("fast", "loaded");
  fast.instances = {"fast:0"};
  EXPECT_TRUE(ask({here[0], fast}, {kCall}).empty()) << "it is loaded already";
  EXPECT_TRUE(
      ask({plugin("slow", "loaded")}, {{"quantize", "n=1000,format=q4_0,dtype=f32", "middle"}})
          .empty())
      << "a few per cent are noise";
}

TEST(Measurements, TheBestOfSeveralSizesIsGiven) {
  const auto found =
      ask({plugin("slow", "loaded")}, {{"kmeans.step", "n=10000,d=16,k=8,dtype=f32", "slow"},
                                       {"kmeans.step", "n=900000,d=16,k=8,dtype=f32", "slow"}});
  ASSERT_EQ(found.size(), 2u) << "fast and middle";
  EXPECT_DOUBLE_EQ(found[0].expected_gain, 8);
  EXPECT_DOUBLE_EQ(found[1].expected_gain, 2);
}

TEST(Measurements, EveryShippedFileIsRead) {
  std::size_t files = 0;
  const std::filesystem::path folder = SWITCHYARD_SOURCE_DIR "/config/measurements";
  if (std::filesystem::exists(folder))
    for (const auto &entry : std::filesystem::directory_iterator(folder))
      files += entry.path().extension() == ".json";
  EXPECT_EQ(shipped_measurements().size(), files);
  for (const Measurements &m : shipped_measurements()) {
    EXPECT_FALSE(m.label.empty());
    EXPECT_FALSE(m.rows.empty());
    for (const Measurements::Row &row : m.rows) EXPECT_FALSE(row.timings.empty()) << row.shape;
  }
}

TEST(Measurements, BadFilesAreRefused) {
  for (const char *text : {"", "{", "[]", "{}", R"({"head":{},"shapes":[]})",
                           R"({"head":{"label":"","machine":{"fingerprint":"","cpu":""},
                              "threads":1},"shapes":[{"op":"x"}]})"})
    EXPECT_FALSE(parse_measurements(text)) << text;
}

}  // namespace
}  // namespace switchyard
