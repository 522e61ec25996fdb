// SPDX-License-Identifier: Apache-2.0
/// Who answers and why: policies, pins, verification, fallback, metrics, bound calls, threads.
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "facade/engine_impl.hpp"
#include "host/float_state.hpp"
#include "support/engine_support.hpp"
#include "support/kmeans_calls.hpp"
#include "support/sanitized.hpp"

namespace switchyard {
namespace {

using testing::AssignCall;
using testing::fixture_directory;
using testing::make_engine;
using testing::reference_labels;
using testing::test_options;

RunInfo run(Engine &engine, AssignCall &call) {
  RunInfo info;
  sy_error error{};
  error.struct_size = sizeof(error);
  EXPECT_EQ(engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call(), &error, &info), SY_OK)
      << error.message;
  return info;
}

/// Candidates join when the background gate has passed them; explain waits for it.
void wait_for_verdicts(Engine &engine) {
  const Decision *d = engine.impl().dispatcher->decisions().front();
  EXPECT_TRUE(engine.explain(SY_OP_KMEANS_ASSIGN, d->shape));
}

TEST(Dispatcher, EveryBackendCanBePinnedAndAnswers) {
  const auto want = reference_labels(100);
  Engine lister = make_engine();
  int pinned = 0;
  for (const Candidate *c : lister.impl().registry->candidates(*find_op(SY_OP_KMEANS_ASSIGN))) {
    Options options = test_options();
    options.pin = {{"kmeans", c->backend}};
    Engine engine = make_engine(options);
    AssignCall call(100);
    const RunInfo info = run(engine, call);
    EXPECT_EQ(info.backend, c->backend);
    EXPECT_EQ(info.requested_backend, c->backend);
    EXPECT_TRUE(info.verified == "gate" || info.verified == "cached") << info.verified;
    EXPECT_EQ(call.labels(), want) << c->name;
    ++pinned;
  }
  EXPECT_GE(pinned, 3);
}

TEST(Dispatcher, AdaptiveMeasuresOnTheCallersCallsAndDecides) {
  const testing::TemporaryDirectory cache;  // without timings of other tests
  Options options = test_options();
  options.cache_dir = cache.path();
  Engine engine = make_engine(options);
  const auto want = reference_labels(3000);
  AssignCall first(3000);
  std::set<std::string> tried{run(engine, first).kernel};
  wait_for_verdicts(engine);
  for (int i = 0; i < 399; ++i) {
    AssignCall call(3000);
    tried.insert(run(engine, call).kernel);
    ASSERT_EQ(call.labels(), want);
  }
  EXPECT_GE(tried.size(), 2u) << engine
                                     .explain(SY_OP_KMEANS_ASSIGN,
                                              engine.impl().dispatcher->decisions().front()->shape)
                                     ->text();
  const auto explanation =
      engine.explain(SY_OP_KMEANS_ASSIGN, engine.impl().dispatcher->decisions().front()->shape);
  ASSERT_TRUE(explanation) << explanation.error().message;
  EXPECT_FALSE(explanation->chosen.empty());
  EXPECT_NE(explanation->rule.find("measured"), std::string::npos) << explanation->rule;
  EXPECT_NE(explanation->text().find(explanation->chosen), std::string::npos);
  const auto json = nlohmann::json::parse(explanation->json());
  EXPECT_EQ(json["chosen"], explanation->chosen);
  const Metrics metrics = engine.metrics();
  EXPECT_EQ(metrics.total_operations, 400u);
  EXPECT_EQ(nlohmann::json::parse(metrics.json())["total_operations"], 400);
}

TEST(Dispatcher, BenchmarkDecidesOnTheFirstCall) {
  Options options = test_options();
  options.policy = Policy::benchmark;
  Engine engine = make_engine(options);
  AssignCall call(5000);
  const RunInfo first = run(engine, call);
  EXPECT_EQ(call.labels(), reference_labels(5000));
  const Decision *d = engine.impl().dispatcher->decisions().front();
  ASSERT_NE(d->chosen.load(), nullptr);
  EXPECT_EQ(first.kernel, d->chosen.load()->candidate->name);
}

TEST(Dispatcher, AFrozenEngineFollowsItsLockFile) {
  const testing::TemporaryDirectory directory;
  const std::string lock = directory.path() + "/lock.json";
  Options options = test_options();
  options.pin = {{"*", "avx2"}};
  {
    Engine writer = make_engine(options);
    AssignCall call(1000);
    EXPECT_EQ(run(writer, call).backend, "avx2");
    for (int i = 0; i < 50; ++i) run(writer, call);
    const auto written = writer.freeze(lock);
    ASSERT_TRUE(written) << written.error().message;
  }
  options = test_options();
  options.policy = Policy::frozen;
  options.strict = true;
  options.lock_file = lock;
  Engine engine = make_engine(options);
  AssignCall call(1001);  // of the same class
  EXPECT_EQ(run(engine, call).backend, "avx2");
  EXPECT_EQ(engine.metrics().exploration_ms, 0);

  AssignCall unknown(100'000);
  sy_error error{};
  error.struct_size = sizeof(error);
  EXPECT_NE(engine.run(SY_OP_KMEANS_ASSIGN, unknown.frame.call(), &error), SY_OK) << error.message;
  EXPECT_NE(std::string(error.message).find("says nothing of"), std::string::npos) << error.message;

  options.strict = false;
  options.preferences = {{"reference", 0}};
  Engine lenient = make_engine(options);
  EXPECT_EQ(run(lenient, unknown).backend, "reference");

  std::ofstream(lock) << "{\"schema\": 1, \"decisions\": {\"x\": 3}}";
  EXPECT_FALSE(Engine::create(options));
  options.lock_file = directory.path() + "/absent.json";
  EXPECT_FALSE(Engine::create(options));
}

TEST(Dispatcher, TimingsAreKeptForTheNextEngine) {
  const testing::TemporaryDirectory cache;
  Options options = test_options();
  options.cache_dir = cache.path();
  const std::string shape = "n=4000,d=4,k=3";
  std::string fastest;
  {
    Engine engine = make_engine(options);
    const auto measured =
        engine.measure(SY_OP_KMEANS_ASSIGN, shape, {.seconds = 0.05, .remember = true});
    ASSERT_TRUE(measured) << measured.error().message;
    EXPECT_GE(measured->candidates.size(), 3u);
    double best = INFINITY;
    for (const auto &c : measured->candidates)
      if (c.median_ns < best) best = c.median_ns, fastest = c.kernel;
    EXPECT_FALSE(engine.stored_timings().empty());
  }
  Engine engine = make_engine(options);
  const auto e = engine.explain(SY_OP_KMEANS_ASSIGN, shape);
  ASSERT_TRUE(e);
  EXPECT_EQ(e->chosen, fastest) << e->text();
  EXPECT_TRUE(e->store.starts_with("hit: ")) << e->store;
  EXPECT_TRUE(e->rule.starts_with("stored: ")) << e->rule;
  options.threads = 1;
  Engine other = make_engine(options);
  const auto missed = other.explain(SY_OP_KMEANS_ASSIGN, shape);
  ASSERT_TRUE(missed);
  EXPECT_TRUE(missed->store.starts_with("miss: ")) << missed->store;
}

TEST(Dispatcher, ThresholdsFollowTheOrderOfPreference) {
  Options options = test_options();
  options.policy = Policy::thresholds;
  options.preferences = {{"nowhere", 0}, {"avx2", 2000}, {"reference", 0}};
  Engine engine = make_engine(options);
  AssignCall small(100), large(1000);
  EXPECT_EQ(run(engine, small).backend, "reference");
  EXPECT_EQ(run(engine, large).backend, "avx2");
}

TEST(Dispatcher, UnknownAndUnsupportedPinsAreErrors) {
  Options options = test_options();
  options.pin = {{"*", "nonsense"}};
  Engine engine = make_engine(options);
  AssignCall call(10);
  sy_error error{};
  error.struct_size = sizeof(error);
  EXPECT_NE(engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call(), &error), SY_OK);
  EXPECT_NE(std::string(error.message).find("nonsense"), std::string::npos) << error.message;
}

TEST(Dispatcher, InvalidCallsAreRefusedBeforeAnyKernel) {
  Engine engine = make_engine();
  AssignCall call(10);
  call.frame.input(SY_KMEANS_IN_CENTROIDS, TensorView(call.centroids.data<float>(), {3, 3}));
  sy_error error{};
  error.struct_size = sizeof(error);
  EXPECT_EQ(engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call(), &error), SY_E_SHAPE)
      << error.message;
  EXPECT_EQ(engine.run("kmeans.asign", call.frame.call(), &error), SY_E_INVALID_ARGUMENT);
  EXPECT_NE(std::string(error.message).find("did you mean 'kmeans.assign'"), std::string::npos)
      << error.message;
  EXPECT_EQ(engine.metrics().total_operations, 0u);
}

struct BadKernel {
  const char *fixture;
  const char *reason;
};
class WrongPlugin : public ::testing::TestWithParam<BadKernel> {};

TEST_P(WrongPlugin, IsCaughtByTheGateBeforeItSeesCallerData) {
  Options options = test_options();
  const testing::TemporaryDirectory cache;
  options.cache_dir = cache.path();
  options.plugin_paths = {fixture_directory(GetParam().fixture)};
  Engine engine = make_engine(options);
  const auto want = reference_labels(64);
  for (int i = 0; i < 30; ++i) {
    AssignCall call(64);
    const RunInfo info = run(engine, call);
    EXPECT_EQ(info.kernel.find(GetParam().fixture), std::string::npos) << info.kernel;
    ASSERT_EQ(call.labels(), want);
  }
  const auto e =
      engine.explain(SY_OP_KMEANS_ASSIGN, engine.impl().dispatcher->decisions().front()->shape);
  ASSERT_TRUE(e) << e.error().message;
  bool found = false;
  for (const auto &c : e->candidates)
    if (c.kernel.find(GetParam().fixture) != std::string::npos) {
      found = true;
      // A sanitizer sees some reads before the guard page does, and ends the worker.
      const bool by_sanitizer =
          SWITCHYARD_SANITIZED && c.verified.find("ended the process") != std::string::npos;
      EXPECT_TRUE(by_sanitizer || c.verified.find(GetParam().reason) != std::string::npos)
          << c.verified;
    }
  EXPECT_TRUE(found);
}

INSTANTIATE_TEST_SUITE_P(
    Fixtures, WrongPlugin,
    ::testing::Values(BadKernel{"wrong_numbers", "wrong on"}, BadKernel{"wrong_tails", "wrong on"},
                      BadKernel{"writes_past_end", "wrote outside output"},
                      BadKernel{"reads_past_end", "read beyond the end of input 0"},
                      BadKernel{"reads_before_start", "read 4 bytes before input 1"},
                      BadKernel{"changes_inputs", "modified its inputs"},
                      BadKernel{"nonfinite", "wrong on"}, BadKernel{"crash_in_run", "SIGSEGV"},
                      BadKernel{"throws_in_run", "SIGABRT"}, BadKernel{"hang_in_run", "hung"}),
    [](const auto &tested) { return std::string(tested.param.fixture); });

TEST(Dispatcher, AGoodThirdPartyPluginIsVerifiedAndCanAnswer) {
  Options options = test_options();
  options.plugin_paths = {fixture_directory("good")};
  options.pin = {{"*", "good"}};
  Engine engine = make_engine(options);
  AssignCall call(500);
  const RunInfo info = run(engine, call);
  EXPECT_EQ(info.backend, "good");
  EXPECT_EQ(info.verified, "gate");
  EXPECT_EQ(call.labels(), reference_labels(500));
}

TEST(Dispatcher, WhatIsCompiledFirstIsVerifiedOnlyWhenAskedFor) {
  const testing::TemporaryDirectory cache;
  Options options = test_options();
  options.cache_dir = cache.path();
  options.plugin_paths = {fixture_directory("slow_start")};
  Engine engine = make_engine(options);
  AssignCall call(500);
  run(engine, call);
  EXPECT_EQ(call.labels(), reference_labels(500));
  Dispatcher &dispatcher = *engine.impl().dispatcher;
  Decision &d = dispatcher.decision(*find_op(SY_OP_KMEANS_ASSIGN), call.frame.call());
  const auto late = std::ranges::find(d.choices, "slow_start",
                                      [](const auto &c) { return c->candidate->backend; });
  ASSERT_NE(late, d.choices.end());
  ASSERT_TRUE(engine.impl().verdicts->wait_idle(60'000));
  EXPECT_TRUE((*late)->pending());
  const auto told = engine.explain(SY_OP_KMEANS_ASSIGN, d.shape);
  ASSERT_TRUE(told);
  EXPECT_NE(told->text().find("it would be compiled first"), std::string::npos) << told->text();
  dispatcher.ask_late(d, true);
  ASSERT_TRUE(engine.impl().verdicts->wait(*(*late)->verdict, 60'000));
  EXPECT_TRUE((*late)->usable());
  options.pin = {{"*", "slow_start"}};
  Engine pinned = make_engine(options);
  EXPECT_EQ(run(pinned, call).backend, "slow_start");
}

TEST(Dispatcher, AHostWithOddFloatingPointStateGetsTheSameBits) {
#if defined(__x86_64__)
  Engine engine = make_engine();
  const auto want = reference_labels(777);
  const unsigned saved = _mm_getcsr();
  _mm_setcsr(0x1F80u | 0x8040u | 0x2000u);  // FTZ, DAZ, round down
  AssignCall call(777);
  const auto status = engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call());
  const unsigned after = _mm_getcsr();
  _mm_setcsr(saved);
  EXPECT_EQ(status, SY_OK);
  EXPECT_EQ(after & ~0x3Fu, 0x1F80u | 0x8040u | 0x2000u);
  EXPECT_EQ(call.labels(), want);
#endif
}

TEST(Dispatcher, BoundCallsFollowTheDecisionAndMovedPointers) {
  Engine engine = make_engine();
  AssignCall call(2000);
  auto bound = engine.bind(SY_OP_KMEANS_ASSIGN, call.frame.call());
  ASSERT_TRUE(bound) << bound.error().message;
  const auto want = reference_labels(2000);
  wait_for_verdicts(engine);
  for (int i = 0; i < 300; ++i) {
    std::fill_n(call.output.data<std::int32_t>(), 2000, -1);
    ASSERT_EQ(bound->run(), SY_OK);
    ASSERT_EQ(call.labels(), want);
  }
  EXPECT_NE(engine.impl().dispatcher->decisions().front()->chosen.load(), nullptr);
  EXPECT_FALSE(bound->kernel().empty());
  std::vector<std::int32_t> elsewhere(2000, -1);
  bound->output(SY_KMEANS_ASSIGN_OUT_LABELS)->handle = elsewhere.data();
  ASSERT_EQ(bound->run(), SY_OK);
  EXPECT_EQ(elsewhere, want);
}

TEST(Dispatcher, ManyThreadsAgree) {
  Engine engine = make_engine();
  const auto want = reference_labels(700);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 16; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 25; ++i) {
        AssignCall call(700);
        if (engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call()) != SY_OK || call.labels() != want)
          ++wrong;
      }
    });
  for (auto &t : threads) t.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(engine.metrics().total_operations, 16u * 25u);
}

}  // namespace
}  // namespace switchyard
