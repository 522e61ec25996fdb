// SPDX-License-Identifier: Apache-2.0
#include "dispatcher/dispatcher.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/status_codes.hpp"
#include "host/host.hpp"
#include "host/thread_pool.hpp"

namespace switchyard {
namespace {

constexpr std::uint32_t kPatienceMs =
    60'000;  // for verdicts without which a call cannot be answered

/// Errors that another backend would report just the same.
bool callers_fault(std::int32_t status) {
  switch (status) {
    case SY_E_INVALID_ARGUMENT:
    case SY_E_SHAPE:
    case SY_E_DTYPE:
    case SY_E_NONFINITE:
    case SY_E_OVERFLOW:
    case SY_E_CANCELLED:
      return true;
    default:
      return false;
  }
}

std::int64_t elements_of(const sy_call &call) {
  std::int64_t most = 0;
  for (std::uint32_t i = 0; i < call.n_inputs; ++i)
    if (call.inputs[i] != nullptr) most = std::max(most, TensorView(*call.inputs[i]).elements());
  return most;
}

/// Numbers dispatchers, so that a thread's memory of one that is gone matches no other.
std::uint64_t next_id() noexcept {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

/// Whether all data starts on a cache line: one class for the call, lest every mix of a caller's
/// allocations were learned anew.
bool aligned(const sy_call &call) noexcept {
  std::uintptr_t bits = 0;
  const auto add = [&bits](const sy_tensor *t) {
    if (t != nullptr) bits |= reinterpret_cast<std::uintptr_t>(t->handle) + t->byte_offset;
  };
  for (std::uint32_t i = 0; i < call.n_inputs; ++i) add(call.inputs[i]);
  for (std::uint32_t i = 0; i < call.n_outputs; ++i) add(call.outputs[i]);
  return bits % 64 == 0;
}

void fill(Answer *answer, const Candidate &candidate, std::string_view verified, std::uint64_t ns) {
  if (answer == nullptr) return;
  answer->backend = candidate.backend;
  answer->kernel = candidate.name;
  answer->verified = verified;
  answer->fallback_reason.clear();
  answer->ns = ns;
}

}  // namespace

Dispatcher::Dispatcher(const Options &options, const Registry &registry, VerdictBook &verdicts,
                       std::uint32_t threads)
    : options_(options),
      registry_(registry),
      verdicts_(verdicts),
      threads_(threads),
      id_(next_id()),
      selector_(options) {}

Key Dispatcher::key_of(OpIndex op, const sy_call &call) const noexcept {
  Key key;
  KeyBuilder builder(key);
  builder.add(op + 1, 6).add(std::min(call.threads, 255u), 8).add(aligned(call), 1);
  all_ops()[op]->key(call, builder);
  return key;
}

std::unique_ptr<Decision> Dispatcher::make_decision(OpIndex op, const sy_call &call,
                                                    const Key &key) {
  const OpSpec &spec = *all_ops()[op];
  auto d = std::make_unique<Decision>();
  d->key = key;
  d->op = op;
  d->threads = call.threads;
  const Shape shape = spec.describe(call);
  d->shape = shape.text();
  const std::string pin = pinned_backend(options_, spec.id());
  for (const Candidate *candidate : registry_.candidates(op)) {
    auto choice = std::make_unique<Choice>();
    choice->candidate = candidate;
    sy_error reason = make_abi_error();
    if (!pin.empty() && !matches_backend(*candidate, pin)) {
      choice->refusal = fmt::format("the call is pinned to {}", pin);
    } else if (!candidate->supports(call, &reason)) {
      choice->refusal = from_abi(reason, SY_E_UNSUPPORTED, "").message;
    } else {
      choice->prior_ns = candidate->estimate(call);
    }
    d->choices.push_back(std::move(choice));
  }
  const std::int64_t elements = elements_of(call);
  const auto preference = [&](const Candidate &candidate) {
    std::size_t i = 0;
    for (; i < options_.preferences.size(); ++i)
      if (elements >= options_.preferences[i].min_size &&
          matches_backend(candidate, options_.preferences[i].backend))
        break;
    return i;
  };
  // The user's preferences outrank the authors' estimates: whatever is tried first, they decide it.
  const auto rank = [&](const std::unique_ptr<Choice> &c) {
    const bool refused = !c->refusal.empty();
    const std::uint64_t prior = c->prior_ns == 0 ? UINT64_MAX : c->prior_ns;
    return std::tuple(refused, c->candidate->reference, preference(*c->candidate), prior);
  };
  std::stable_sort(d->choices.begin(), d->choices.end(),
                   [&](const auto &a, const auto &b) { return rank(a) < rank(b); });
  std::vector<const Candidate *> ordered;
  for (const auto &c : d->choices)
    if (c->refusal.empty()) ordered.push_back(c->candidate);
  const auto cells = verdicts_.cells(ordered, shape);
  for (std::size_t i = 0; i < cells.size(); ++i) d->choices[i]->verdict = cells[i];
  return d;
}

Decision &Dispatcher::decision(OpIndex op, const sy_call &call) {
  const Key key = key_of(op, call);
  if (Decision *known = table_.find(key, key.hash())) return *known;
  return *table_.insert(make_decision(op, call, key));
}

const Decision *Dispatcher::remembered(OpIndex op, std::string_view shape) const {
  const Decision *found = nullptr;
  for (const Decision *d : table_.all())
    if (d->op == op && d->shape == shape &&
        (found == nullptr ||
         d->calls.load(std::memory_order_relaxed) >= found->calls.load(std::memory_order_relaxed)))
      found = d;
  return found;
}

std::int32_t Dispatcher::look_up(OpIndex op, sy_call &call, KnownCall &known, sy_error *error) {
  thread_local CallMemo memo;
  if (call.threads == 0 || call.threads > threads_) call.threads = threads_;
  const bool fits = RememberedCall::fits(call);
  RememberedCall *remembered = fits ? memo.find(id_, op, call) : nullptr;
  if (remembered == nullptr) {
    if (const auto valid = all_ops()[op]->validate(call); !valid) {
      to_abi(valid.error(), error);
      return to_status(valid.error().code);
    }
    known.decision = &decision(op, call);
    known.work = all_ops()[op]->work(call);
    if (fits) {
      remembered = &memo.oldest();
      remembered->assign(id_, op, call, known);
    }
  } else {
    known = remembered->known;
  }
  // Within a class of sizes a kernel may still refuse: it is asked about each new description.
  Choice *chosen = known.decision->chosen.load(std::memory_order_acquire);
  if (chosen != known.choice) {
    known.choice =
        chosen != nullptr && chosen->candidate->supports(call, nullptr) ? chosen : nullptr;
    known.workspace = known.choice != nullptr ? chosen->candidate->workspace_size(call) : 0;
    if (remembered != nullptr) remembered->known = known;
  }
  return SY_OK;
}

std::int32_t Dispatcher::route(OpIndex op, sy_call &call, KernelStates *states, sy_error *error,
                               Answer *answer) noexcept {
  // One call in 64 is timed as a whole, for the metrics.
  thread_local std::uint32_t tick = 0;
  const bool sampled = (++tick & 63) == 0;
  const std::uint64_t start = sampled ? now_ns() : 0;
  try {
    KnownCall known;
    if (const auto status = look_up(op, call, known, error); status != SY_OK) return status;
    if (known.choice != nullptr) {
      std::uint64_t kernel_ns = 0;
      const auto status = execute(known, *known.choice, call, states, error, answer,
                                  sampled ? &kernel_ns : nullptr);
      if (sampled) {
        overhead_ns_.fetch_add(now_ns() - start - kernel_ns, std::memory_order_relaxed);
        overhead_count_.fetch_add(1, std::memory_order_relaxed);
      }
      if (status == SY_OK || callers_fault(status)) return status;
    }
    return explore(known, call, states, error, answer);
  } catch (const std::bad_alloc &) {
    to_abi(
        Error{ErrorCode::out_of_memory, "out of memory while choosing a kernel", {}, 0, 0, -1, {}},
        error);
    return SY_E_OUT_OF_MEMORY;
  } catch (const std::exception &e) {
    to_abi(Error{ErrorCode::internal, e.what(), {}, 0, 0, -1, {}}, error);
    return SY_E_INTERNAL;
  }
}

std::int32_t Dispatcher::execute(const KnownCall &known, Choice &choice, sy_call &call,
                                 KernelStates *states, sy_error *error, Answer *answer,
                                 std::uint64_t *ns) noexcept {
  Decision &d = *known.decision;
  const Candidate &candidate = *choice.candidate;
  const std::uint64_t workspace =
      &choice == known.choice ? known.workspace : candidate.workspace_size(call);
  const std::uint64_t n = d.calls.fetch_add(1, std::memory_order_relaxed);
  const bool timed = ns != nullptr || (n & d.timing_mask.load(std::memory_order_relaxed)) == 0;
  call.state = states != nullptr ? states->get(candidate, call) : nullptr;
  const std::uint64_t start = timed ? now_ns() : 0;
  const std::int32_t status = invoke(candidate, call, workspace, error);
  const std::uint64_t took = timed ? std::max<std::uint64_t>(now_ns() - start, 1) : 0;
  if (ns != nullptr) *ns = took;
  if (status == SY_OK) {
    KernelStats &stats = candidate.stats;
    stats.count.fetch_add(1, std::memory_order_relaxed);
    if (timed) stats.timed(took, known.work.bytes, known.work.flops);
    stats.bytes.fetch_add(static_cast<std::uint64_t>(known.work.bytes), std::memory_order_relaxed);
    stats.flops.fetch_add(static_cast<std::uint64_t>(known.work.flops), std::memory_order_relaxed);
    fill(answer, candidate, choice.verdict->word(), took);
  } else if (!callers_fault(status)) {
    candidate.stats.fallbacks.fetch_add(1, std::memory_order_relaxed);
    const std::lock_guard lock(d.mutex);
    selector_.exclude(d, choice,
                      from_abi(error != nullptr ? *error : make_abi_error(), status, "").message);
  }
  return status;
}

Choice *Dispatcher::pick(Decision &d, const sy_call &call, std::string &reason) {
  const bool needs_all =
      options_.policy == Policy::benchmark || options_.policy == Policy::thresholds;
  const bool must_wait = needs_all || !pinned_backend(options_, all_ops()[d.op]->id()).empty();
  // Only the first call waits, for the best prior; when that fails, for the next one. It waits
  // longer where the reference, which would answer instead, is expected to take longer still.
  std::uint64_t patience_ms = options_.gate_timeout_ms;
  for (const auto &c : d.choices)
    if (c->candidate->reference) patience_ms = std::max(patience_ms, c->prior_ns / 1'000'000);
  const auto patience =
      must_wait ? kPatienceMs
      : d.waited.exchange(true)
          ? 0
          : static_cast<std::uint32_t>(std::min<std::uint64_t>(patience_ms, kPatienceMs));
  for (const auto &c : d.choices) {
    if (!c->supported() || c->failed.load(std::memory_order_relaxed)) continue;
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
    const std::int32_t status = execute(known, *choice, call, states, error, answer, &ns);
    if (status == SY_OK) {
      const std::lock_guard lock(d.mutex);
      const bool was_settled = selector_.settled(d);
      if (!was_settled) selector_.record(d, *choice, ns);
      const bool last =
          !bench || (was_settled && choice == d.chosen.load(std::memory_order_acquire));
      // In benchmark mode the caller's outputs come from the winner.
      const bool is_winner = bench && !was_settled && selector_.settled(d) &&
                             choice == d.chosen.load(std::memory_order_acquire);
      if (last || is_winner) {
        if (answer != nullptr) answer->fallback_reason = fallback;
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
    if (options_.strict || !pinned_backend(options_, all_ops()[d.op]->id()).empty()) return status;
  }
  return answer_by_reference(d, call, error, answer, fallback);
}

std::int32_t Dispatcher::answer_by_reference(Decision &d, sy_call &call, sy_error *error,
                                             Answer *answer, const std::string &reason) {
  const OpSpec &spec = *all_ops()[d.op];
  const std::string pin = pinned_backend(options_, spec.id());
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
                               !refusals.empty() ? refusals
                               : !reason.empty() ? reason
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

double Dispatcher::overhead_ns() const noexcept {
  const std::uint64_t count = overhead_count_.load(std::memory_order_relaxed);
  return count == 0 ? 0
                    : static_cast<double>(overhead_ns_.load(std::memory_order_relaxed)) /
                          static_cast<double>(count);
}

void Dispatcher::count_fallback(const std::string &reason) {
  const std::lock_guard lock(fallback_mutex_);
  if (fallback_reasons_.size() < 256 || fallback_reasons_.contains(reason))
    ++fallback_reasons_[reason];
}

std::map<std::string, std::uint64_t> Dispatcher::fallback_reasons() const {
  const std::lock_guard lock(fallback_mutex_);
  return fallback_reasons_;
}

std::unique_ptr<Runner::States> Dispatcher::make_states(std::uint64_t constant_inputs) {
  return std::make_unique<KernelStates>(constant_inputs, registry_.all().size());
}

Status Dispatcher::run(std::string_view op, sy_call &call, States *states, Answer *answer) {
  const auto index = find_op(op);
  if (!index) return tl::unexpected(index.error());
  sy_error error = make_abi_error();
  const auto status = route(*index, call, static_cast<KernelStates *>(states), &error, answer);
  if (status == SY_OK) return {};
  return tl::unexpected(from_abi(error, status, ""));
}

void Dispatcher::parallel_for(std::uint64_t n, const std::function<void(std::uint64_t)> &fn) {
  ThreadPool::process().run(
      n,
      [](void *arg, std::uint64_t i) {
        (*static_cast<const std::function<void(std::uint64_t)> *>(arg))(i);
      },
      const_cast<std::function<void(std::uint64_t)> *>(&fn), threads_);
}

}  // namespace switchyard
