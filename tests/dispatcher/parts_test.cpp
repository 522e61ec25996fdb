// SPDX-License-Identifier: Apache-2.0
/// The dispatcher's small parts: keys, shapes, samples, histograms, the table, the pool, quotas.
#include <gtest/gtest.h>

#include <numeric>

#include "dispatcher/call_memo.hpp"
#include "dispatcher/decision.hpp"
#include "host/thread_pool.hpp"
#include "machine/machine.hpp"
#include "metrics/kernel_stats.hpp"

namespace switchyard {
namespace {

TEST(Key, SizeClassesAreFourAnOctaveAndMonotonic) {
  EXPECT_EQ(KeyBuilder::size_class(0), 0u);
  EXPECT_EQ(KeyBuilder::size_class(7) + 1, KeyBuilder::size_class(8));
  EXPECT_EQ(KeyBuilder::size_class(8), KeyBuilder::size_class(9));
  EXPECT_NE(KeyBuilder::size_class(9), KeyBuilder::size_class(10));
  EXPECT_EQ(KeyBuilder::size_class(1 << 20) + 4, KeyBuilder::size_class(1 << 21));
  for (std::int64_t n = 0; n < 5000; ++n)
    EXPECT_LE(KeyBuilder::size_class(n), KeyBuilder::size_class(n + 1));
  EXPECT_LT(KeyBuilder::size_class(INT64_MAX), 256u);
}

TEST(Key, FieldsDoNotRunIntoEachOther) {
  Key a, b;
  KeyBuilder(a).add(1, 60).add(2, 30).add(3, 40);
  KeyBuilder(b).add(1, 60).add(2, 30).add(4, 40);
  EXPECT_FALSE(a == b);
  EXPECT_EQ(a.words[0], 1u);
  EXPECT_EQ(a.words[1], 2u);
  EXPECT_EQ(a.words[2], 3u);
}

TEST(Shape, ReadsBackWhatItWrites) {
  const auto shape = Shape::parse("n=1e5,d=128,k=64k,dtype=bf16");
  ASSERT_TRUE(shape);
  EXPECT_EQ(*shape->integer("n", 0, 1, 1 << 30), 100000);
  EXPECT_EQ(*shape->integer("k", 0, 1, 1 << 30), 64000);
  EXPECT_TRUE(same(*shape->dtype("dtype", dtypes::f32), dtypes::bf16));
  EXPECT_EQ(Shape::parse(shape->text()), *shape);
}

TEST(Shape, RefusesWhatItCannotRead) {
  for (const char *bad : {"n", "n=1,n=2", "=3", "N=3"}) EXPECT_FALSE(Shape::parse(bad)) << bad;
  const auto shape = *Shape::parse("n=1.5,m=-3,q=abc");
  EXPECT_FALSE(shape.integer("n", 0, 0, 10));
  EXPECT_FALSE(shape.integer("m", 0, 0, 10));
  EXPECT_FALSE(shape.integer("q", 0, 0, 10));
  const std::array<std::string_view, 2> known{"n", "mm"};
  const auto only = shape.only(known);
  ASSERT_FALSE(only);
  EXPECT_NE(only.error().message.find("unknown item 'm'"), std::string::npos)
      << only.error().message;
}

TEST(TensorView, NegativeStridesStartBeforeTheFirstElement) {
  float data[6] = {0, 1, 2, 3, 4, 5};
  const std::array<std::int64_t, 1> shape{3}, strides{-2};
  const TensorView view(data + 5, dtypes::f32, shape, strides);
  EXPECT_EQ(view.data<float>(), data + 5);
  EXPECT_EQ(view.raw().handle, data + 1);
  EXPECT_EQ(view.raw().byte_offset, 16u);
  EXPECT_EQ(view.raw().byte_size, 20u);
}

TEST(Samples, MedianAndIntervalOfKnownValues) {
  Samples s;
  for (std::uint64_t v : {5u, 1u, 9u, 3u, 7u}) s.add(v);
  EXPECT_EQ(s.median(), 5);
  EXPECT_EQ(s.minimum(), 1);
  EXPECT_EQ(s.interval().low, 1);
  EXPECT_EQ(s.interval().high, 9);
  for (int i = 0; i < 100; ++i) s.add(1000);
  EXPECT_EQ(s.median(), 1000) << "only the newest count";
}

TEST(Histogram, QuantilesWithinSixPercent) {
  TimeHistogram h;
  for (std::uint64_t ns = 1; ns <= 100'000; ++ns) h.add(ns);
  EXPECT_NEAR(h.quantile(0.5), 50'000, 3'200);
  EXPECT_NEAR(h.quantile(0.95), 95'000, 6'000);
  EXPECT_EQ(TimeHistogram().quantile(0.5), 0);
}

TEST(DecisionTable, KeepsEveryDecisionThroughGrowth) {
  DecisionTable table;
  for (std::uint64_t i = 0; i < 3000; ++i) {
    auto d = std::make_unique<Decision>();
    d->key.words[0] = i;
    table.insert(std::move(d));
  }
  for (std::uint64_t i = 0; i < 3000; ++i) {
    Key key;
    key.words[0] = i;
    ASSERT_NE(table.find(key, key.hash()), nullptr);
    EXPECT_EQ(table.find(key, key.hash())->key, key);
  }
  Key absent;
  absent.words[1] = 1;
  EXPECT_EQ(table.find(absent, absent.hash()), nullptr);
  EXPECT_EQ(table.all().size(), 3000u);
}

TEST(ThreadPool, RunsEachIndexOnceAlsoNestedAndConcurrent) {
  std::vector<std::atomic<int>> hits(1000);
  const auto body = [](void *arg, std::uint64_t i) {
    auto &v = *static_cast<std::vector<std::atomic<int>> *>(arg);
    ++v[i];
  };
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t)
    callers.emplace_back([&] {
      for (int r = 0; r < 50; ++r) ThreadPool::process().run(hits.size(), body, &hits, 3);
    });
  for (auto &c : callers) c.join();
  for (auto &h : hits) EXPECT_EQ(h, 200);

  static std::atomic<int> inner{0};
  ThreadPool::process().run(
      8,
      [](void *, std::uint64_t) {
        ThreadPool::process().run(
            5, [](void *, std::uint64_t) { ++inner; }, nullptr, 4);
      },
      nullptr, 4);
  EXPECT_EQ(inner, 40);
}

TEST(Machine, QuotasAreRead) {
  EXPECT_EQ(parse_cpu_max("200000 100000"), 2);
  EXPECT_EQ(parse_cpu_max("50000 100000"), 0.5);
  EXPECT_EQ(parse_cpu_max("max 100000"), 0);
  EXPECT_EQ(parse_cpu_max("-1 100000"), 0);
  EXPECT_EQ(parse_cpu_max(""), 0);
  EXPECT_GE(machine().thread_budget, 1);
  EXPECT_LE(machine().thread_budget, machine().logical_cpus);
}

TEST(CallMemo, ACallThatComesBackIsOneOfTheLatestAgain) {
  const auto memo = std::make_unique<CallMemo>();
  Decision decision;
  KnownCall known;
  known.decision = &decision;
  std::array<std::byte, 8> params{};
  sy_call call{};
  call.params = params.data();
  call.params_size = params.size();
  const auto describe = [&](int i) { params[0] = static_cast<std::byte>(i); };
  for (int i = 0; i < 5; ++i) {  // four are compared in full
    describe(i);
    EXPECT_EQ(memo->find(1, 0, call), nullptr);
    ASSERT_NE(memo->keep(1, 0, call, known), nullptr);
  }
  describe(0);
  const KnownCall *older = memo->find(1, 0, call);
  ASSERT_NE(older, nullptr);
  const KnownCall *latest = memo->find(1, 0, call);
  EXPECT_NE(latest, older);
  EXPECT_EQ(memo->find(1, 0, call), latest);
  EXPECT_EQ(latest->decision, &decision);
  EXPECT_EQ(memo->find(2, 0, call), nullptr) << "another dispatcher's";
}

}  // namespace
}  // namespace switchyard
