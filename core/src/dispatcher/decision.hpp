// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What is known of one class of calls: its candidates, their timings, and who answers.

#include <array>
#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "dispatcher/shadow.hpp"
#include "measure/model.hpp"
#include "measure/samples.hpp"
#include "op/key.hpp"
#include "verify/verdict_book.hpp"

namespace switchyard {

/// A candidate within a decision. All but the atomics is guarded by the decision's mutex once the
/// decision is published.
struct Choice {
  static constexpr int kFewSamples = 3;

  const Candidate *candidate = nullptr;
  const VerdictCell *verdict = nullptr;  ///< null when the call is not supported
  std::string refusal;                   ///< why `supports` said no
  std::uint64_t prior_ns = 0;            ///< the author's estimate, 0 = none
  std::optional<Timing> stored;          ///< of this very shape, from an earlier process
  Prediction predicted;                  ///< from other shapes
  Samples samples;                       ///< of this process
  bool warmed = false;                   ///< its first run, which pays for set-up, is past
  int filled = 0;                        ///< first calls of series that were not counted
  std::string pruned;                    ///< why it is not tried for now
  std::uint64_t retry_at = 0;            ///< Decision::total_ns at which it may challenge again
  /// Put off: neither verified nor tried before `retry_at`; `pruned` says so.
  std::atomic<bool> late{false};
  std::atomic<bool> failed{false};  ///< it returned an error that was not the caller's fault
  std::string failure;

  bool supported() const noexcept { return verdict != nullptr; }
  bool pending() const noexcept { return supported() && verdict->get() == Verdict::pending; }
  /// Forgets why it was not tried.
  void reconsider() {
    if (!late.load(std::memory_order_relaxed)) pruned.clear();
  }
  bool usable() const noexcept {
    return supported() && !failed.load(std::memory_order_relaxed) && verdict->passed();
  }
  /// Time per call by the best knowledge there is: measured here, stored, predicted from other
  /// shapes, its author's estimate; 0 = none.
  double expected_ns() const noexcept {
    if (samples.count() > 0) return typical_ns();
    if (stored) return stored->ns;
    return predicted.points > 0 ? predicted.ns : static_cast<double>(prior_ns);
  }
  /// Of few timings the least: a disturbance only ever adds.
  double typical_ns() const noexcept {
    return samples.count() < kFewSamples ? samples.minimum() : samples.median();
  }
  bool measured() const noexcept { return samples.count() > 0 || stored || predicted.points > 0; }
};

/// The newest timings of the chosen kernel. Lock-free: a torn series costs nothing but precision.
class RecentTimes {
 public:
  static constexpr unsigned kKept = 16;
  void add(std::uint64_t ns) noexcept {
    values_[count_.fetch_add(1, std::memory_order_relaxed) % kKept].store(
        ns, std::memory_order_relaxed);
  }
  void clear() noexcept { count_.store(0, std::memory_order_relaxed); }
  bool full() const noexcept { return count_.load(std::memory_order_relaxed) >= kKept; }
  double median() const noexcept;  ///< of a full series

 private:
  std::array<std::atomic<std::uint64_t>, kKept> values_{};
  std::atomic<unsigned> count_{0};
};

/// Created on the first call of its key; lives as long as the dispatcher.
struct Decision {
  Key key;
  OpIndex op = 0;
  std::uint32_t threads = 1;
  Shape described;    ///< the call that created it
  std::string shape;  ///< the same as text
  Work work;
  std::vector<std::unique_ptr<Choice>> choices;  ///< best expectation first; fixed after creation

  std::atomic<Choice *> chosen{nullptr};  ///< null while exploring
  std::atomic<bool> waited{false};        ///< the first call has waited for a verdict
  std::atomic<std::uint64_t> calls{0};
  std::atomic<std::uint64_t> timing_mask{0};         ///< a call is timed when (calls & mask) == 0
  std::atomic<std::uint64_t> total_ns{0};            ///< time in kernels, from the timed calls
  std::atomic<std::uint64_t> review_at{UINT64_MAX};  ///< total_ns at which the choice is looked at
  std::atomic<std::uint64_t> review_every{0};        ///< ns of work between two looks
  std::atomic<std::uint64_t> challenge_at{UINT64_MAX};  ///< total_ns at which another may try
  std::atomic<double> chosen_ns{0};  ///< the chosen kernel's time by what decided
  std::atomic<double> usual_ns{0};   ///< the same on the caller's calls since then; 0 = not yet
  RecentTimes recent;                ///< of `chosen`
  ShadowBudget shadow;

  std::mutex mutex;
  Choice *incumbent = nullptr;   ///< who answered first, or holds the place in a trial
  Choice *challenger = nullptr;  ///< in a trial against the incumbent
  Choice *filled = nullptr;      ///< has just filled its state: its next call is worth timing
  std::string numerics_class;    ///< of the first answer
  std::string rule;              ///< how `chosen` came to be, in words
  double extra_ns = 0;           ///< what trying others cost beyond the best known
  bool generated = false;        ///< its candidates were timed on generated problems
  int drifts = 0;                ///< times the choice was opened again for having slowed down
};

/// Lock-free lookups; insertion under a mutex publishes, growth publishes a new table. Old tables
/// stay until the end, so a reader never meets freed memory.
class DecisionTable {
 public:
  DecisionTable();
  ~DecisionTable();

  Decision *find(const Key &key, std::uint64_t hash) const noexcept;
  /// The decision already there, or `fresh`, now owned by the table.
  Decision *insert(std::unique_ptr<Decision> fresh);
  std::vector<const Decision *> all() const;

 private:
  struct Slots;
  void place(Slots &slots, Decision *decision) noexcept;

  std::atomic<Slots *> current_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Slots>> tables_;
  std::vector<std::unique_ptr<Decision>> decisions_;
};

}  // namespace switchyard
