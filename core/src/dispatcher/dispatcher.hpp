// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Routes calls: validate, key, decision, kernel. A decided call takes no lock and allocates
/// nothing.

#include "dispatcher/call_memo.hpp"
#include "dispatcher/runner.hpp"
#include "policy/policy.hpp"

namespace switchyard {

class KernelStates;

class Dispatcher final : public Runner {
 public:
  /// `lock` is the lock file of Policy::frozen, or null. All outlive the dispatcher.
  Dispatcher(const Options &options, const Registry &registry, VerdictBook &verdicts,
             TimingStore &timings, const LockFile *lock, std::uint32_t threads);

  /// The whole route. `states` and `answer` may be null. Returns a sy_status. [any-thread]
  std::int32_t route(OpIndex op, sy_call &call, KernelStates *states, sy_error *error,
                     Answer *answer) noexcept;

  std::unique_ptr<States> make_states(std::uint64_t constant_inputs) override;
  Status run(std::string_view op, sy_call &call, States *states, Answer *answer) override;
  std::uint32_t threads() const noexcept override { return threads_; }
  void parallel_for(std::uint64_t n, const std::function<void(std::uint64_t)> &fn) override;

  /// The decision of a valid call, made now if it is new (nothing is run).
  Decision &decision(OpIndex op, const sy_call &call);
  /// Asks for the verdicts of kernels that were put off: those whose time has come, or all.
  void ask_late(Decision &d, bool all);
  /// A decision that a call of this shape made earlier, or null.
  const Decision *remembered(OpIndex op, const Shape &shape) const;
  std::vector<const Decision *> decisions() const { return table_.all(); }
  const Registry &registry() const noexcept { return registry_; }
  const Options &options() const noexcept { return options_; }
  VerdictBook &verdicts() noexcept { return verdicts_; }
  Selector &selector() noexcept { return selector_; }
  TimingStore &timings() noexcept { return timings_; }

  /// Checks a part of a call that `choice` has just finished. SY_OK: right, or redone by the
  /// reference after the kernel was quarantined; SY_E_VERIFICATION where no other backend may
  /// answer. Allocates; for sampled calls only.
  std::int32_t check_sampled(OpIndex op, Decision &d, Choice &choice, const sy_call &done,
                             sy_error *error, Answer *answer) noexcept;
  /// Kernels quarantined at work by this dispatcher.
  std::uint64_t quarantined() const noexcept {
    return quarantined_.load(std::memory_order_relaxed);
  }

  /// Calls answered by another backend than the chosen one, by reason.
  std::map<std::string, std::uint64_t> fallback_reasons() const;
  /// Mean time of a decided call outside its kernel, over the sampled ones; 0 = none sampled.
  double overhead_ns() const noexcept;

 private:
  /// The backend that an op is pinned to, or "".
  const std::string &pin_of(OpIndex op) const noexcept { return pins_[op]; }
  Key key_of(OpIndex op, const sy_call &call) const noexcept;
  std::unique_ptr<Decision> make_decision(OpIndex op, const sy_call &call, const Key &key);
  /// Validates and finds the decision, or remembers both from an equal call. Not SY_OK = invalid.
  std::int32_t look_up(OpIndex op, sy_call &call, KnownCall &known, sy_error *error);
  std::int32_t execute(const KnownCall &known, Choice &choice, sy_call &call, KernelStates *states,
                       sy_error *error, Answer *answer, std::uint64_t *ns);
  std::int32_t explore(const KnownCall &known, sy_call &call, KernelStates *states, sy_error *error,
                       Answer *answer);
  Choice *pick(Decision &d, const sy_call &call, std::string &reason);
  /// Decides a class of very short calls on generated problems; false when it cannot yet.
  bool measure_generated(Decision &d);
  /// A timed call of the chosen kernel: keeps its recent times, and looks at the choice when due.
  void observe(Decision &d, std::uint64_t ns, std::uint64_t calls) noexcept;
  std::int32_t answer_by_reference(Decision &d, sy_call &call, sy_error *error, Answer *answer,
                                   const std::string &reason);
  /// No decision uses the kernel any more, here and in later processes.
  void quarantine(const Candidate &candidate, const std::string &reason);
  /// The candidate's device or worker is gone: none of its kernels is called again.
  void lose(const Candidate &candidate, const std::string &reason);
  /// Why the candidate's instance was lost, "" = it was not.
  std::string lost(const Candidate &candidate) const;
  void count_fallback(const std::string &reason);

  const Options &options_;
  const Registry &registry_;
  VerdictBook &verdicts_;
  const std::uint32_t threads_;
  const std::uint64_t id_;
  TimingStore &timings_;
  std::vector<std::string> pins_;  ///< by op
  Selector selector_;
  DecisionTable table_;
  mutable std::mutex fallback_mutex_;
  std::map<std::string, std::uint64_t> fallback_reasons_;
  mutable std::mutex lost_mutex_;
  std::map<const sy_instance *, std::string> lost_;
  std::atomic<std::uint64_t> overhead_ns_{0}, overhead_count_{0}, quarantined_{0};
};

/// Prepared states of one series of calls, one per kernel that took part.
class KernelStates final : public Runner::States {
 public:
  KernelStates(std::uint64_t constant_inputs, std::size_t candidates)
      : constant_inputs_(constant_inputs), states_(candidates) {}
  ~KernelStates() override;
  /// The kernel's state for this series, prepared on first use; null where it keeps none.
  void *get(const Candidate &candidate, const sy_call &call);
  /// Was the latest `get` of this kernel its first one, with a state to fill?
  bool is_first(const Candidate &candidate) const noexcept {
    return states_[candidate.id].state != nullptr && states_[candidate.id].calls == 1;
  }

 private:
  struct Entry {
    const Candidate *candidate = nullptr;
    void *state = nullptr;
    std::uint32_t calls = 0;  ///< 2 = two or more
  };
  std::uint64_t constant_inputs_;
  std::vector<Entry> states_;
};

}  // namespace switchyard
