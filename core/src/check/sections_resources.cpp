// SPDX-License-Identifier: Apache-2.0
/// Threads, cancelling, leaks over a thousand calls, and an orderly end without unloading.
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "check/section.hpp"
#include "host/host.hpp"

namespace switchyard::check {
namespace {

constexpr double kLongMs = 25;  // two polls are due in a call of this length
constexpr int kCalls = 1000, kWarmUp = 100, kInstances = 100;
constexpr std::int64_t kHeapBudget = 32 << 10, kResidentBudget = 4 << 20;

std::int64_t entries(const char *directory) {
  std::error_code ignored;
  return std::distance(std::filesystem::directory_iterator(directory, ignored),
                       std::filesystem::directory_iterator());
}

struct Resources {
  std::int64_t heap = 0, resident = 0, descriptors = 0, threads = 0;

  static Resources now() {
    Resources r;
    const struct mallinfo2 m = mallinfo2();
    r.heap = static_cast<std::int64_t>(m.uordblks + m.hblkhd);
    std::ifstream statm("/proc/self/statm");
    std::int64_t total = 0;
    statm >> total >> r.resident;
    r.resident *= sysconf(_SC_PAGESIZE);
    r.descriptors = entries("/proc/self/fd");
    r.threads = entries("/proc/self/task");
    return r;
  }
};

/// "" or what grew beyond its budget, over `what`.
std::string growth(const Resources &a, const Resources &b, const std::string &what) {
  if (b.descriptors > a.descriptors)
    return fmt::format("{} file descriptors more after {}", b.descriptors - a.descriptors, what);
  if (b.threads > a.threads)
    return fmt::format("{} threads more after {}", b.threads - a.threads, what);
  if (b.heap - a.heap > kHeapBudget)
    return fmt::format("{} bytes of heap more after {} (budget {})", b.heap - a.heap, what,
                       kHeapBudget);
  if (b.resident - a.resident > kResidentBudget)
    return fmt::format("{} bytes of memory more after {} (budget {})", b.resident - a.resident,
                       what, kResidentBudget);
  return "";
}

std::string many_threads(const Bench &bench, const Candidate &c) {
  constexpr std::size_t kThreads = 8;
  const auto shapes = supported_shapes(c, kThreads);
  std::vector<std::string> wrong(kThreads);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      const Shape &shape = shapes[t % shapes.size()];
      const auto want = Trial::make(c, shape), got = Trial::make(c, shape);
      if (!bench.reference.run(c.op, want->call())) return;
      const auto on_reference = [&](const sy_call &call) {
        return bench.reference.run(c.op, call);
      };
      for (int i = 0; i < 20 && wrong[t].empty(); ++i) {
        wrong[t] = got->run(c);
        if (wrong[t].empty())
          wrong[t] = all_ops()[c.op]
                         ->compare(got->problem(), got->call(), want->call(), on_reference)
                         .value_or("");
      }
    });
  for (auto &t : threads) t.join();
  for (const std::string &w : wrong)
    if (!w.empty()) return w;
  return "";
}

/// Threads that calls leave behind: none beside the caller's for one, one more for two.
std::string within_budget(const Candidate &c) {
  const auto shapes = supported_shapes(c, 6);
  for (const std::uint32_t budget : {1u, 2u}) {
    const std::int64_t before = entries("/proc/self/task");
    for (const Shape &s : shapes)
      for (int i = 0; i < 3; ++i)
        if (const auto t = Trial::make(c, s, budget); t != nullptr) (void)t->status(c);
    const std::int64_t more = entries("/proc/self/task") - before;
    if (more >= budget)
      return fmt::format("{} threads were started for calls that allow {}", more, budget);
  }
  return "";
}

struct Poll {
  std::atomic<int> polls{0}, inside{0};
  std::atomic<bool> at_once{false};
  int answer = 0;
  static std::int32_t hook(void *arg, double) {
    auto *p = static_cast<Poll *>(arg);
    if (p->inside.fetch_add(1) != 0) p->at_once = true;
    p->polls.fetch_add(1);
    p->inside.fetch_sub(1);
    return p->answer;
  }
};

}  // namespace

void check_threads(const Bench &bench) {
  for (const auto &c : bench.candidates) {
    if (supported_shapes(*c, 1).empty()) continue;
    bench.begin(c->name, "no more threads than the call allows");
    bench.verdict(c->name, "no more threads than the call allows", within_budget(*c));
    bench.begin(c->name, "eight threads at once get right answers");
    bench.verdict(c->name, "eight threads at once get right answers", many_threads(bench, *c));
  }
}

void check_cancel(const Bench &bench) {
  const std::string name = "a long call polls progress and can be cancelled";
  for (const auto &c : bench.candidates) {
    bench.begin(c->name, name);
    double alone = 0;
    const auto trial = grown(*c, kLongMs, &alone);
    if (trial == nullptr) {
      bench.say(c->name, name, State::skip,
                fmt::format("no problem of moderate size takes it {} ms", kLongMs));
      continue;
    }
    Poll listen;
    trial->call().progress = Poll::hook;
    trial->call().progress_arg = &listen;
    const std::int32_t fine = trial->status(*c);
    if (fine != SY_OK) {
      bench.say(c->name, name, State::fail, "it fails when its progress is listened to");
      continue;
    }
    if (listen.polls == 0) {
      bench.say(
          c->name, name, State::fail,
          fmt::format("not polled once in {:.0f} ms; the header asks for every 10 ms", alone));
      continue;
    }
    Poll stop;
    stop.answer = 1;
    trial->call().progress_arg = &stop;
    const std::uint64_t start = now_ns();
    const std::int32_t status = trial->status(*c);
    const double took = static_cast<double>(now_ns() - start) / 1e6;
    std::string wrong;
    if (status != SY_E_CANCELLED)
      wrong = fmt::format("told to stop, it returned {} instead of SY_E_CANCELLED", status);
    else if (listen.at_once || stop.at_once)
      wrong = "two threads polled progress at once";
    bench.verdict(c->name, name, wrong,
                  fmt::format("{} polls in {:.0f} ms; stopped after {:.1f} ms", listen.polls.load(),
                              alone, took));
  }
}

void check_leaks(const Bench &bench) {
  const std::string calls = fmt::format("nothing leaks over {} calls", kCalls);
  for (const auto &c : bench.candidates) {
    const auto shapes = supported_shapes(*c, 4);
    if (shapes.empty()) continue;
    bench.begin(c->name, calls);
    std::vector<std::unique_ptr<Trial>> trials;
    for (const Shape &s : shapes) trials.push_back(Trial::make(*c, s));
    const auto run = [&](int n) {
      for (int i = 0; i < n; ++i) {
        Trial &t = *trials[static_cast<std::size_t>(i) % trials.size()];
        void *state = nullptr;
        if (c->stateful() && i % 4 == 0 &&
            c->kernel->prepare(c->kernel, c->instance.get(), &t.call(), 2, &state, nullptr) !=
                SY_OK)
          state = nullptr;
        t.call().state = state;
        (void)t.status(*c);
        t.call().state = nullptr;
        if (state != nullptr) c->kernel->release(c->kernel, c->instance.get(), state);
      }
    };
    run(kWarmUp);
    const Resources before = Resources::now();
    run(kCalls);
    bench.verdict(c->name, calls,
                  growth(before, Resources::now(), fmt::format("{} calls", kCalls)));
  }
  const std::string instances = fmt::format("nothing leaks over {} instances", kInstances);
  bench.begin("", instances);
  const auto make = [&](int n) {
    for (int i = 0; i < n; ++i) (void)make_instances(bench.plugin, bench.host);
  };
  make(10);
  const Resources before = Resources::now();
  make(kInstances);
  bench.verdict("", instances,
                growth(before, Resources::now(), fmt::format("{} instances", kInstances)));
}

void check_shutdown(Bench &bench) {
  const std::string name = "instances are made anew after the last was destroyed";
  bench.begin("", name);
  std::string wrong;
  for (int i = 0; i < 3 && wrong.empty(); ++i) {
    bench.candidates.clear();  // the last owner destroys the instances
    auto instances = make_instances(bench.plugin, bench.host);
    if (!instances) {
      wrong = instances.error().message;
      break;
    }
    bench.candidates = make_candidates(bench.plugin, *instances);
    for (const auto &c : bench.candidates)
      for (const Shape &s : supported_shapes(*c, 2))
        if (wrong.empty()) wrong = Trial::make(*c, s, 2)->run(*c);
  }
  bench.verdict("", name, wrong);
  bench.candidates.clear();
  // What follows is the process's end, with the plugin still mapped.
  bench.begin("", "the process ends in good order with the plugin still mapped");
}

}  // namespace switchyard::check
