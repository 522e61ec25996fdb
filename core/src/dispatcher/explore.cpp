// SPDX-License-Identifier: Apache-2.0
// Calls of classes that are not decided: who is tried, who answers when none can.
#include <fmt/format.h>

#include <algorithm>

#include "base/status_codes.hpp"
#include "dispatcher/answers.hpp"
#include "dispatcher/dispatcher.hpp"
#include "host/host.hpp"
#include "measure/interleave.hpp"

namespace switchyard {
namespace {

constexpr std::uint32_t kPatienceMs =
    60'000;  // for verdicts without which a call cannot be answered
constexpr double kGeneratedSeconds = 0.002;
// Of a class, while gates run: both must be spent before disturbed timings count.
constexpr std::uint64_t kPatientCalls = 16, kPatientNs = 250'000'000;

}  // namespace

Choice *Dispatcher::pick(Decision &d, const sy_call &call, std::string &reason) {
  const bool needs_all =
      options_.policy == Policy::benchmark || options_.policy == Policy::thresholds;
  const bool must_wait = needs_all || options_.policy == Policy::frozen || !pin_of(d.op).empty();
  // Only the first call waits, for the best prior; when that fails, for the next one. It waits
  // longer where the reference, which would answer instead, is expected to take longer still.
  std::uint64_t patience_ms = options_.gate_timeout_ms;
  for (const auto &c : d.choices)
    if (c->candidate->reference) patience_ms = std::max(patience_ms, c->prior_ns / 1'000'000);
  if (options_.policy == Policy::benchmark) verdicts_.wait_idle(kPatienceMs);
  const auto patience =
      must_wait ? kPatienceMs
      : d.waited.exchange(true)
          ? 0
          : static_cast<std::uint32_t>(std::min<std::uint64_t>(patience_ms, kPatienceMs));
  for (const auto &c : d.choices) {
    if (!c->supported() || c->failed.load(std::memory_order_relaxed) ||
        c->late.load(std::memory_order_relaxed))
      continue;
    const bool in_time = verdicts_.wait(*c->verdict, patience);
    if (!in_time) {
      reason = fmt::format("{} is still being verified", c->candidate->name);
      if (must_wait) continue;
      break;
    }
    if (needs_all) continue;
    if (c->verdict->passed()) break;
  }
  const std::lock_guard lock(d.mutex);
  if (Choice *chosen = d.chosen.load(std::memory_order_acquire);
      chosen != nullptr && chosen->usable() && chosen->candidate->supports(call, nullptr))
    return chosen;
  Choice *next = selector_.next(d, elements_of(call));
  if (next != nullptr && next->candidate->supports(call, nullptr)) return next;
  if (options_.policy == Policy::frozen && options_.strict) {
    reason = d.rule;
    return nullptr;
  }
  for (const auto &c : d.choices)
    if (c->usable() && c->candidate->supports(call, nullptr)) return c.get();
  return nullptr;
}

std::int32_t Dispatcher::explore(const KnownCall &known, sy_call &call, KernelStates *states,
                                 sy_error *error, Answer *answer) {
  Decision &d = *known.decision;
  sy_error own = make_abi_error();
  if (error == nullptr) error = &own;
  const bool bench = options_.policy == Policy::benchmark;
  std::string fallback;
  // Every pass runs one candidate; a failing one is excluded, so the loop ends.
  for (int runs = 0; runs < 1000; ++runs) {
    std::string reason;
    Choice *choice = pick(d, call, reason);
    if (choice == nullptr) {
      if (reason.empty() && !fallback.empty()) reason = fallback;
      return answer_by_reference(d, call, error, answer, reason);
    }
    std::uint64_t ns = 0;
    const bool alone = verdicts_.idle();
    const std::int32_t status = execute(known, *choice, call, states, error, answer, &ns);
    if (status == SY_OK) {
      selector_.spent(ns);
      d.total_ns.fetch_add(ns, std::memory_order_relaxed);
      // Gates in the background take cores from kernels that want several: such timings mislead,
      // but a disturbed choice is better than none for long.
      if (!bench && !(alone && verdicts_.idle()) &&
          (d.calls.load(std::memory_order_relaxed) < kPatientCalls ||
           d.total_ns.load(std::memory_order_relaxed) < kPatientNs))
        return SY_OK;
      if (static_cast<double>(ns) < kTooShortNs && options_.policy == Policy::adaptive &&
          measure_generated(d))
        return SY_OK;
      const std::lock_guard lock(d.mutex);
      const bool was_settled = selector_.settled(d);
      if (!was_settled)
        selector_.record(d, *choice, ns, states != nullptr && states->is_first(*choice->candidate));
      const bool last =
          !bench || (was_settled && choice == d.chosen.load(std::memory_order_acquire));
      // In benchmark mode the caller's outputs come from the winner.
      const bool is_winner = bench && !was_settled && selector_.settled(d) &&
                             choice == d.chosen.load(std::memory_order_acquire);
      if (last || is_winner) {
        if (answer != nullptr && !fallback.empty()) answer->fallback_reason = fallback;
        return SY_OK;
      }
      continue;
    }
    if (callers_fault(status)) return status;
    {
      const std::lock_guard lock(d.mutex);
      fallback = fmt::format("{} failed: {}", choice->candidate->name, choice->failure);
    }
    count_fallback(fallback);
    if (options_.strict || !pin_of(d.op).empty()) return status;
  }
  return answer_by_reference(d, call, error, answer, fallback);
}

bool Dispatcher::measure_generated(Decision &d) {
  std::vector<Choice *> contenders;
  {
    const std::lock_guard lock(d.mutex);
    if (selector_.settled(d) || d.challenger != nullptr) return false;
    contenders = selector_.contenders(d);
    if (contenders.size() < 2 || std::exchange(d.generated, true)) return false;
  }
  const auto problem = all_ops()[d.op]->make_problem(d.described, kGateSeed);
  if (!problem) return false;
  std::vector<std::unique_ptr<Lane>> lanes;
  for (const Choice *c : contenders) {
    auto lane = Lane::make(*c->candidate, *problem, d.threads);
    if (!lane) return false;
    lanes.push_back(std::move(*lane));
  }
  if (!interleave(lanes, {.seconds = kGeneratedSeconds})) return false;
  const std::lock_guard lock(d.mutex);
  if (selector_.settled(d)) return true;
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    contenders[i]->samples.clear();
    for (const double ns : lanes[i]->times())
      contenders[i]->samples.add(static_cast<std::uint64_t>(ns));
  }
  selector_.settle_measured(d, "measured on generated problems");
  return true;
}

std::int32_t Dispatcher::answer_by_reference(Decision &d, sy_call &call, sy_error *error,
                                             Answer *answer, const std::string &reason) {
  const OpSpec &spec = *all_ops()[d.op];
  const std::string &pin = pin_of(d.op);
  const auto give_up = [&](ErrorCode code, std::string message) {
    to_abi(Error{code, std::move(message), {}, 0, 0, -1, {}}, error);
    return to_status(code);
  };
  const Candidate *reference = registry_.reference().find(d.op, call);
  if (!pin.empty() || options_.strict || reference == nullptr) {
    std::string refusals;
    bool failed_gate = false;
    for (const auto &c : d.choices) {
      std::string why = c->refusal;
      if (c->supported() && c->verdict->get() == Verdict::failed) {
        why = "failed verification: " + c->verdict->reason;
        failed_gate = true;
      }
      if (!pin.empty() && !matches_backend(*c->candidate, pin)) continue;
      if (!why.empty() && refusals.size() < 160)
        refusals += fmt::format("{}{}: {}", refusals.empty() ? "" : "; ", c->candidate->name, why);
    }
    if (failed_gate) return give_up(ErrorCode::verification, refusals);
    if (pin.empty() && !options_.strict)
      return give_up(ErrorCode::unsupported,
                     fmt::format("no backend supports {} ({}): {}", spec.id(), d.shape, refusals));
    return give_up(ErrorCode::backend,
                   fmt::format("{} cannot run {} ({}): {}",
                               pin.empty() ? "the chosen backend" : pin, spec.id(), d.shape,
                               !reason.empty()     ? reason
                               : !refusals.empty() ? refusals
                                                   : "it offers no such kernel"));
  }
  const std::uint64_t start = now_ns();
  call.state = nullptr;
  const std::int32_t status = invoke(*reference, call, error);
  if (status != SY_OK) return status;
  const std::uint64_t took = now_ns() - start;
  reference->stats.count.fetch_add(1, std::memory_order_relaxed);
  const Work work = spec.work(call);
  reference->stats.timed(took, work.bytes, work.flops);
  fill(answer, *reference, "no", took);
  const std::string why = reason.empty() ? "no candidate passed verification" : reason;
  if (answer != nullptr) answer->fallback_reason = why;
  count_fallback(why);
  return SY_OK;
}

}  // namespace switchyard
