// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What is known of one class of calls: its candidates, their timings, and who answers.

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "measure/samples.hpp"
#include "op/key.hpp"
#include "verify/verdict_book.hpp"

namespace switchyard {

/// A candidate within a decision. All but the atomics is guarded by the decision's mutex once the
/// decision is published.
struct Choice {
  const Candidate *candidate = nullptr;
  const VerdictCell *verdict = nullptr;  ///< null when the call is not supported
  std::string refusal;                   ///< why `supports` said no
  std::uint64_t prior_ns = 0;            ///< the author's estimate, 0 = none
  Samples samples;
  std::string pruned;               ///< why it is tried no more
  std::atomic<bool> failed{false};  ///< it returned an error that was not the caller's fault
  std::string failure;

  bool supported() const noexcept { return verdict != nullptr; }
  bool usable() const noexcept {
    return supported() && !failed.load(std::memory_order_relaxed) && verdict->passed();
  }
};

/// Created on the first call of its key; lives as long as the dispatcher.
struct Decision {
  Key key;
  OpIndex op = 0;
  std::uint32_t threads = 1;
  std::string shape;                             ///< of the call that created it
  std::vector<std::unique_ptr<Choice>> choices;  ///< best prior first; fixed after creation

  std::atomic<Choice *> chosen{nullptr};  ///< null while still exploring
  std::atomic<bool> waited{false};        ///< the first call has waited for a verdict
  std::atomic<std::uint64_t> calls{0};
  std::atomic<std::uint64_t> timing_mask{0};  ///< a call is timed when (calls & mask) == 0

  std::mutex mutex;
  Choice *incumbent = nullptr;     ///< who answered first: a challenger must beat it by the margin
  std::string numerics_class;      ///< of the first answer
  std::string rule;                ///< how `chosen` came to be, in words
  std::uint64_t exploring_ns = 0;  ///< spent on candidates that were not chosen
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
