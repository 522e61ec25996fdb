// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Who answers a call of a class that is not decided yet, and when it is decided. Pure logic over a
/// Decision, called with its mutex held.

#include "dispatcher/decision.hpp"

namespace switchyard {

/// The instance or plugin that `op` is pinned to, or "".
std::string pinned_backend(const Options &options, std::string_view op);
bool matches_backend(const Candidate &candidate, std::string_view name) noexcept;

class Selector {
 public:
  explicit Selector(const Options &options) : options_(options) {}

  /// The choice to run next, or null when nothing usable is known yet. `elements` is the size the
  /// thresholds policy compares.
  Choice *next(Decision &decision, std::int64_t elements) const;
  /// Records a timing; decides when enough is known.
  void record(Decision &decision, Choice &choice, std::uint64_t ns) const;
  /// Excludes a choice that failed; the decision is open again.
  void exclude(Decision &decision, Choice &choice, std::string why) const;
  /// True when nothing more is to be learned without new verdicts.
  bool settled(const Decision &decision) const;

 private:
  Choice *by_preference(Decision &decision, std::int64_t elements) const;
  Choice *least_sampled(Decision &decision) const;
  bool open_to(const Decision &decision, const Choice &choice) const;
  void prune(Decision &decision) const;
  void try_to_decide(Decision &decision) const;
  void decide(Decision &decision, Choice &choice, std::string rule) const;

  const Options &options_;
};

/// Timings of each candidate before a decision: many for short calls, few for long ones.
int rounds_for(double best_ns) noexcept;

}  // namespace switchyard
