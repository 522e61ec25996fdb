// SPDX-License-Identifier: Apache-2.0
// What is tried, for how long, and when it is decided, opened again or challenged.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/duration.hpp"
#include "policy/policy.hpp"

namespace switchyard {
namespace {

constexpr double kHopelessPrior = 8;  // times slower by the authors' estimates, before any timing
constexpr double kReferenceWorthNs = 20e3;  // the plain loops may only win on the smallest calls
constexpr double kSampledNs = 10e3;         // faster calls are timed 1 in 64 once decided
constexpr double kDrift = 1.25;             // a choice that turned this much slower is opened again
constexpr double kStartCalls = 3;  // calls' worth of extra time that a class may cost at its start
constexpr double kReviewCalls = 32, kReviewNs = 1e6;  // between two looks at a decided class
constexpr double kLongNs = 50e6;  // no scheduler's quantum adds as much to a timing
constexpr int kTrialRounds = 3, kConfirmRounds = 7;
constexpr int kMostFilled = 4;  // first calls of series that are not counted, of each kernel

/// By its author's estimate `c` is no slower than `best`.
bool promised(const Choice &c, const Choice &best) noexcept {
  return c.prior_ns > 0 && c.prior_ns <= best.prior_ns;
}

/// Its fastest timing beats that of `best`, so what makes its others slower may be a disturbance:
/// it takes more timings to say.
bool unclear(const Choice &c, const Choice &best, double margin) noexcept {
  return &c != &best && c.samples.count() < kConfirmRounds &&
         c.samples.minimum() < best.samples.minimum() * (1 - margin);
}

/// How many times slower than `best` a tried choice may look and still be tried. A single timing
/// may be a disturbance, unless it is long; but a class's first call also pays for the pages of new
/// outputs, so a long one alone does not outweigh the author's estimate.
double tolerance(const Choice &c, const Choice &best) noexcept {
  const int n = c.samples.count();
  if (n == 1 && (c.typical_ns() < kLongNs || promised(c, best))) return INFINITY;
  return n >= Choice::kFewSamples ? 1.25 : 2;
}

const Choice *fastest(const Decision &d) {
  const Choice *best = nullptr;
  for (const auto &c : d.choices)
    if (c->usable() && c->samples.count() > 0 &&
        (best == nullptr || c->samples.median() < best->samples.median()))
      best = c.get();
  return best;
}

/// Bounds of what a choice plausibly takes.
struct Bounds {
  double low, high;
};
Bounds bounds(const Choice &c) {
  const double u = !c.stored                ? c.predicted.uncertainty()
                   : c.stored->samples >= 5 ? 0.02
                   : c.stored->samples >= 3 ? 0.1
                                            : 0.3;
  const double ns = c.expected_ns();
  return {(1 - u) * ns, (1 + u) * ns};
}

std::string source_of(const Choice &c) {
  return c.stored ? "stored timings of this shape"
                  : fmt::format("{} measured shapes, the nearest {:.1f} octaves away",
                                c.predicted.points, c.predicted.distance);
}

}  // namespace

int rounds_for(double best_ns) noexcept {
  if (best_ns > 20e6) return 3;
  return best_ns > 100e3 ? 5 : 7;
}

bool Selector::affordable(const Decision &d, const Choice &c, const Choice *best) const {
  if (options_.policy == Policy::benchmark || best == nullptr || &c == best) return true;
  const double best_ns = best->samples.median();
  const double expected = c.expected_ns() > 0 ? c.expected_ns() : best_ns;
  const double extra = std::max(0.0, expected - best_ns);
  // It may well be the faster one: disturbed timings do not end its trial.
  if (c.samples.count() < Choice::kFewSamples ? promised(c, *best)
                                              : unclear(c, *best, options_.margin))
    return budget_.allows(extra);
  const auto total = static_cast<double>(d.total_ns.load(std::memory_order_relaxed));
  return d.extra_ns + extra <= std::max(kStartCalls * best_ns, budget_.share() * total) &&
         budget_.allows(extra);
}

Choice *Selector::least_sampled(Decision &d) const {
  const Choice *best = fastest(d);
  Choice *pick = nullptr;
  for (const auto &c : d.choices)
    if (open_to(d, *c) && affordable(d, *c, best) &&
        (pick == nullptr || c->samples.count() < pick->samples.count()))
      pick = c.get();
  return pick;
}

std::vector<Choice *> Selector::contenders(Decision &d) const {
  std::vector<Choice *> open;
  for (const auto &c : d.choices) {
    if (c->pending() && c->pruned.empty()) return {};
    if (open_to(d, *c)) open.push_back(c.get());
  }
  return open;
}

void Selector::settle_from_knowledge(Decision &d) const {
  Choice *best = nullptr;
  const auto rivals = [&](const Choice &c) {
    return c.supported() && !c.failed.load(std::memory_order_relaxed) &&
           c.verdict->get() != Verdict::failed && !c.late.load(std::memory_order_relaxed);
  };
  for (const auto &c : d.choices)
    if (rivals(*c) && c->measured() && (best == nullptr || c->expected_ns() < best->expected_ns()))
      best = c.get();
  if (best == nullptr || (!best->stored && best->predicted.distance > 1)) return;
  bool clear = best->usable();
  for (const auto &c : d.choices) {
    if (c.get() == best || !rivals(*c)) continue;
    if (!c->measured()) {
      clear = clear && c->candidate->reference && best->expected_ns() > kReferenceWorthNs;
      continue;
    }
    const auto compared = [](const Choice &x) { return x.stored && x.stored->samples >= 3; };
    if (compared(*best) && compared(*c)) continue;  // on this shape: the faster one it is
    if (bounds(*c).low > bounds(*best).high)
      c->pruned =
          fmt::format("predicted {:.2f} times slower than {} from {}",
                      c->expected_ns() / best->expected_ns(), best->candidate->name, source_of(*c));
    else
      clear = false;
  }
  if (!clear) return;
  d.numerics_class = best->candidate->kernel->numerics_class;
  decide(d, *best,
         fmt::format("{}: {} expected by {}", best->stored ? "stored" : "predicted",
                     duration_text(best->expected_ns()), source_of(*best)));
}

void Selector::prune(Decision &d) const {
  const Choice *best = fastest(d);
  if (best == nullptr) return;
  const double best_ns = best->samples.median();
  for (const auto &c : d.choices) {
    if (c.get() == best || !c->pruned.empty() || !c->supported()) continue;
    const int n = c->samples.count();
    if (n > 0) {
      const bool apart = n >= 5 && c->samples.interval().low > best->samples.interval().high;
      const double ns = c->typical_ns();
      if ((ns > tolerance(*c, *best) * best_ns && !unclear(*c, *best, options_.margin)) || apart)
        c->pruned = fmt::format("{:.2f} times slower than {} when tried", ns / best_ns,
                                best->candidate->name);
    } else if (c->measured()) {
      if (bounds(*c).low > kHopelessPrior * best_ns)
        c->pruned = fmt::format("predicted {:.0f} times slower than {}", c->expected_ns() / best_ns,
                                best->candidate->name);
    } else if (c->candidate->reference && best_ns > kReferenceWorthNs) {
      c->pruned = "the reference is not timed on calls of this size";
    } else if (best->prior_ns > 0 && static_cast<double>(c->prior_ns) >
                                         kHopelessPrior * static_cast<double>(best->prior_ns)) {
      c->pruned =
          fmt::format("by its author's estimate {:.0f} times slower than {}",
                      static_cast<double>(c->prior_ns) / static_cast<double>(best->prior_ns),
                      best->candidate->name);
    }
  }
}

void Selector::decide(Decision &d, Choice &choice, std::string rule) const {
  d.rule = std::move(rule);
  d.challenger = nullptr;
  d.incumbent = &choice;
  const double ns = choice.expected_ns();
  d.chosen_ns.store(ns, std::memory_order_relaxed);
  d.usual_ns.store(0, std::memory_order_relaxed);
  d.recent.clear();
  d.timing_mask.store(ns > 0 && ns < kSampledNs ? 63 : 0, std::memory_order_relaxed);
  if (options_.policy == Policy::adaptive && budget_.share() > 0) {
    const std::uint64_t total = d.total_ns.load(std::memory_order_relaxed);
    const auto every = static_cast<std::uint64_t>(std::max(kReviewCalls * ns, kReviewNs));
    for (const auto &c : d.choices)
      if (c->retry_at <= total) c->retry_at = total + 2 * every;
    schedule_challenge(d, choice);
    d.review_every.store(every, std::memory_order_relaxed);
    d.review_at.store(total + every, std::memory_order_relaxed);
  }
  d.chosen.store(&choice, std::memory_order_release);
}

void Selector::schedule_challenge(Decision &d, const Choice &chosen) const {
  std::uint64_t first = UINT64_MAX;
  for (const auto &c : d.choices)
    if (c.get() != &chosen && chosen.expected_ns() > kTooShortNs &&
        (c->pending() || may_challenge(d, *c)))
      first = std::min(first, c->retry_at);
  d.challenge_at.store(first, std::memory_order_relaxed);
}

bool Selector::may_challenge(const Decision &d, const Choice &c) const {
  return c.usable() && may_answer(d, c) && (c.measured() || !c.candidate->reference);
}

void Selector::remember(const Decision &d) const {
  for (const auto &c : d.choices) {
    if (c->samples.count() < 2 && c->samples.median() < kLongNs) continue;
    const auto interval = c->samples.interval();
    timings_.record(*c->candidate, d.threads, d.described,
                    {c->samples.median(), interval.low, interval.high, c->samples.count(), d.work});
  }
}

void Selector::try_to_decide(Decision &d) {
  const Choice *best = fastest(d);
  if (best == nullptr) return;
  const int rounds = rounds_for(best->samples.median());
  int measured = 0;
  for (const auto &c : d.choices) {
    // A candidate whose verdict is still out would join late: the decision waits for it.
    if (c->pending() && c->pruned.empty()) return;
    if (!open_to(d, *c)) continue;
    if (c->samples.count() >= rounds && !unclear(*c, *best, options_.margin))
      ++measured;
    else if (affordable(d, *c, best))
      return;
    else
      c->pruned = "trying it would cost more than the budget has now";
  }
  settle_measured(d, fmt::format("measured on {} candidates", measured));
}

void Selector::settle_measured(Decision &d, std::string_view how) {
  // The one that answered first stays unless another is faster by the margin, or surely faster.
  const Choice *best = fastest(d);
  if (best == nullptr) return;
  Choice *winner =
      d.incumbent != nullptr && d.incumbent->usable() && d.incumbent->samples.count() > 0
          ? d.incumbent
          : nullptr;
  if (winner != nullptr && winner != best) {
    const bool by_margin =
        best->samples.median() < winner->samples.median() * (1 - options_.margin);
    const bool surely = best->samples.interval().high < winner->samples.interval().low;
    if (by_margin || surely) winner = nullptr;
  }
  if (winner == nullptr) winner = const_cast<Choice *>(best);
  std::string rule = fmt::format("{}: median {} of {} timings", how,
                                 duration_text(winner->samples.median()), winner->samples.count());
  if (winner != best)
    rule += fmt::format("; {} was faster by less than the margin of {:.0f} %",
                        best->candidate->name, 100 * options_.margin);
  remember(d);
  decide(d, *winner, std::move(rule));
}

void Selector::record(Decision &d, Choice &choice, std::uint64_t ns, bool first_of_series) {
  if (options_.policy != Policy::adaptive && options_.policy != Policy::benchmark) return;
  // Series of one call would never be timed otherwise.
  if (first_of_series && choice.filled < kMostFilled) {
    ++choice.filled;
    choice.warmed = true;
    d.filled = &choice;
    return;
  }
  // A kernel's very first run starts thread pools and libraries: it says little of the next ones.
  // That of a device loads its driver too, however long that takes.
  const bool on_device = (choice.candidate->kernel->traits & SY_TRAIT_DEVICE_MEMORY) != 0;
  if (!std::exchange(choice.warmed, true) && (on_device || static_cast<double>(ns) < kLongNs) &&
      choice.candidate->stats.timed_count.load(std::memory_order_relaxed) <= 1)
    return;
  if (const Choice *best = fastest(d); best != nullptr && best != &choice) {
    const double extra = static_cast<double>(ns) - best->samples.median();
    d.extra_ns += std::max(extra, 0.0);
    budget_.spend(extra);
  }
  choice.samples.add(ns);
  if (d.challenger != nullptr) return judge_challenge(d);
  prune(d);
  try_to_decide(d);
}

void Selector::judge_challenge(Decision &d) {
  Choice &challenger = *d.challenger, &incumbent = *d.incumbent;
  const int rounds = std::min(challenger.samples.count(), incumbent.samples.count());
  if (rounds < kTrialRounds) return;
  const double a = challenger.samples.median(), b = incumbent.samples.median();
  const bool wins = a < b * (1 - options_.margin);
  if ((wins && rounds < kConfirmRounds) || unclear(challenger, incumbent, options_.margin)) return;
  const std::uint64_t total = d.total_ns.load(std::memory_order_relaxed);
  remember(d);
  if (wins) {
    decide(d, challenger,
           fmt::format("challenged: {} against {} of {}, which was chosen before", duration_text(a),
                       duration_text(b), incumbent.candidate->name));
    return;
  }
  // Each lost trial doubles the wait for the next one.
  challenger.retry_at = 2 * total + 1;
  challenger.pruned =
      fmt::format("{:.2f} times the time of {} when tried again", a / b, incumbent.candidate->name);
  decide(d, incumbent, std::move(d.rule));
}

void Selector::exclude(Decision &d, Choice &choice, std::string why) {
  choice.failure = std::move(why);
  choice.failed.store(true, std::memory_order_relaxed);
  if (d.incumbent == &choice) d.incumbent = nullptr;
  d.challenger = nullptr;
  d.chosen.store(nullptr, std::memory_order_release);
  for (const auto &c : d.choices) c->reconsider();
}

double Selector::slowdown(const Decision &d) const noexcept {
  if (!d.recent.full()) return 0;
  const double usual = d.usual_ns.load(std::memory_order_relaxed);
  if (usual > 0) return d.recent.median() / usual;
  // What decided may have been timed in batches: of short calls, the clock is part of the time.
  const double chosen = d.chosen_ns.load(std::memory_order_relaxed);
  return chosen >= kSampledNs ? d.recent.median() / chosen : 1;
}

bool Selector::due(const Decision &d) const noexcept {
  return d.challenge_at.load(std::memory_order_relaxed) <=
             d.total_ns.load(std::memory_order_relaxed) ||
         slowdown(d) > kDrift ||
         (d.recent.full() && d.usual_ns.load(std::memory_order_relaxed) == 0);
}

void Selector::review(Decision &d) {
  Choice *chosen = d.chosen.load(std::memory_order_acquire);
  if (chosen == nullptr || options_.policy != Policy::adaptive) return;
  if (d.recent.full()) {
    if (const double slower = slowdown(d); slower > kDrift) return reopen(d, slower);
    const double usual = d.usual_ns.load(std::memory_order_relaxed), now = d.recent.median();
    d.usual_ns.store(usual > 0 ? std::min(usual, now) : now, std::memory_order_relaxed);
    d.recent.clear();
  }
  const double usual = d.usual_ns.load(std::memory_order_relaxed);
  const double chosen_ns = usual > 0 ? usual : d.chosen_ns.load(std::memory_order_relaxed);
  const std::uint64_t total = d.total_ns.load(std::memory_order_relaxed);
  const double earned = budget_.share() * static_cast<double>(total) - d.extra_ns;
  Choice *next = nullptr;
  for (const auto &c : d.choices) {
    if (c.get() == chosen || c->retry_at > total) continue;
    if (c->pending())  // asked for at last; looked at again when it is known
      c->retry_at = total + d.review_every.load(std::memory_order_relaxed);
    if (!may_challenge(d, *c)) continue;
    const double expected = c->expected_ns() > 0 ? c->expected_ns() : 2 * chosen_ns;
    const double extra = kTrialRounds * std::max(0.0, expected - chosen_ns);
    if (extra > earned || !budget_.allows(extra))
      c->retry_at = 2 * total + 1;  // when more has been earned
    else if (next == nullptr || c->retry_at < next->retry_at)
      next = c.get();
  }
  if (next == nullptr) return schedule_challenge(d, *chosen);
  next->pruned.clear();
  for (Choice *c : {next, chosen}) {
    c->samples.clear();
    c->filled = 0;
  }
  d.incumbent = chosen;
  d.challenger = next;
  d.chosen.store(nullptr, std::memory_order_release);
}

void Selector::reopen(Decision &d, double slower) {
  ++d.drifts;
  d.rule = fmt::format("opened again: {} turned {:.2f} times slower than when it was chosen",
                       d.chosen.load(std::memory_order_relaxed)->candidate->name, slower);
  for (const auto &c : d.choices) {
    c->samples.clear();
    c->filled = 0;
    c->stored.reset();
    c->predicted = {};
    c->reconsider();
  }
  d.generated = false;
  d.chosen.store(nullptr, std::memory_order_release);
}

}  // namespace switchyard
