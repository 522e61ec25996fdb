// SPDX-License-Identifier: Apache-2.0
// Pins, preferences, the lock file, and who would answer; adaptive.cpp has what is measured.
#include "policy/policy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/duration.hpp"
#include "host/log.hpp"

namespace switchyard {
namespace {

constexpr double kFarOctaves = 3;  // behind the nearest measured shape
/// What a kernel that is compiled at its first use may cost until it can be judged: with the share
/// of the time that exploring may take, this says when a class has earned it.
constexpr double kSlowStartNs = 1e9;

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
  if (name == kReferenceGroup) return candidate.reference;
  if (name == kDeviceGroup) return candidate.device_kind != SY_DEVICE_HOST;
  if (name == kNativeGroup) return !candidate.reference && candidate.device_kind == SY_DEVICE_HOST;
  return candidate.backend == name || candidate.plugin_id == name;
}

bool Selector::put_off(const Decision &d, const Choice &c, std::int64_t elements) const {
  const Candidate &candidate = *c.candidate;
  if (!candidate.slow_start || !c.refusal.empty() || options_.policy == Policy::benchmark)
    return false;
  if (std::ranges::any_of(options_.preferences, [&](const Preference &p) {
        return elements >= p.min_size &&
               (p.backend == candidate.backend || p.backend == candidate.plugin_id);
      }))
    return false;
  if (options_.policy == Policy::frozen && lock_ != nullptr)
    if (const auto entry = lock_->find(d); entry && entry->kernel == candidate.name) return false;
  // Somebody else has to answer; where all is known, it is not put off if it is the fastest.
  bool others = false, fastest = c.measured();
  for (const auto &o : d.choices) {
    if (!o->refusal.empty() || o->candidate->reference || o->candidate->slow_start) continue;
    others = true;
    fastest = fastest && o->measured() && c.expected_ns() < o->expected_ns();
  }
  return others && !fastest;
}

std::vector<const Candidate *> Selector::ripe(Decision &d, bool all) const {
  std::vector<const Candidate *> out;
  const std::uint64_t total = d.total_ns.load(std::memory_order_relaxed);
  for (const auto &c : d.choices) {
    if (!c->late.load(std::memory_order_relaxed) || !(all || c->retry_at <= total)) continue;
    c->late.store(false, std::memory_order_relaxed);
    if (all) {
      c->retry_at = 0;
      c->pruned.clear();
    }
    out.push_back(c->candidate);
  }
  return out;
}

void Selector::prepare(Decision &d, std::int64_t elements) const {
  const bool learns = options_.policy == Policy::adaptive || options_.policy == Policy::benchmark;
  for (const auto &c : d.choices) {
    if (!c->refusal.empty() || !learns) continue;
    c->stored = timings_.find(*c->candidate, d.threads, d.described);
    if (c->stored) continue;
    c->predicted = timings_.predict(*c->candidate, d.threads, d.described, d.work);
    // From afar the model knows less than the author: it goes by operations and bytes, and would
    // have a kernel for many rows answer calls of one.
    if (c->predicted.distance > kFarOctaves && c->prior_ns > 0) c->predicted = {};
  }
  for (const auto &c : d.choices)
    if (put_off(d, *c, elements)) {
      const bool sometime = options_.policy == Policy::adaptive && budget_.share() > 0;
      const double after = sometime ? kSlowStartNs / budget_.share() : 0;
      c->retry_at = sometime ? static_cast<std::uint64_t>(after) : UINT64_MAX;
      c->pruned =
          "it would be compiled first, for the same cores: " +
          (sometime ? fmt::format("tried after {} in kernels of this class", duration_text(after))
                    : std::string("not tried under this policy"));
      c->late.store(true, std::memory_order_relaxed);
    }
  const auto preference = [&](const Candidate &candidate) {
    std::size_t i = 0;
    for (; i < options_.preferences.size(); ++i)
      if (elements >= options_.preferences[i].min_size &&
          matches_backend(candidate, options_.preferences[i].backend))
        break;
    return i;
  };
  // The user's preferences outrank expectations: whatever is tried first, they decide it. The
  // reference comes last unless it was measured.
  const auto rank = [&](const std::unique_ptr<Choice> &c) {
    const double expected = c->expected_ns();
    return std::tuple(!c->refusal.empty(), c->late.load(std::memory_order_relaxed),
                      preference(*c->candidate), c->candidate->reference && !c->measured(),
                      expected == 0, expected);
  };
  std::stable_sort(d.choices.begin(), d.choices.end(),
                   [&](const auto &a, const auto &b) { return rank(a) < rank(b); });
}

void Selector::learn(Decision &d) const {
  for (const auto &c : d.choices) {
    if (!c->supported()) continue;
    c->stored = timings_.find(*c->candidate, d.threads, d.described);
    c->samples.clear();
    c->reconsider();
  }
  d.incumbent = d.challenger = nullptr;
  d.numerics_class.clear();
  d.chosen.store(nullptr, std::memory_order_release);
  settle(d);
}

void Selector::settle(Decision &d) const {
  if (options_.policy == Policy::adaptive && d.incumbent == nullptr && d.challenger == nullptr &&
      d.chosen.load(std::memory_order_acquire) == nullptr)
    settle_from_knowledge(d);
}

bool Selector::may_answer(const Decision &d, const Choice &c) const {
  return d.numerics_class.empty() || options_.numerics == Numerics::tolerant ||
         (c.candidate->kernel->traits & SY_TRAIT_BIT_EXACT) != 0 ||
         d.numerics_class == c.candidate->kernel->numerics_class;
}

bool Selector::open_to(const Decision &d, const Choice &c) const {
  return c.usable() && c.pruned.empty() && may_answer(d, c);
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

Choice *Selector::frozen(Decision &d, std::int64_t elements) const {
  std::string missing = "no lock file is given";
  if (lock_ != nullptr) {
    const auto entry = lock_->find(d);
    missing =
        fmt::format("{} says nothing of {} ({})", lock_->path(), all_ops()[d.op]->id(), d.shape);
    for (const auto &c : d.choices) {
      if (!entry || c->candidate->name != entry->kernel) continue;
      if (c->candidate->hash != entry->hash) {
        missing = fmt::format("{} was written for another build of {}", lock_->path(),
                              c->candidate->backend);
      } else if (!c->refusal.empty()) {
        missing = fmt::format("{}, which {} names, refuses the call: {}", entry->kernel,
                              lock_->path(), c->refusal);
      } else if (c->usable()) {
        decide(d, *c, "frozen: " + lock_->path());
        return c.get();
      } else {
        return nullptr;  // still being verified, or it failed
      }
      break;
    }
    if (entry && missing.find("says nothing") != std::string::npos)
      missing = fmt::format("{}, which {} names, is not loaded", entry->kernel, lock_->path());
  }
  if (options_.strict) {
    d.rule = "frozen: " + missing;
    return nullptr;
  }
  Choice *pick = by_preference(d, elements);
  if (pick == nullptr) return nullptr;
  static std::atomic<bool> warned{false};
  if (!warned.exchange(true))
    log(SY_LOG_WARNING, "frozen: " + missing + "; the order of the thresholds answers");
  decide(d, *pick, "frozen: " + missing + "; " + d.rule);
  return pick;
}

const Choice *Selector::expected(const Decision &d, std::int64_t elements) const {
  if (const Choice *chosen = d.chosen.load(std::memory_order_acquire)) return chosen;
  if (options_.policy == Policy::thresholds)
    for (const Preference &p : options_.preferences)
      for (const auto &c : d.choices)
        if (elements >= p.min_size && c->usable() && matches_backend(*c->candidate, p.backend))
          return c.get();
  const Choice *best = nullptr;
  const bool measured = std::ranges::any_of(d.choices, [](const auto &c) { return c->measured(); });
  for (const auto &c : d.choices)
    if (open_to(d, *c) &&
        (best == nullptr || (measured && c->measured() && c->expected_ns() < best->expected_ns())))
      best = c.get();
  if (best != nullptr) return best;
  for (const auto &c : d.choices)
    if (c->usable()) return c.get();
  return nullptr;
}

Choice *Selector::next(Decision &d, std::int64_t elements) {
  Choice *pick = nullptr;
  switch (options_.policy) {
    case Policy::thresholds:
      return by_preference(d, elements);
    case Policy::frozen:
      return frozen(d, elements);
    case Policy::fixed:
      for (const auto &c : d.choices)
        if (pick == nullptr && c->usable()) pick = c.get();
      if (pick != nullptr) decide(d, *pick, "fixed: the best prior answers, nothing is timed");
      return pick;
    case Policy::adaptive:
    case Policy::benchmark:
      break;
  }
  if (Choice *again = std::exchange(d.filled, nullptr);
      again != nullptr && again->usable() && again->pruned.empty())
    return again;
  if (d.challenger != nullptr && d.incumbent != nullptr)
    return d.challenger->samples.count() <= d.incumbent->samples.count() ? d.challenger
                                                                         : d.incumbent;
  settle(d);
  if (Choice *chosen = d.chosen.load(std::memory_order_acquire)) return chosen;
  pick = least_sampled(d);
  if (pick != nullptr && d.incumbent == nullptr) {
    d.incumbent = pick;
    d.numerics_class = pick->candidate->kernel->numerics_class;
  }
  return pick;
}

}  // namespace switchyard
