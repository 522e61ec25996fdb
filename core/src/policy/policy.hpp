// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Who answers a call of a class that is not decided yet, and when it is decided. Pure logic over a
/// Decision, called with its mutex held unless said otherwise.

#include "dispatcher/decision.hpp"
#include "policy/budget.hpp"
#include "policy/lock_file.hpp"
#include "store/timings.hpp"

namespace switchyard {

/// The instance or plugin that `op` is pinned to, or "".
std::string pinned_backend(const Options &options, std::string_view op);
bool matches_backend(const Candidate &candidate, std::string_view name) noexcept;

class Selector {
 public:
  /// `lock` is the lock file of Policy::frozen, else null.
  Selector(const Options &options, TimingStore &timings, const LockFile *lock)
      : options_(options),
        timings_(timings),
        lock_(lock),
        budget_(options.exploration_share, options.exploration_ms) {}

  /// Fills in what is known of the choices of a decision that is not published yet, and orders them
  /// by it. `elements` is the size the thresholds compare.
  void prepare(Decision &decision, std::int64_t elements) const;
  /// The choice to run next, or null when nothing usable is known yet.
  Choice *next(Decision &decision, std::int64_t elements);
  /// Who would answer, by what is known now; null when nothing is usable.
  const Choice *expected(const Decision &decision, std::int64_t elements) const;
  /// The choices that were put off and may be tried now, or all of them: no longer put off. Their
  /// verdicts are to be asked for.
  std::vector<const Candidate *> ripe(Decision &decision, bool all) const;
  /// Records a timing made while exploring; decides when enough is known. `first_of_series`: the
  /// call also filled what the kernel keeps for the series' other calls (a fit's steps); it counts
  /// for nothing, and the next call goes to the same kernel.
  void record(Decision &decision, Choice &choice, std::uint64_t ns, bool first_of_series = false);
  /// All that may be tried in this class now; empty while a verdict is still out.
  std::vector<Choice *> contenders(Decision &decision) const;
  /// Excludes a choice that failed; the decision is open again.
  void exclude(Decision &decision, Choice &choice, std::string why);
  /// Is there anything for `review` to do? [any-thread, no mutex]
  bool due(const Decision &decision) const noexcept;
  /// Looks at a decided class again: has the choice slowed down, is a challenge affordable?
  void review(Decision &decision);
  /// Decides where what was known beforehand is enough.
  void settle(Decision &decision) const;
  /// Takes over what the timing store has come to know of this very class.
  void learn(Decision &decision) const;
  /// Decides for the fastest of what was measured just now, outside of the caller's calls.
  void settle_measured(Decision &decision, std::string_view how);
  /// True when nothing is explored at present. [any-thread, no mutex]
  bool settled(const Decision &decision) const {
    return decision.chosen.load(std::memory_order_acquire) != nullptr;
  }

  /// Time in kernels outside of exploring, which earns the budget. [any-thread, no mutex]
  void spent(std::uint64_t ns) noexcept { budget_.earn(ns); }
  const Budget &budget() const noexcept { return budget_; }

 private:
  bool put_off(const Decision &decision, const Choice &choice, std::int64_t elements) const;
  Choice *by_preference(Decision &decision, std::int64_t elements) const;
  Choice *frozen(Decision &decision, std::int64_t elements) const;
  Choice *least_sampled(Decision &decision) const;
  bool may_answer(const Decision &decision, const Choice &choice) const;
  bool open_to(const Decision &decision, const Choice &choice) const;
  bool may_challenge(const Decision &decision, const Choice &choice) const;
  void schedule_challenge(Decision &decision, const Choice &chosen) const;
  double slowdown(const Decision &decision) const noexcept;
  void reopen(Decision &decision, double slower);
  bool affordable(const Decision &decision, const Choice &choice, const Choice *best) const;
  void settle_from_knowledge(Decision &decision) const;
  void prune(Decision &decision) const;
  void try_to_decide(Decision &decision);
  void judge_challenge(Decision &decision);
  void decide(Decision &decision, Choice &choice, std::string rule) const;
  void remember(const Decision &decision) const;

  const Options &options_;
  TimingStore &timings_;
  const LockFile *lock_;
  Budget budget_;
};

/// Calls too short for a clock on each: their candidates are compared on generated problems, in
/// batches.
inline constexpr double kTooShortNs = 2e3;

/// Timings of each candidate before a decision: many for short calls, few for long ones.
int rounds_for(double best_ns) noexcept;

}  // namespace switchyard
