// SPDX-License-Identifier: Apache-2.0
#include "policy/policy.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace switchyard {
namespace {

constexpr double kHopeless = 4;       // this many times slower after one timing: tried no more
constexpr double kHopelessPrior = 8;  // the same by the authors' estimates, before any timing
constexpr double kReferenceWorthNs = 20e3;  // the plain loops may only win on the smallest calls
constexpr double kSampledNs = 10e3;         // faster calls are timed 1 in 64 once decided

std::string duration_text(double ns) {
  if (ns < 1e3) return fmt::format("{:.0f} ns", ns);
  if (ns < 1e6) return fmt::format("{:.1f} us", ns / 1e3);
  if (ns < 1e9) return fmt::format("{:.2f} ms", ns / 1e6);
  return fmt::format("{:.2f} s", ns / 1e9);
}

const Choice *fastest(const Decision &d) {
  const Choice *best = nullptr;
  for (const auto &c : d.choices)
    if (c->usable() && c->samples.count() > 0 &&
        (best == nullptr || c->samples.median() < best->samples.median()))
      best = c.get();
  return best;
}

}  // namespace

std::string pinned_backend(const Options &options, std::string_view op) {
  const auto look = [&](std::string_view name) {
    const auto it = options.pin.find(std::string(name));
    return it == options.pin.end() ? std::string() : it->second;
  };
  std::string found = look(op);
  const auto dot = op.find('.');
  if (found.empty() && dot != std::string_view::npos) found = look(op.substr(0, dot));
  return found.empty() ? look("*") : found;
}

bool matches_backend(const Candidate &candidate, std::string_view name) noexcept {
  return candidate.backend == name || candidate.plugin_id == name;
}

int rounds_for(double best_ns) noexcept {
  if (best_ns > 20e6) return 3;
  return best_ns > 100e3 ? 5 : 15;
}

bool Selector::open_to(const Decision &d, const Choice &c) const {
  if (!c.usable() || !c.pruned.empty()) return false;
  return d.numerics_class.empty() || options_.numerics == Numerics::tolerant ||
         (c.candidate->kernel->traits & SY_TRAIT_BIT_EXACT) != 0 ||
         d.numerics_class == c.candidate->kernel->numerics_class;
}

Choice *Selector::least_sampled(Decision &d) const {
  Choice *pick = nullptr;
  for (const auto &c : d.choices)
    if (open_to(d, *c) && (pick == nullptr || c->samples.count() < pick->samples.count()))
      pick = c.get();
  return pick;
}

Choice *Selector::by_preference(Decision &d, std::int64_t elements) const {
  for (const Preference &p : options_.preferences) {
    if (elements < p.min_size) continue;
    for (const auto &c : d.choices)
      if (c->usable() && matches_backend(*c->candidate, p.backend)) {
        d.rule = fmt::format("thresholds: {} preferred from {} elements on", p.backend, p.min_size);
        return c.get();
      }
  }
  for (const auto &c : d.choices)
    if (c->usable()) {
      d.rule = "thresholds: no preference fits; the best prior answers";
      return c.get();
    }
  return nullptr;
}

Choice *Selector::next(Decision &d, std::int64_t elements) const {
  Choice *pick = nullptr;
  switch (options_.policy) {
    case Policy::thresholds:
      return by_preference(d, elements);
    case Policy::fixed:
      for (const auto &c : d.choices)
        if (pick == nullptr && c->usable()) pick = c.get();
      if (pick != nullptr) decide(d, *pick, "fixed: the best prior answers, nothing is timed");
      return pick;
    case Policy::adaptive:
    case Policy::benchmark:
    case Policy::frozen:
      break;
  }
  pick = least_sampled(d);
  if (pick != nullptr && d.incumbent == nullptr) {
    d.incumbent = pick;
    d.numerics_class = pick->candidate->kernel->numerics_class;
  }
  return pick;
}

void Selector::prune(Decision &d) const {
  const Choice *best = fastest(d);
  if (best == nullptr) return;
  const double best_ns = best->samples.median();
  for (const auto &c : d.choices) {
    if (c.get() == best || !c->pruned.empty() || !c->supported()) continue;
    if (c->samples.count() > 0) {
      if (c->samples.median() > kHopeless * best_ns)
        c->pruned = fmt::format("{:.1f} times slower than {} when tried",
                                c->samples.median() / best_ns, best->candidate->name);
    } else if (c->candidate->reference) {
      if (best_ns > kReferenceWorthNs)
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
  d.exploring_ns = 0;
  for (const auto &c : d.choices)
    if (c.get() != &choice)
      d.exploring_ns += static_cast<std::uint64_t>(c->samples.median() * c->samples.count());
  d.timing_mask.store(choice.samples.count() > 0 && choice.samples.median() < kSampledNs ? 63 : 0,
                      std::memory_order_relaxed);
  d.chosen.store(&choice, std::memory_order_release);
}

void Selector::try_to_decide(Decision &d) const {
  const Choice *best = fastest(d);
  if (best == nullptr) return;
  const int rounds = rounds_for(best->samples.median());
  int measured = 0;
  for (const auto &c : d.choices) {
    // A candidate whose verdict is still out would join late: the decision waits for it.
    if (c->supported() && c->verdict->get() == Verdict::pending && c->pruned.empty()) return;
    if (!open_to(d, *c)) continue;
    if (c->samples.count() < rounds) return;
    ++measured;
  }
  Choice *winner = d.incumbent != nullptr && open_to(d, *d.incumbent) ? d.incumbent : nullptr;
  const double bar = winner != nullptr ? winner->samples.median() * (1 - options_.margin) : 0;
  for (const auto &c : d.choices)
    if (open_to(d, *c) &&
        (winner == nullptr || (winner == d.incumbent && c->samples.median() < bar) ||
         (winner != d.incumbent && c->samples.median() < winner->samples.median())))
      winner = c.get();
  if (winner == nullptr) return;
  std::string rule =
      fmt::format("measured: median {} of {} timings, best of {} candidates",
                  duration_text(winner->samples.median()), winner->samples.count(), measured);
  if (winner == d.incumbent && winner != best)
    rule += fmt::format("; {} was faster by less than the margin of {:.0f} %",
                        best->candidate->name, 100 * options_.margin);
  decide(d, *winner, std::move(rule));
}

void Selector::record(Decision &d, Choice &choice, std::uint64_t ns) const {
  choice.samples.add(ns);
  if (options_.policy != Policy::adaptive && options_.policy != Policy::benchmark) return;
  prune(d);
  try_to_decide(d);
}

void Selector::exclude(Decision &d, Choice &choice, std::string why) const {
  choice.failure = std::move(why);
  choice.failed.store(true, std::memory_order_relaxed);
  if (d.incumbent == &choice) d.incumbent = nullptr;
  d.chosen.store(nullptr, std::memory_order_release);
  for (const auto &c : d.choices) c->pruned.clear();
}

bool Selector::settled(const Decision &d) const {
  return d.chosen.load(std::memory_order_acquire) != nullptr;
}

}  // namespace switchyard
