// SPDX-License-Identifier: Apache-2.0
/// Kernels that turn wrong after the gate: found by sampled checks, redone, quarantined. Prints
/// after how many calls, and what the checks cost.
#include <iostream>
#include <nlohmann/json.hpp>

#include "dispatcher/shadow.hpp"
#include "facade/engine_impl.hpp"
#include "op/spot.hpp"
#include "support/engine_support.hpp"
#include "support/kmeans_calls.hpp"

namespace switchyard {
namespace {

using testing::AssignCall;
using testing::fixture_directory;
using testing::make_engine;
using testing::test_options;

Options with_fixture(const std::string &name, const std::string &cache) {
  Options options = test_options();
  options.cache_dir = cache;
  options.plugin_paths = {fixture_directory(name)};
  return options;
}

/// An engine whose candidates are that fixture and the reference alone, so that it is called for
/// certain, and its calls are not compared with anybody's.
Options preferring(const std::string &name, const std::string &cache) {
  Options options = with_fixture(name, cache);
  options.policy = Policy::thresholds;
  options.preferences = {{name, 0}};
  return options;
}

struct Found {
  int calls = 0;       ///< of the wrong kernel, the one that was caught included
  int wrong_seen = 0;  ///< wrong answers that the caller got before
  RunInfo last;
};

/// Calls until another backend answers.
Found call_until_caught(Engine &engine, std::int64_t n, std::int64_t d, const std::string &fixture,
                        int most) {
  AssignCall call(n, d);
  const auto want = testing::reference_labels(n, d);
  Found found;
  for (; found.calls < most; ++found.calls) {
    std::fill_n(call.output.data<std::int32_t>(), n, -1);
    RunInfo info;
    EXPECT_EQ(engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call(), nullptr, &info), SY_OK);
    const bool right = call.labels() == want;
    if (info.backend != fixture) {
      EXPECT_TRUE(right) << "the caught call was not redone";
      found.last = info;
      ++found.calls;
      return found;
    }
    found.wrong_seen += right ? 0 : 1;
  }
  return found;
}

void expect_quarantined(const std::string &fixture, const std::string &cache, const Found &found,
                        int first_wrong, Engine &engine) {
  ASSERT_FALSE(found.last.backend.empty()) << fixture << " was not caught";
  EXPECT_NE(found.last.fallback_reason.find("wrong at work"), std::string::npos)
      << found.last.fallback_reason;
  const Metrics m = engine.metrics();
  EXPECT_GT(m.shadow_checks, 0u);
  EXPECT_EQ(m.quarantined, 1u);
  const double kernel_ms = m.backends.at(fixture).total_ms;
  std::cout << fixture << ": wrong from call " << first_wrong << " on, caught at call "
            << found.calls << " (" << found.wrong_seen << " wrong answers before), by "
            << m.shadow_checks << " checks that took " << m.shadow_ms << " ms beside " << kernel_ms
            << " ms of calls, " << 100 * m.shadow_ms / kernel_ms << " %\n";
  // The engine, its explanations and the plugin list know.
  const auto plugins = engine.plugins();
  const auto it = std::find_if(plugins.begin(), plugins.end(),
                               [&](const PluginInfo &p) { return p.id == fixture; });
  ASSERT_NE(it, plugins.end());
  ASSERT_EQ(it->quarantined.size(), 1u);
  EXPECT_NE(it->quarantined.begin()->second.find("wrong at work"), std::string::npos);
  const auto why =
      engine.explain(SY_OP_KMEANS_ASSIGN, engine.impl().dispatcher->decisions().front()->shape);
  ASSERT_TRUE(why) << why.error().message;
  EXPECT_NE(why->text().find("quarantined"), std::string::npos) << why->text();
  // So does the next process; a re-admitted file is tried anew.
  Options again = preferring(fixture, cache);
  {
    Engine next = make_engine(again);
    AssignCall call(100);
    RunInfo info;
    EXPECT_EQ(next.run(SY_OP_KMEANS_ASSIGN, call.frame.call(), nullptr, &info), SY_OK);
    EXPECT_NE(info.backend, fixture);
    next.impl().store->readmit(it->content_hash);
  }
  Engine after = make_engine(again);
  AssignCall call(100);
  RunInfo info;
  EXPECT_EQ(after.run(SY_OP_KMEANS_ASSIGN, call.frame.call(), nullptr, &info), SY_OK);
  EXPECT_EQ(info.backend, fixture) << info.fallback_reason;
}

TEST(Shadow, CatchesAKernelThatTurnsWrongLater) {
  const testing::TemporaryDirectory cache;
  Engine engine = make_engine(preferring("wrong_later", cache.path()));
  const Found found = call_until_caught(engine, 2000, 8, "wrong_later", 200'000);
  EXPECT_GT(found.calls, 2000);
  expect_quarantined("wrong_later", cache.path(), found, 2001, engine);
}

TEST(Shadow, CatchesAKernelThatIsWrongForTailsTheGateDoesNotSee) {
  const testing::TemporaryDirectory cache;
  Engine engine = make_engine(preferring("wrong_tails_later", cache.path()));
  const Found found = call_until_caught(engine, 100'003, 2, "wrong_tails_later", 20'000);
  expect_quarantined("wrong_tails_later", cache.path(), found, 1, engine);
}

TEST(Shadow, APinnedKernelIsAnErrorInsteadOfAnotherAnswer) {
  const testing::TemporaryDirectory cache;
  Options options = with_fixture("wrong_tails_later", cache.path());
  options.pin = {{"*", "wrong_tails_later"}};
  options.shadow_share = 1;
  Engine engine = make_engine(options);
  AssignCall call(100'003, 2);
  sy_error error{};
  error.struct_size = sizeof(error);
  std::int32_t status = SY_OK;
  for (int i = 0; i < 1000 && status == SY_OK; ++i)
    status = engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call(), &error);
  EXPECT_EQ(status, SY_E_VERIFICATION);
  EXPECT_NE(std::string(error.message).find("wrong at work"), std::string::npos) << error.message;
}

TEST(Shadow, BoundCallsAreCheckedToo) {
  const testing::TemporaryDirectory cache;
  Options options = with_fixture("wrong_tails_later", cache.path());
  options.pin = {{"*", "wrong_tails_later"}};
  options.policy = Policy::fixed;
  options.shadow_share = 1;
  Engine engine = make_engine(options);
  AssignCall call(100'003, 2);
  auto bound = engine.bind(SY_OP_KMEANS_ASSIGN, call.frame.call());
  ASSERT_TRUE(bound) << bound.error().message;
  std::int32_t status = SY_OK;
  for (int i = 0; i < 20'000 && status == SY_OK; ++i) status = bound->run();
  EXPECT_EQ(status, SY_E_VERIFICATION);
}

TEST(Shadow, AShareOfZeroChecksNothing) {
  const testing::TemporaryDirectory cache;
  Options options = preferring("wrong_later", cache.path());
  options.shadow_share = 0;
  Engine engine = make_engine(options);
  AssignCall call(500);
  for (int i = 0; i < 5000; ++i)
    ASSERT_EQ(engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call()), SY_OK);
  EXPECT_EQ(engine.metrics().shadow_checks, 0u);
}

TEST(Shadow, BudgetSpendsItsShare) {
  ShadowBudget budget;
  int checks = 0;
  for (int i = 0; i < 1'000'000; ++i)
    if (budget.earn(0.005, 1000)) {
      budget.pay(50'000);
      ++checks;
    }
  // A second of calls: 5 ms, 100 checks of 50 us.
  EXPECT_NEAR(checks, 100, 2);
  EXPECT_EQ(budget.checks(), static_cast<std::uint64_t>(checks));
}

/// Every operation's parts agree with the whole on right answers, and see a wrong byte.
class SpotChecks : public ::testing::TestWithParam<OpIndex> {};

TEST_P(SpotChecks, RightAnswersPassAndOneWrongBytePerOutputIsFound) {
  const OpSpec &op = *all_ops()[GetParam()];
  Engine engine = make_engine();
  const Reference &reference = engine.impl().registry->reference();
  const auto on_reference = [&](const sy_call &c) { return reference.run(GetParam(), c); };
  int parts = 0, found = 0, spoiled = 0;
  for (const Shape &shape : op.conformance_shapes()) {
    const auto problem = op.make_problem(shape, 3);
    ASSERT_TRUE(problem) << shape.text();
    auto outputs = ProblemOutputs::make(*problem);
    ASSERT_TRUE(outputs);
    CallFrame frame(static_cast<std::uint32_t>(problem->inputs.size()),
                    static_cast<std::uint32_t>(problem->outputs.size()));
    bind(*problem, *outputs, frame);
    ASSERT_TRUE(can_be_checked(frame.call()));
    ASSERT_TRUE(reference.run(GetParam(), frame.call()));
    for (std::uint64_t pick = 0; pick < 6; ++pick) {
      const auto verdict = op.spot_check(frame.call(), mix_bits(pick), on_reference);
      ASSERT_TRUE(verdict) << shape.text() << ": " << verdict.error().message;
      ASSERT_EQ(*verdict, "") << op.id() << " " << shape.text() << " pick " << pick;
      ++parts;
    }
    // Everything spoiled: any part shows it.
    bool any = false;
    for (std::size_t slot = 0; slot < outputs->size(); ++slot) {
      const TensorView &view = outputs->view(slot);
      if (!view.present() || view.elements() == 0) continue;
      any = true;
      std::memset(view.data(), 0x5B, view.raw().byte_size - view.raw().byte_offset);
    }
    if (!any) continue;
    ++spoiled;
    const auto verdict = op.spot_check(frame.call(), mix_bits(7), on_reference);
    found += verdict && !verdict->empty() ? 1 : 0;
  }
  EXPECT_GT(parts, 100);
  EXPECT_EQ(found, spoiled) << "of " << op.id();
}

std::string op_name(const ::testing::TestParamInfo<OpIndex> &info) {
  std::string name(all_ops()[info.param]->id());
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, SpotChecks,
                         ::testing::Range(OpIndex{0}, static_cast<OpIndex>(all_ops().size())),
                         op_name);

TEST(SpotChecks, CallsThatOverwriteTheirInputsAreLeftAlone) {
  AssignCall call(64);
  EXPECT_TRUE(can_be_checked(call.frame.call()));
  // Distances written over the points.
  call.frame.output(SY_KMEANS_ASSIGN_OUT_DISTANCES,
                    TensorView(call.points.data<float>(), {std::int64_t{64}}));
  EXPECT_FALSE(can_be_checked(call.frame.call()));
}

}  // namespace
}  // namespace switchyard
