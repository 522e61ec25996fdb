// SPDX-License-Identifier: Apache-2.0
/// Decision records: every candidate, its refusal or its timing, and the rule that decided.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/duration.hpp"
#include "base/status_codes.hpp"
#include "facade/engine_impl.hpp"

namespace switchyard {
namespace {

constexpr int kMostMeasuredCalls = 400;
constexpr std::uint32_t kVerdictWaitMs = 30'000;

std::string verdict_text(const Choice &c) {
  if (!c.supported()) return "no";
  switch (c.verdict->get()) {
    case Verdict::gate:
      return "gate";
    case Verdict::cached:
      return "cached";
    case Verdict::failed:
      return "failed: " + c.verdict->reason;
    case Verdict::pending:
      break;
  }
  return "no";
}

Explanation::Candidate describe(const Choice &c, const Choice *chosen) {
  Explanation::Candidate out;
  out.kernel = c.candidate->name;
  out.backend = c.candidate->backend;
  out.supported = c.supported();
  out.verified = verdict_text(c);
  out.estimate_ns = static_cast<double>(c.prior_ns);
  out.predicted_ns = c.stored ? c.stored->ns : c.predicted.ns;
  out.samples = c.samples.count();
  out.median_ns = c.samples.median();
  const auto interval = c.samples.interval();
  out.low_ns = interval.low;
  out.high_ns = interval.high;
  if (!c.refusal.empty())
    out.reason = c.refusal;
  else if (!c.failure.empty())
    out.reason = "failed: " + c.failure;
  else if (c.supported() && c.verdict->get() == Verdict::failed)
    out.reason = "failed verification";
  else if (c.pending() && c.pruned.empty())
    out.reason = "not verified yet";
  else if (!c.pruned.empty())
    out.reason = c.pruned;
  else if (&c != chosen && chosen != nullptr && c.samples.count() > 0 &&
           chosen->samples.count() > 0)
    out.reason = fmt::format("{:.2f} times the chosen one's median",
                             c.samples.median() / chosen->samples.median());
  return out;
}

std::string_view policy_name(Policy p) {
  switch (p) {
    case Policy::adaptive:
      return "adaptive";
    case Policy::benchmark:
      return "benchmark";
    case Policy::thresholds:
      return "thresholds";
    case Policy::fixed:
      return "fixed";
    case Policy::frozen:
      return "frozen";
  }
  return "adaptive";
}

/// What was known before this process measured anything, and why no more.
std::string store_text(const Decision &d, TimingStore &timings) {
  int stored = 0, predicted = 0, supported = 0;
  std::string why;
  for (const auto &c : d.choices) {
    if (!c->supported()) continue;
    ++supported;
    stored += c->stored.has_value();
    predicted += c->predicted.points > 0;
    if (!c->stored && why.empty()) why = timings.why_missing(*c->candidate, d.threads, d.described);
  }
  std::string text =
      stored == supported && stored > 0 ? "hit: timings of this shape for every candidate"
      : stored + predicted > 0          ? fmt::format(
                                              "hit in part: of {} candidates {} were timed on this shape, "
                                                       "{} are predicted from others; {}",
                                              supported, stored, predicted, why)
                               : "miss: " + why;
  if (const std::string trouble = timings.trouble(); !trouble.empty()) text += "; " + trouble;
  return text;
}

/// Under the decision's lock. `elements`: of the call at hand, for thresholds; 0 = any.
Explanation record_of(const auto &engine, const Decision &d, std::int64_t elements) {
  Explanation e;
  e.op = all_ops()[d.op]->id();
  e.shape = d.shape;
  e.calls = d.calls.load(std::memory_order_relaxed);
  const std::string pin = engine.requested(e.op);
  e.policy = pin.empty() ? std::string(policy_name(engine.options.policy)) : "fixed";
  const Choice *chosen = engine.dispatcher->selector().expected(d, elements);
  if (chosen != nullptr) {
    e.chosen = chosen->candidate->name;
    e.rule = !d.rule.empty() ? d.rule
             : chosen->measured()
                 ? "not measured in this process: stored timings of like shapes say so, but not "
                   "clearly enough to do without trying"
                 : "not measured yet: of the verified candidates the best prior answers first";
    if (!pin.empty()) e.rule = "pinned to " + pin + "; " + e.rule;
  } else {
    e.rule = pin.empty() ? "no candidate is usable; the reference answers"
                         : "pinned to " + pin + ", which cannot answer";
  }
  e.store = store_text(d, *engine.timings);
  e.reproducer = fmt::format("switchyard bench {} {} --threads {}", e.op, e.shape, d.threads);
  for (const auto &c : d.choices) e.candidates.push_back(describe(*c, chosen));
  return e;
}

}  // namespace

Result<Explanation> Engine::explain(std::string_view op, std::string_view shape_text,
                                    bool measure) {
  const auto index = find_op(op);
  if (!index) return tl::unexpected(index.error());
  const OpSpec &spec = *all_ops()[*index];
  const auto shape = Shape::parse(shape_text);
  if (!shape) return tl::unexpected(shape.error());
  const auto problem = spec.make_problem(*shape, kGateSeed);
  if (!problem) return tl::unexpected(problem.error());
  auto outputs = ProblemOutputs::make(*problem);
  if (!outputs) return tl::unexpected(outputs.error());
  CallFrame frame(static_cast<std::uint32_t>(problem->inputs.size()),
                  static_cast<std::uint32_t>(problem->outputs.size()));
  switchyard::bind(*problem, *outputs, frame);
  frame.call().threads = impl_->threads;
  if (const auto valid = spec.validate(frame.call()); !valid) return tl::unexpected(valid.error());

  Dispatcher &dispatcher = *impl_->dispatcher;
  auto *d = const_cast<Decision *>(dispatcher.remembered(*index, spec.describe(frame.call())));
  if (d == nullptr) d = &dispatcher.decision(*index, frame.call());
  if (measure && !dispatcher.selector().settled(*d)) dispatcher.ask_late(*d, true);
  for (const auto &c : d->choices)
    if (c->supported() && !c->late.load(std::memory_order_relaxed))
      impl_->verdicts->wait(*c->verdict, kVerdictWaitMs);
  if (measure)
    for (int i = 0; i < kMostMeasuredCalls && d->chosen.load(std::memory_order_acquire) == nullptr;
         ++i) {
      sy_error error = make_abi_error();
      if (const auto status = dispatcher.route(*index, frame.call(), nullptr, &error, nullptr);
          status != SY_OK)
        return tl::unexpected(from_abi(error, status, ""));
    }

  const std::lock_guard lock(d->mutex);
  dispatcher.selector().settle(*d);
  return record_of(*impl_, *d, TensorView(*frame.call().inputs[0]).elements());
}

std::vector<Explanation> Engine::decisions() const {
  std::vector<Explanation> out;
  for (const Decision *d : impl_->dispatcher->decisions()) {
    const std::lock_guard lock(const_cast<Decision *>(d)->mutex);
    if (d->calls.load(std::memory_order_relaxed) == 0) continue;
    out.push_back(record_of(*impl_, *d, 0));
    std::erase_if(out.back().candidates, [](const auto &c) { return !c.supported; });
  }
  std::ranges::stable_sort(out, std::greater<>(), &Explanation::calls);
  return out;
}

std::string Explanation::text() const {
  std::string out = chosen.empty() ? fmt::format("{} ({}): no backend was chosen\n", op, shape)
                                   : fmt::format("{} ({}): {}\n", op, shape, chosen);
  out += fmt::format("  because  {}\n  policy   {}\n  store    {}\n", rule, policy, store);
  std::map<std::string, std::vector<std::string>> refused;  // by reason
  for (const Candidate &c : candidates) {
    std::string line = fmt::format("  {} {:<44}", c.kernel == chosen ? "*" : " ", c.kernel);
    if (!c.supported) {
      refused[c.reason].push_back(c.kernel);
      continue;
    }
    if (c.samples > 0)
      line += fmt::format(" {:>9} ({} to {}, {} timings)", duration_text(c.median_ns),
                          duration_text(c.low_ns), duration_text(c.high_ns), c.samples);
    else if (c.predicted_ns > 0)
      line += fmt::format(" {:>9} by stored timings", duration_text(c.predicted_ns));
    else if (c.estimate_ns > 0)
      line += fmt::format(" about {} by its author's estimate", duration_text(c.estimate_ns));
    else
      line += " not timed";
    line += "; verified: " + c.verified;
    if (!c.reason.empty()) line += "; " + c.reason;
    out += line + "\n";
  }
  for (const auto &[reason, kernels] : refused)
    out += fmt::format("    {}{} refused: {}\n", kernels.front(),
                       kernels.size() > 1 ? fmt::format(" and {} more", kernels.size() - 1) : "",
                       reason);
  return out + "  again    " + reproducer + "\n";
}

std::string Explanation::json() const {
  nlohmann::ordered_json doc{{"op", op},
                             {"shape", shape},
                             {"policy", policy},
                             {"calls", calls},
                             {"chosen", chosen},
                             {"rule", rule},
                             {"store", store},
                             {"reproducer", reproducer},
                             {"candidates", nlohmann::ordered_json::array()}};
  for (const Candidate &c : candidates)
    doc["candidates"].push_back({{"kernel", c.kernel},
                                 {"backend", c.backend},
                                 {"supported", c.supported},
                                 {"reason", c.reason},
                                 {"verified", c.verified},
                                 {"estimate_ns", c.estimate_ns},
                                 {"predicted_ns", c.predicted_ns},
                                 {"median_ns", c.median_ns},
                                 {"low_ns", c.low_ns},
                                 {"high_ns", c.high_ns},
                                 {"samples", c.samples}});
  return doc.dump(2);
}

}  // namespace switchyard
