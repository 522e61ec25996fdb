// SPDX-License-Identifier: Apache-2.0
// Cases whose answers can be worked out by hand, on the reference and on every kernel.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numeric>

#include "kernels.hpp"

namespace switchyard::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

void expect_near(const std::vector<float> &got, const std::vector<double> &want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::isfinite(want[i]))
      EXPECT_NEAR(got[i], want[i], 1e-5 * (1 + std::abs(want[i]))) << "element " << i;
    else
      EXPECT_EQ(static_cast<double>(got[i]), want[i]) << "element " << i;
  }
}

/// q = 0, so that each row averages what it sees; v[j] = j.
Case averages(std::int64_t lq, std::int64_t lkv, std::int64_t heads = 1) {
  Case c;
  c.q = *Tensor::zeros(dtypes::f32, std::array<std::int64_t, 4>{1, heads, lq, 2});
  c.k = *Tensor::zeros(dtypes::f32, std::array<std::int64_t, 4>{1, 1, lkv, 2});
  c.v = *Tensor::zeros(dtypes::f32, std::array<std::int64_t, 4>{1, 1, lkv, 1});
  std::iota(c.v.data<float>(), c.v.data<float>() + lkv, 0.0f);
  return c;
}

/// The average of begin..end-1 for each row.
std::vector<double> means(std::initializer_list<std::pair<int, int>> ranges) {
  std::vector<double> out;
  for (const auto &[begin, end] : ranges) out.push_back((begin + end - 1) / 2.0);
  return out;
}

TEST(Semantics, OneKeyGivesItsValueAndItsScore) {
  Case c;
  c.q = array({1, 1, 1, 2}, {3, 4});
  c.k = array({1, 1, 1, 2}, {1, 0.5});
  c.v = array({1, 1, 1, 3}, {7, -8, 9});
  c.params.scale = 0.5f;
  on_all(c, [&] {
    expect_near(c.o, {7, -8, 9});
    expect_near(c.lse, {2.5});
  });
}

TEST(Semantics, WeightsAreExponentialsOfScaledScores) {
  Case c;
  c.q = array({1, 1, 1, 1}, {2});
  c.k = array({1, 1, 2, 1}, {0, std::log(3.0f) / 2});  // weights 1/4 and 3/4
  c.v = array({1, 1, 2, 1}, {0, 4});
  on_all(c, [&] {
    expect_near(c.o, {3});
    expect_near(c.lse, {std::log(4.0)});
  });
}

TEST(Semantics, NegativeScaleTurnsTheOrderRound) {
  Case c;
  c.q = array({1, 1, 1, 1}, {1});
  c.k = array({1, 1, 2, 1}, {0, std::log(3.0f)});
  c.v = array({1, 1, 2, 1}, {0, 4});
  c.params.scale = -1;
  on_all(c, [&] { expect_near(c.o, {1}); });
}

TEST(Semantics, QueryHeadsShareKeyHeadsInRuns) {
  Case c;
  c.q = array({1, 4, 1, 1}, {1, 1, 1, 1});
  c.k = array({1, 2, 1, 1}, {1, 1});
  c.v = array({1, 2, 1, 1}, {10, 20});
  on_all(c, [&] { expect_near(c.o, {10, 10, 20, 20}); });
}

TEST(Semantics, CausalTopLeftAndBottomRight) {
  Case c = averages(2, 4);
  c.params.causal = SY_CAUSAL_TOP_LEFT;
  on_all(c, [&] { expect_near(c.o, means({{0, 1}, {0, 2}})); });
  c.params.causal = SY_CAUSAL_BOTTOM_RIGHT;
  on_all(c, [&] {
    expect_near(c.o, means({{0, 3}, {0, 4}}));
    expect_near(c.lse, {std::log(3.0), std::log(4.0)});
  });
}

TEST(Semantics, MoreQueriesThanKeysLeaveRowsThatSeeNothing) {
  Case c = averages(4, 2);
  c.params.causal = SY_CAUSAL_BOTTOM_RIGHT;
  on_all(c, [&] {
    expect_near(c.o, {0, 0, 0, 0.5});
    expect_near(c.lse, {-kInf, -kInf, 0, std::log(2.0)});
  });
  c.params.causal = SY_CAUSAL_TOP_LEFT;
  on_all(c, [&] { expect_near(c.o, means({{0, 1}, {0, 2}, {0, 2}, {0, 2}})); });
}

TEST(Semantics, WindowCountsFromTheQuerysPosition) {
  Case c = averages(5, 5);
  c.params.window_left = 1;
  c.params.causal = SY_CAUSAL_BOTTOM_RIGHT;  // two keys, its own among them
  on_all(c, [&] { expect_near(c.o, means({{0, 1}, {0, 2}, {1, 3}, {2, 4}, {3, 5}})); });
  c.params.causal = SY_CAUSAL_NONE;
  c.params.window_right = 2;
  on_all(c, [&] { expect_near(c.o, means({{0, 3}, {0, 4}, {1, 5}, {2, 5}, {3, 5}})); });
  c.params.window_left = INT64_MAX;
  c.params.window_right = INT64_MAX;
  on_all(c, [&] { expect_near(c.o, {2, 2, 2, 2, 2}); });
}

TEST(Semantics, WindowWithoutCausalRuleIsAlignedToTheEnd) {
  Case c = averages(2, 5);
  c.params.window_left = 0;
  c.params.window_right = 0;
  on_all(c, [&] { expect_near(c.o, {3, 4}); });
  c.params.causal = SY_CAUSAL_TOP_LEFT;
  on_all(c, [&] { expect_near(c.o, {0, 1}); });
}

TEST(Semantics, BoolMaskSelects) {
  Case c = averages(3, 4);
  const std::array<std::uint8_t, 12> bits{1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0};
  c.mask = TensorView(static_cast<const void *>(bits.data()), dtypes::boolean,
                      std::array<std::int64_t, 4>{1, 1, 3, 4});
  on_all(c, [&] {
    expect_near(c.o, {1.5, 1.5, 0});
    expect_near(c.lse, {std::log(2.0), std::log(2.0), -kInf});
  });
  c.params.causal = SY_CAUSAL_BOTTOM_RIGHT;  // both must agree
  on_all(c, [&] { expect_near(c.o, {0, 1.5, 0}); });
}

TEST(Semantics, AdditiveMaskIsAddedAndMinusInfinityHides) {
  Case c = averages(2, 3);
  const std::array<float, 6> bias{0, std::log(2.0f), -kInf, 5, 5, 5};
  c.mask = TensorView(static_cast<const void *>(bias.data()), dtypes::f32,
                      std::array<std::int64_t, 4>{1, 1, 2, 3});
  on_all(c, [&] {
    expect_near(c.o, {2.0 / 3, 1});
    expect_near(c.lse, {std::log(3.0), 5 + std::log(3.0)});
  });
}

TEST(Semantics, TheLeastFiniteMaskStillWeighsAllKeysAlike) {
  Case c = averages(1, 4);
  const float lowest = std::numeric_limits<float>::lowest();
  const std::array<float, 4> bias{lowest, lowest, lowest, lowest};
  c.mask = TensorView(static_cast<const void *>(bias.data()), dtypes::f32,
                      std::array<std::int64_t, 4>{1, 1, 1, 4});
  on_all(c, [&] { expect_near(c.o, {1.5}); });
}

TEST(Semantics, SoftcapComesBeforeTheMask) {
  Case c;
  c.q = array({1, 1, 1, 1}, {6});
  c.k = array({1, 1, 3, 1}, {1, -1, 100});
  c.v = array({1, 1, 3, 1}, {0, 1, 50});
  c.params.softcap = 2;
  const std::array<float, 3> bias{0, 0, -kInf};
  c.mask = TensorView(static_cast<const void *>(bias.data()), dtypes::f32,
                      std::array<std::int64_t, 4>{1, 1, 1, 3});
  const double t = 2 * std::tanh(3.0);
  on_all(c, [&] {
    expect_near(c.o, {std::exp(-t) / (std::exp(t) + std::exp(-t))});
    expect_near(c.lse, {std::log(std::exp(t) + std::exp(-t))});
  });
}

TEST(Semantics, SinksTakeWeightOnce) {
  Case c = averages(2, 300, 2);  // several blocks of keys
  c.sinks = array({2}, {std::log(300.0f), -kInf});
  c.params.causal = SY_CAUSAL_BOTTOM_RIGHT;
  on_all(c, [&] {
    expect_near(c.o, {149 * 299 / 599.0, 149.5 / 2, 149, 149.5});
    expect_near(c.lse, {std::log(599.0), std::log(600.0), std::log(299.0), std::log(300.0)});
  });
}

TEST(Semantics, NothingSeenButTheSink) {
  Case c = averages(3, 2);
  c.sinks = array({1}, {0.25f});
  c.params.causal = SY_CAUSAL_BOTTOM_RIGHT;
  on_all(c, [&] {
    EXPECT_EQ(c.o[0], 0);
    EXPECT_EQ(c.lse[0], 0.25f);
  });
}

TEST(Semantics, AlibiFallsWithDistance) {
  Case c = averages(2, 3);
  c.alibi = array({1}, {std::log(2.0f)});
  c.params.causal = SY_CAUSAL_BOTTOM_RIGHT;
  on_all(c, [&] { expect_near(c.o, {2.0 / 3, (0.5 + 2.0) / 1.75}); });
}

TEST(Semantics, NoKeysAndNoQueries) {
  Case c = averages(2, 0);
  on_all(c, [&] {
    expect_near(c.o, {0, 0});
    expect_near(c.lse, {-kInf, -kInf});
  });
  c.sinks = array({1}, {3});
  on_all(c, [&] { expect_near(c.lse, {3, 3}); });
  Case none = averages(0, 4);
  on_all(none, [&] { EXPECT_TRUE(none.o.empty()); });
}

TEST(Semantics, KeysBehindASequencesLengthAreNeverRead) {
  Case c;
  c.q = *Tensor::zeros(dtypes::f32, std::array<std::int64_t, 4>{3, 2, 2, 2});
  c.k = *Tensor::zeros(dtypes::f32, std::array<std::int64_t, 4>{3, 1, 4, 2});
  c.v = *Tensor::zeros(dtypes::f32, std::array<std::int64_t, 4>{3, 1, 4, 1});
  const std::vector<std::int32_t> lengths{4, 3, 0};
  c.lengths = integers(lengths);
  for (int b = 0; b < 3; ++b)
    for (int j = 0; j < 4; ++j) {
      const bool real = j < lengths[static_cast<std::size_t>(b)];
      c.v.data<float>()[b * 4 + j] = real ? static_cast<float>(j) : NAN;
      if (!real) c.k.data<float>()[(b * 4 + j) * 2] = NAN;
    }
  c.params.causal = SY_CAUSAL_BOTTOM_RIGHT;  // the queries are the last positions that exist
  on_all(c, [&] { expect_near(c.o, {1, 1.5, 1, 1.5, 0.5, 1, 0.5, 1, 0, 0, 0, 0}); });
}

TEST(Semantics, CancellingStopsEveryKernel) {
  const auto problem =
      *attention_spec().make_problem(*Shape::parse("hq=4,hkv=1,lq=16,lkv=60000,d=64"), 1);
  std::vector<Kernel> all = kernels();
  all.insert(all.begin(), reference());
  int cancelled = 0;
  for (const Kernel &kernel : all) {
    auto outputs = *ProblemOutputs::make(problem);
    CallFrame frame(SY_ATTENTION_INPUTS, SY_ATTENTION_OUTPUTS);
    bind(problem, outputs, frame);
    if (!kernel.supports(frame.call())) continue;
    sy_call call = frame.call();
    int asked = 0;
    call.progress = [](void *arg, double done) {
      EXPECT_TRUE(done >= 0 && done <= 1);
      return ++*static_cast<int *>(arg) >= 2 ? 1 : 0;
    };
    call.progress_arg = &asked;
    EXPECT_EQ(kernel.run(call), SY_E_CANCELLED) << kernel.name;
    EXPECT_EQ(asked, 2) << kernel.name;
    ++cancelled;
  }
  EXPECT_GE(cancelled, 2);
}

}  // namespace
}  // namespace switchyard::test
