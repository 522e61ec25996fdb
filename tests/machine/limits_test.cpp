// SPDX-License-Identifier: Apache-2.0
// The machine's limits: kept, lost, damaged, and what they say of a call.
#include "machine/limits.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "machine/machine.hpp"
#include "support/engine_support.hpp"

namespace switchyard {
namespace {

using testing::TemporaryDirectory;

MachineLimits example() {
  MachineLimits m;
  m.fingerprint = machine().fingerprint;
  m.cpu = "a processor";
  m.bandwidth = {{"L1d", 32 << 10, 16 << 10, 1, 100e9, 50e9, 80e9},
                 {"L2", 1 << 20, 512 << 10, 1, 60e9, 40e9, 70e9},
                 {"memory", 0, 1 << 28, 1, 10e9, 9e9, 12e9},
                 {"L2", 2 << 20, 1 << 20, 2, 120e9, 80e9, 140e9},
                 {"memory", 0, 1 << 28, 2, 15e9, 9e9, 16e9}};
  m.compute = {{"f32", "wide", 1, 100e9},
               {"bf16", "wide", 1, 200e9},
               {"f32", "wide", 2, 190e9},
               {"bf16", "wide", 2, 390e9}};
  return m;
}

std::string slurp(const std::string &path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(Limits, AreKeptAsTheyWere) {
  const TemporaryDirectory cache;
  EXPECT_FALSE(cached_limits(cache.path()));
  const MachineLimits m = example();
  ASSERT_TRUE(keep_limits(cache.path(), m));
  const auto back = cached_limits(cache.path());
  ASSERT_TRUE(back) << back.error().text();
  ASSERT_EQ(back->bandwidth.size(), m.bandwidth.size());
  ASSERT_EQ(back->compute.size(), m.compute.size());
  EXPECT_EQ(back->cpu, m.cpu);
  EXPECT_EQ(back->bandwidth[1].level, "L2");
  EXPECT_EQ(back->bandwidth[1].capacity, m.bandwidth[1].capacity);
  EXPECT_EQ(back->bandwidth[1].copy, m.bandwidth[1].copy);
  EXPECT_EQ(back->compute[3].ops, m.compute[3].ops);
}

TEST(Limits, TheHigherFigureStays) {
  const TemporaryDirectory cache;
  ASSERT_TRUE(keep_limits(cache.path(), example()));
  MachineLimits busy = example();
  busy.bandwidth[0].read /= 2;
  busy.bandwidth[0].write *= 2;
  busy.compute[0].ops /= 3;
  ASSERT_TRUE(keep_limits(cache.path(), busy));
  const auto kept = cached_limits(cache.path());
  ASSERT_TRUE(kept);
  EXPECT_EQ(kept->bandwidth[0].read, example().bandwidth[0].read);
  EXPECT_EQ(kept->bandwidth[0].write, busy.bandwidth[0].write);
  EXPECT_EQ(kept->compute[0].ops, example().compute[0].ops);
}

TEST(Limits, BadFilesAreExplainedMisses) {
  const TemporaryDirectory cache;
  EXPECT_NE(cached_limits("").error().message.find("nothing is kept"), std::string::npos);
  EXPECT_NE(cached_limits(cache.path()).error().message.find("not measured"), std::string::npos);
  ASSERT_TRUE(keep_limits(cache.path(), example()));
  const std::string path = limits_path(cache.path()), good = slurp(path);
  const auto expect_miss = [&](const std::string &text, const char *why) {
    std::ofstream(path) << text;
    const auto read = cached_limits(cache.path());
    ASSERT_FALSE(read) << why;
    EXPECT_NE(read.error().message.find(why), std::string::npos) << read.error().text();
  };
  expect_miss("", "damaged");
  expect_miss("[]", "damaged");
  expect_miss(good.substr(0, good.size() / 2), "damaged");
  std::string changed = good;
  changed.replace(changed.find("100000000000"), 1, "9");
  expect_miss(changed, "damaged");
  auto doc = nlohmann::json::parse(good);
  doc["schema"] = 99;
  expect_miss(doc.dump(), "damaged");
  MachineLimits other = example();
  other.fingerprint = "0000000000000000";
  ASSERT_TRUE(keep_limits(cache.path(), other));
  EXPECT_NE(cached_limits(cache.path()).error().message.find("another machine"), std::string::npos);
}

TEST(Limits, TheSmallestLevelThatHoldsTheBytesCounts) {
  const MachineLimits m = example();
  EXPECT_EQ(m.bandwidth_at(1000, 1)->level, "L1d");
  EXPECT_EQ(m.bandwidth_at(100e3, 1)->level, "L2");
  EXPECT_EQ(m.bandwidth_at(1.5e6, 1)->level, "memory");
  EXPECT_EQ(m.bandwidth_at(1.5e6, 2)->level, "L2");
  EXPECT_EQ(m.bandwidth_at(1.5e6, 2)->threads, 2);
  EXPECT_EQ(m.bandwidth_at(1e9, 7)->threads, 2) << "the most threads that were measured";
  EXPECT_EQ(m.bandwidth_at(1e9, 0), nullptr);
  EXPECT_EQ(m.compute_of("f32", 2)->ops, 190e9);
  EXPECT_EQ(m.compute_of("int8", 2), nullptr);
}

TEST(Limits, BottlenecksAreNamed) {
  const MachineLimits m = example();
  const Bottleneck memory = find_bottleneck(m, 1e9, 1e6, 0.1, 1);  // 10 of 12 GB/s
  EXPECT_EQ(memory.bound, "memory");
  EXPECT_NEAR(memory.memory_share, 10.0 / 12, 1e-9);
  EXPECT_EQ(memory.text(), "memory-bound: 83 % of memory bandwidth, 0 % of f32 peak");
  const Bottleneck compute = find_bottleneck(m, 1e4, 8e9, 0.1, 1);  // 80 of 100 GFLOP/s
  EXPECT_EQ(compute.bound, "compute");
  EXPECT_EQ(compute.kind, "f32");
  const Bottleneck narrow = find_bottleneck(m, 1e4, 15e9, 0.1, 1);  // more than f32 can do
  EXPECT_EQ(narrow.kind, "bf16");
  EXPECT_NEAR(narrow.compute_share, 0.75, 1e-9);
  EXPECT_EQ(find_bottleneck(m, 1e4, 1e4, 1, 1).bound, "overhead");
  EXPECT_EQ(find_bottleneck(m, 1e4, 1e4, 0, 1).bound, "");
  EXPECT_EQ(find_bottleneck({}, 1e4, 1e4, 1, 1).bound, "");
  EXPECT_EQ(find_bottleneck({}, 1e4, 1e4, 1, 1).text(), "");
}

TEST(Limits, MetricsHoldCallsAgainstThem) {
  const TemporaryDirectory cache;
  MachineLimits m = example();
  for (BandwidthLimit &b : m.bandwidth) b.read = b.write = b.copy = 1;  // a byte a second
  for (ComputeLimit &c : m.compute) c.ops = 1e18;
  ASSERT_TRUE(keep_limits(cache.path(), m));
  Options options = testing::test_options();
  options.cache_dir = cache.path();
  options.isolation = Isolation::off;
  Engine engine = testing::make_engine(options);
  std::vector<float> x(64 * 1024, 1.0f);
  ASSERT_TRUE(engine.quantize({x.data(), {64, 1024}}, {.format = "q8_0"}));
  const Metrics metrics = engine.metrics();
  const auto &by_backend = metrics.by_op.at("quantize");
  ASSERT_EQ(by_backend.size(), 1u);
  const BackendMetrics &backend = by_backend.begin()->second;
  ASSERT_EQ(backend.sizes.size(), 1u);
  const SizeMetrics &size = backend.sizes.front();
  EXPECT_EQ(size.timed_count, backend.timed_count);
  EXPECT_GE(size.bytes, 64 * 1024 * 4);
  EXPECT_EQ(size.bound, "memory");
  EXPECT_GT(size.memory_share, 1);
  EXPECT_NE(metrics.json().find("memory-bound"), std::string::npos);
  bool told = false;
  for (const Recommendation &r : engine.recommend()) {
    if (r.evidence.find("memory-bound") == std::string::npos) continue;
    told = true;
    EXPECT_EQ(r.command, "") << "no single line would do";
  }
  EXPECT_TRUE(told);
  // Without limits nothing is claimed.
  std::filesystem::remove(limits_path(cache.path()));
  const Metrics without = engine.metrics();
  EXPECT_EQ(without.by_op.at("quantize").begin()->second.sizes.front().bound, "");
  EXPECT_NE(without.limits.find("not measured"), std::string::npos) << without.limits;
}

}  // namespace
}  // namespace switchyard
