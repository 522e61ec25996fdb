// SPDX-License-Identifier: Apache-2.0
/// isolation: always - plugins that are never mapped here, calls through shared memory, workers
/// that die - and devices that are lost.
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "facade/engine_impl.hpp"
#include "support/engine_support.hpp"
#include "support/kmeans_calls.hpp"
#include "support/sanitized.hpp"
#include "worker/client.hpp"

namespace switchyard {
namespace {

using testing::AssignCall;
using testing::fixture_directory;
using testing::make_engine;
using testing::reference_labels;
using testing::test_options;

Options always(const std::string &fixture = "") {
  Options options = test_options();
  options.isolation = Isolation::always;
  options.shadow_share = 0;
  if (!fixture.empty()) {
    options.plugin_paths = {fixture_directory(fixture)};
    options.policy = Policy::thresholds;
    options.preferences = {{fixture, 0}};
  }
  return options;
}

bool mapped_here(const std::string &name) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find(name) != std::string::npos) return true;
  return false;
}

/// What a worker's time limit leaves out: two processes that want the same processor wait in turns.
TEST(Worker, WaitingForAProcessorIsKnown) {
  if (!std::ifstream("/proc/self/schedstat")) GTEST_SKIP() << "the kernel does not tell";
  cpu_set_t allowed, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0 && cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &allowed)) CPU_SET(cpu, &one);
  pid_t busy[2];
  bool together = true;
  for (pid_t &pid : busy) {
    pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      alarm(60);
      for (std::atomic<int> turns{0};;) ++turns;
    }
    together = sched_setaffinity(pid, sizeof(one), &one) == 0 && together;
  }
  std::uint64_t waited = 0;
  for (int turn = 0; together && turn < 600 && waited == 0; ++turn) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    waited = waited_for_processor_ns(busy[0]);
  }
  for (const pid_t pid : busy) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  if (!together) GTEST_SKIP() << "processes cannot be tied to a processor here";
  EXPECT_GT(waited, 0u);
  EXPECT_EQ(waited_for_processor_ns(busy[0]), 0u) << "it is gone";
}

TEST(IsolationAlways, CallsAreAnsweredByAPluginThatIsNotMapped) {
  Engine engine = make_engine(always("good"));
  for (const std::int64_t n : {1, 64, 5000}) {
    AssignCall call(n);
    RunInfo info;
    ASSERT_EQ(engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call(), nullptr, &info), SY_OK);
    EXPECT_EQ(info.backend, "good") << info.fallback_reason;
    EXPECT_EQ(call.labels(), reference_labels(n));
  }
  EXPECT_FALSE(mapped_here("switchyard_good.so"));
}

/// Every kernel of this tree, on every awkward shape, through the wire.
TEST(IsolationAlways, EveryOperationAgreesWithTheReference) {
  Engine engine = make_engine(always());
  const Registry &registry = *engine.impl().registry;
  int checks = 0;
  for (OpIndex op = 0; op < all_ops().size(); ++op) {
    const auto shapes = all_ops()[op]->conformance_shapes();
    const std::size_t step = std::max<std::size_t>(1, shapes.size() / 25);
    for (std::size_t i = 0; i < shapes.size(); i += step) {
      const auto problem = all_ops()[op]->make_problem(shapes[i], 5);
      ASSERT_TRUE(problem);
      for (const Candidate *c : registry.candidates(op)) {
        if (c->reference) continue;
        if (c->slow_start && i / step % 5 != 0)
          continue;  // each would be compiled; conformance has all
        const auto verdict = check_problem(*c, registry.reference(), *problem, 2);
        if (!verdict) continue;
        ++checks;
        EXPECT_EQ(*verdict, "") << c->name;
      }
    }
  }
  EXPECT_GT(checks, 100);
}

TEST(IsolationAlways, ProgressReachesTheHostAndStopsTheWorker) {
  Options options = always();
  options.pin = {{"*", "avx2"}};
  Engine engine = make_engine(options);
  AssignCall call(2'000'000, 8, 16);
  struct Hook {
    int calls = 0;
    static std::int32_t stop(void *arg, double) { return ++static_cast<Hook *>(arg)->calls; }
  } hook;
  call.frame.call().progress = Hook::stop;
  call.frame.call().progress_arg = &hook;
  const auto status = engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call());
  EXPECT_TRUE(status == SY_E_CANCELLED || (status == SY_OK && hook.calls == 0)) << status;
}

TEST(IsolationAlways, AWorkerThatDiesTakesNothingWithIt) {
  Engine engine = make_engine(always("crash_later"));
  const auto want = reference_labels(64);
  AssignCall call(64);
  std::set<std::string> answered;
  for (int i = 0; i < 400; ++i) {
    std::fill_n(call.output.data<std::int32_t>(), 64, -1);
    RunInfo info;
    ASSERT_EQ(engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call(), nullptr, &info), SY_OK);
    ASSERT_EQ(call.labels(), want) << "call " << i;
    answered.insert(info.backend);
  }
  EXPECT_TRUE(answered.contains("crash_later"));
  EXPECT_GE(answered.size(), 2u);
  const auto reasons = engine.metrics().fallback_reasons;
  const bool told = std::any_of(reasons.begin(), reasons.end(), [](const auto &r) {
    // A sanitizer catches the signal and exits.
    const char *how = SWITCHYARD_SANITIZED ? "ended the process" : "SIGSEGV";
    return r.first.find(how) != std::string::npos && r.second == 1;
  });
  EXPECT_TRUE(told) << (reasons.empty() ? "" : reasons.front().first);
}

TEST(IsolationAlways, ThreadsTakeTurns) {
  Engine engine = make_engine(always("good"));
  const auto want = reference_labels(300);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      AssignCall call(300);
      for (int i = 0; i < 20; ++i)
        if (engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call()) != SY_OK || call.labels() != want)
          ++wrong;
    });
  for (auto &t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST(IsolationAlways, HostileFilesAreRefusedAsEver) {
  for (const char *fixture : {"crash_at_load", "missing_symbol"}) {
    Options options = always();
    options.plugin_paths = {fixture_directory(fixture)};
    const auto plugins = make_engine(options).plugins();
    const auto it = std::find_if(plugins.begin(), plugins.end(), [&](const PluginInfo &p) {
      return p.path.find(fixture) != std::string::npos;
    });
    ASSERT_NE(it, plugins.end());
    EXPECT_NE(it->status, "loaded");
    EXPECT_FALSE(it->reason.empty());
  }
}

TEST(DeviceLost, TheBackendIsDeadForAllCallsAndToldOnce) {
  Options options = test_options();
  options.shadow_share = 0;
  options.plugin_paths = {fixture_directory("device_lost")};
  options.policy = Policy::thresholds;
  options.preferences = {{"device_lost", 0}};
  Engine engine = make_engine(options);
  // Two classes of calls: what one learns holds for the other.
  AssignCall small(64), large(4000);
  const auto want_small = reference_labels(64), want_large = reference_labels(4000);
  for (int i = 0; i < 400; ++i) {
    AssignCall &call = i % 2 == 0 ? small : large;
    ASSERT_EQ(engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call()), SY_OK);
    ASSERT_EQ(call.labels(), i % 2 == 0 ? want_small : want_large) << "call " << i;
  }
  const Metrics m = engine.metrics();
  EXPECT_EQ(m.backends.at("device_lost").fallbacks, 1u);
  // A class that is new after the loss does not even ask.
  AssignCall later(100'000);
  RunInfo info;
  ASSERT_EQ(engine.run(SY_OP_KMEANS_ASSIGN, later.frame.call(), nullptr, &info), SY_OK);
  EXPECT_NE(info.backend, "device_lost");
  EXPECT_EQ(engine.metrics().backends.at("device_lost").fallbacks, 1u);
}

}  // namespace
}  // namespace switchyard
