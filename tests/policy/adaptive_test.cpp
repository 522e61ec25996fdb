// SPDX-License-Identifier: Apache-2.0
/// The adaptive policy against kernels of known speed: no clock, no threads, the same every time.
#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <random>
#include <set>

#include "policy/policy.hpp"

namespace switchyard {
namespace {

/// A kernel whose time is a formula of the work.
struct FakeKernel {
  std::string name;
  double fixed_ns, ns_per_flop;
  double prior = 1;  ///< its author's estimate as a share of the truth
  const char *numerics = "same";
  bool reference = false;
  double first =
      0;  ///< times as long for the first call of a series, which fills its state; 0 = none
  bool slow_start = false;  ///< not verified before it is asked for
};

class Yard {
 public:
  explicit Yard(std::vector<FakeKernel> kernels, Options options = {}, std::string cache = "")
      : kernels_(std::move(kernels)),
        options_(std::move(options)),
        timings_(std::move(cache)),
        selector_(options_, timings_, nullptr) {
    passed_.state.store(Verdict::gate);
    for (const FakeKernel &k : kernels_) {
      sy_kernel &abi = abi_.emplace_back();
      abi.numerics_class = k.numerics;
      Candidate &c = candidates_.emplace_back();
      c.id = static_cast<std::uint32_t>(candidates_.size() - 1);
      c.kernel = &abi;
      c.backend = c.plugin_id = k.name;
      c.name = "op." + k.name + "@" + k.name;
      c.hash = "hash-of-" + k.name;
      c.reference = k.reference;
      c.slow_start = k.slow_start;
      c.stats.timed_count.store(2);  // libraries are warm
    }
  }

  Decision &decision(double flops) {
    for (auto &d : decisions_)
      if (d->work.flops == flops) return *d;
    auto d = std::make_unique<Decision>();
    d->described = Shape().set("n", static_cast<std::int64_t>(flops));
    d->shape = d->described.text();
    d->work = {flops, 8 * flops};
    for (std::size_t i = 0; i < kernels_.size(); ++i) {
      auto c = std::make_unique<Choice>();
      c->candidate = &candidates_[i];
      c->prior_ns = static_cast<std::uint64_t>(
          kernels_[i].prior * (kernels_[i].fixed_ns + kernels_[i].ns_per_flop * flops));
      c->verdict = kernels_[i].slow_start ? &asked_ : &passed_;
      d->choices.push_back(std::move(c));
    }
    selector_.prepare(*d, 0);
    return *decisions_.emplace_back(std::move(d));
  }

  double true_ns(const Choice &c, double flops) const {
    const FakeKernel &k = kernels_[c.candidate->id];
    return (k.fixed_ns + k.ns_per_flop * flops) * slow_[c.candidate->id];
  }
  double best_ns(double flops) const {
    double best = INFINITY;
    for (std::size_t i = 0; i < kernels_.size(); ++i)
      best = std::min(best, (kernels_[i].fixed_ns + kernels_[i].ns_per_flop * flops) * slow_[i]);
    return best;
  }

  /// One call, as the dispatcher makes it; its time.
  double call(double flops) {
    std::set<std::uint32_t> none;
    return call(flops, none);
  }
  /// One call of a series, in which the kernels `used` have filled their states.
  double call(double flops, std::set<std::uint32_t> &used) {
    Decision &d = decision(flops);
    Choice *chosen = d.chosen.load();
    Choice *run = chosen != nullptr ? chosen : selector_.next(d, 0);
    const double noise = 1 + 0.02 * std::uniform_real_distribution<double>(-1, 1)(random_);
    const double first = kernels_[run->candidate->id].first;
    const bool fills = first > 0 && used.insert(run->candidate->id).second;
    const double ns = true_ns(*run, flops) * noise * (fills ? first : 1);
    selector_.spent(static_cast<std::uint64_t>(ns));
    d.total_ns += static_cast<std::uint64_t>(ns);
    if (chosen != nullptr) {
      d.recent.add(static_cast<std::uint64_t>(ns));
      if (d.total_ns >= d.review_at) {
        d.review_at = d.total_ns + d.review_every;
        if (selector_.due(d)) {
          if (!selector_.ripe(d, false).empty()) asked_.state.store(Verdict::gate);
          selector_.review(d);
        }
      }
    } else if (d.chosen.load() == nullptr) {
      selector_.record(d, *run, static_cast<std::uint64_t>(ns), fills);
    }
    return ns;
  }
  std::string chosen(double flops) {
    const Choice *c = decision(flops).chosen.load();
    return c == nullptr ? "" : c->candidate->backend;
  }
  bool asked() const { return asked_.get() != Verdict::pending; }
  void slow_down(std::size_t kernel, double factor) { slow_[kernel] = factor; }
  Selector &selector() { return selector_; }
  TimingStore &timings() { return timings_; }

 private:
  std::vector<FakeKernel> kernels_;
  Options options_;
  VerdictCell passed_, asked_;
  std::deque<sy_kernel> abi_;
  std::deque<Candidate> candidates_;
  std::array<double, 8> slow_{1, 1, 1, 1, 1, 1, 1, 1};
  TimingStore timings_;
  Selector selector_;
  std::vector<std::unique_ptr<Decision>> decisions_;
  std::mt19937_64 random_{5};
};

std::vector<FakeKernel> usual() {
  return {{"one", 100, 0.10, 0.7},     // no start-up cost, one thread; an optimistic author
          {"wide", 90, 0.09},          // a little better
          {"team", 6000, 0.05, 1.5}};  // threads
}

TEST(Adaptive, FindsTheFastestWithinThirtyCalls) {
  for (const double flops : {1e4, 1e5, 3e5, 1e6, 1e7}) {
    Yard yard(usual());
    for (int i = 0; i < 30; ++i) yard.call(flops);
    const Choice *c = yard.selector().expected(yard.decision(flops), 0);
    ASSERT_NE(c, nullptr);
    EXPECT_LE(yard.true_ns(*c, flops), 1.05 * yard.best_ns(flops)) << flops;
  }
}

TEST(Adaptive, AFirstCallThatFillsAStateIsNotHeldAgainstAKernel) {
  for (const double flops : {1e7, 1e9}) {  // the calls of the second take long: one timing tells
    Yard yard({{"plain", 0, 0.10}, {"keeper", 0, 0.03, 1, "same", false, 8}});
    for (int series = 0; series < 3; ++series) {
      std::set<std::uint32_t> used;
      for (int i = 0; i < 10; ++i) yard.call(flops, used);
    }
    EXPECT_EQ(yard.chosen(flops), "keeper") << flops;
    EXPECT_LT(yard.decision(flops).chosen_ns.load(), 0.035 * flops);
  }
}

TEST(Adaptive, SeriesOfOneCallAreDecidedByTheirFirstCalls) {
  Yard yard({{"plain", 0, 0.10}, {"keeper", 0, 0.03, 1, "same", false, 8}});
  for (int i = 0; i < 100; ++i) yard.call(1e7);
  EXPECT_EQ(yard.chosen(1e7), "plain");
}

TEST(Adaptive, NeighboursSaveExploring) {
  Yard yard(usual());
  for (int e = 10; e <= 24; ++e)
    for (int i = 0; i < 60; ++i) yard.call(std::exp2(e));
  // Sizes in between are decided on sight, and well.
  double regret = 0;
  int known = 0, sizes = 0;
  for (double flops = 1500; flops < 1.5e7; flops *= 1.31, ++sizes) {
    Decision &d = yard.decision(std::round(flops));
    const Choice *c = yard.selector().expected(d, 0);
    regret += yard.true_ns(*c, d.work.flops) / yard.best_ns(d.work.flops) - 1;
    yard.selector().settle(d);
    known += d.chosen.load() != nullptr;
  }
  EXPECT_LT(regret / sizes, 0.01);
  EXPECT_GT(known, sizes / 3);
}

TEST(Adaptive, GrowingSizesStayWithinTheShare) {
  // A decode loop: the keys grow by one a call.
  Options options;
  options.exploration_ms = 0;
  Yard yard(usual(), options);
  double spent = 0, best = 0;
  for (int keys = 1; keys <= 4096; ++keys) {
    const double size = std::exp2(std::floor(4 * std::log2(keys)) / 4);  // its class
    spent += yard.call(std::round(1e4 * size));
    best += yard.best_ns(std::round(1e4 * size));
  }
  EXPECT_LE(yard.selector().budget().extra_ns(), 0.02 * yard.selector().budget().total_ns());
  EXPECT_LE(spent, 1.06 * best);
}

TEST(Adaptive, AChoiceThatSlowsDownIsOpenedAgain) {
  Yard yard(usual());
  for (int i = 0; i < 100; ++i) yard.call(1e7);
  ASSERT_EQ(yard.chosen(1e7), "team");
  yard.slow_down(2, 4);
  for (int i = 0; i < 300; ++i) yard.call(1e7);
  EXPECT_NE(yard.chosen(1e7), "team");
  EXPECT_GE(yard.decision(1e7).drifts, 1);
}

TEST(Adaptive, AChallengerThatBecameFasterTakesOver) {
  Yard yard(usual());
  yard.slow_down(2, 8);  // the machine was busy at the start
  for (int i = 0; i < 100; ++i) yard.call(1e7);
  ASSERT_EQ(yard.chosen(1e7), "wide");
  yard.slow_down(2, 1);
  int calls = 0;
  while (calls < 20'000 && yard.chosen(1e7) != "team") yard.call(1e7), ++calls;
  EXPECT_EQ(yard.chosen(1e7), "team") << "after " << calls << " calls";
  EXPECT_LE(yard.selector().budget().extra_ns(), 0.05 * yard.selector().budget().total_ns() + 2e8);
}

TEST(Adaptive, OneDisturbedTimingIsForgiven) {
  // Its first timing fell into a moment when the machine did something else.
  Yard yard({{"one", 100, 0.10}, {"team", 6000, 0.05}});
  yard.slow_down(1, 40);
  const Choice &team = *yard.decision(1e7).choices[1];
  for (int i = 0; i < 20 && team.samples.count() == 0; ++i) yard.call(1e7);
  ASSERT_EQ(team.samples.count(), 1);
  yard.slow_down(1, 1);
  for (int i = 0; i < 40; ++i) yard.call(1e7);
  EXPECT_EQ(yard.chosen(1e7), "team");
}

TEST(Adaptive, ALongFirstCallDoesNotOutweighTheAuthor) {
  // It came first, and paid for the pages of the caller's new outputs.
  Yard yard({{"team", 0, 0.02}, {"one", 0, 0.03}});
  yard.slow_down(0, 5);
  yard.call(1e9);
  yard.slow_down(0, 1);
  for (int i = 0; i < 20; ++i) yard.call(1e9);
  EXPECT_EQ(yard.chosen(1e9), "team");
}

TEST(Adaptive, DisturbedTimingsOfTheFasterOneAreOutvoted) {
  // Kernels with threads suffer most on a busy machine: here every second call of theirs.
  Yard yard({{"one", 0, 0.03}, {"team", 0, 0.02}});
  const Choice &team = *yard.decision(1e9).choices[0];
  ASSERT_EQ(team.candidate->backend, "team");
  for (int i = 0; i < 40; ++i) {
    yard.slow_down(1, team.samples.count() < 3 && team.samples.count() != 1 ? 4 : 1);
    yard.call(1e9);
  }
  EXPECT_EQ(yard.chosen(1e9), "team");
}

TEST(Adaptive, APlainReferenceIsNotTriedAgainstItsEstimate) {
  Yard yard({{"one", 100, 0.10}, {"plain", 100, 10, 1, "same", true}});
  for (int i = 0; i < 50; ++i) yard.call(1e4);
  EXPECT_EQ(yard.decision(1e4).choices[1]->samples.count(), 0);
}

TEST(Adaptive, NothingIsTriedWithoutABudget) {
  Options options;
  options.exploration_share = 0;
  Yard yard(usual(), options);
  for (int i = 0; i < 200; ++i) yard.call(1e7);
  EXPECT_EQ(yard.selector().budget().extra_ns(), 0);
  EXPECT_EQ(yard.chosen(1e7), "one") << "the best prior";
}

TEST(Adaptive, AnotherNumericsClassIsNotTried) {
  auto kernels = usual();
  kernels[2].numerics = "other";
  Yard yard(kernels);
  for (int i = 0; i < 100; ++i) yard.call(1e7);
  EXPECT_EQ(yard.chosen(1e7), "wide");
  Options tolerant;
  tolerant.numerics = Numerics::tolerant;
  Yard free(kernels, tolerant);
  for (int i = 0; i < 100; ++i) free.call(1e7);
  EXPECT_EQ(free.chosen(1e7), "team");
}

TEST(Adaptive, StoredTimingsDecideTheFirstCall) {
  Yard yard(usual());
  for (int i = 0; i < 60; ++i) yard.call(1e7);
  Decision &known = yard.decision(1e7);
  Decision again;
  for (const auto &c : known.choices) {
    auto copy = std::make_unique<Choice>();
    copy->candidate = c->candidate;
    copy->verdict = c->verdict;
    again.choices.push_back(std::move(copy));
  }
  again.described = known.described;
  again.threads = known.threads;
  again.work = known.work;
  yard.selector().prepare(again, 0);
  const Choice *first = yard.selector().next(again, 0);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->candidate->backend, "team");
  EXPECT_EQ(again.chosen.load(), first);
}

TEST(Adaptive, WhatIsCompiledFirstIsTriedWhenMuchWorkHasPaidForIt) {
  const std::vector<FakeKernel> kernels = {
      {"driver", 0, 0.02, 1, "same", false, 0, true}, {"wide", 90, 0.09}, {"one", 100, 0.10}};
  Yard yard(kernels);
  for (int i = 0; i < 400; ++i) yard.call(1e9);  // 36 s
  EXPECT_EQ(yard.chosen(1e9), "wide");
  EXPECT_FALSE(yard.asked());
  const Choice &last = *yard.decision(1e9).choices.back();
  EXPECT_EQ(last.candidate->backend, "driver");
  EXPECT_EQ(last.samples.count(), 0);
  EXPECT_NE(last.pruned.find("tried after 50"), std::string::npos) << last.pruned;
  for (int i = 0; i < 600; ++i) yard.call(1e9);
  EXPECT_TRUE(yard.asked());
  EXPECT_EQ(yard.chosen(1e9), "driver");
}

TEST(Adaptive, WhatIsCompiledFirstIsNotPutOffWithoutAReason) {
  const FakeKernel driver{"driver", 0, 0.02, 1, "same", false, 0, true};
  const auto late = [&](std::vector<FakeKernel> kernels, const Options &options) {
    Yard yard(std::move(kernels), options);
    for (const auto &c : yard.decision(1e6).choices)
      if (c->late) return true;
    return false;
  };
  const std::vector<FakeKernel> both = {driver, {"wide", 90, 0.09}};
  EXPECT_TRUE(late(both, {}));
  EXPECT_FALSE(late({driver}, {})) << "nobody else would answer";
  EXPECT_FALSE(late({driver, {"plain", 0, 1, 1, "same", true}}, {})) << "but for the reference";
  Options all;
  all.policy = Policy::benchmark;
  EXPECT_FALSE(late(both, all));
  Options named;
  named.preferences = {{"driver", 0}};
  EXPECT_FALSE(late(both, named));
  named.preferences = {{"driver", 1}};  // from a size on that this one has not
  EXPECT_TRUE(late(both, named));
  Options without;
  without.exploration_share = 0;
  Yard yard(both, without);
  EXPECT_EQ(yard.decision(1e6).choices.back()->retry_at, UINT64_MAX);
}

TEST(Model, PredictsBetweenAndBeyondWhatWasMeasured) {
  std::vector<TimedPlace> points;
  const auto time = [](double n) { return 5000 + 0.25 * n; };
  for (int e = 8; e <= 20; e += 4) {
    const double n = std::exp2(e);
    points.push_back({Place::of(Shape().set("n", static_cast<std::int64_t>(n))),
                      {time(n), time(n), time(n), 9, {n, 4 * n}}});
  }
  for (const double n : {400.0, 3000.0, 50'000.0, 400'000.0, 4e6}) {
    const Prediction p =
        predict(points, Place::of(Shape().set("n", static_cast<std::int64_t>(n))), {n, 4 * n});
    EXPECT_NEAR(p.ns / time(n), 1, 0.05) << n;
    EXPECT_EQ(p.points, 4);
  }
  EXPECT_EQ(predict({}, Place::of(Shape()), {}).points, 0);
  EXPECT_EQ(Place::of(*Shape::parse("n=8,dtype=f32")).regime,
            Place::of(*Shape::parse("n=9,dtype=f32")).regime);
  EXPECT_NE(Place::of(*Shape::parse("n=8,dtype=f32")).regime,
            Place::of(*Shape::parse("n=8,dtype=f16")).regime);
}

}  // namespace
}  // namespace switchyard
