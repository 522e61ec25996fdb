// SPDX-License-Identifier: Apache-2.0
#include "dispatcher/dispatcher.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/progress_scope.hpp"
#include "base/status_codes.hpp"
#include "dispatcher/answers.hpp"
#include "host/host.hpp"
#include "host/thread_pool.hpp"

namespace switchyard {
namespace {

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

}  // namespace

Dispatcher::Dispatcher(const Options &options, const Registry &registry, VerdictBook &verdicts,
                       TimingStore &timings, const LockFile *lock, std::uint32_t threads)
    : options_(options),
      registry_(registry),
      verdicts_(verdicts),
      threads_(threads),
      id_(next_id()),
      timings_(timings),
      selector_(options, timings, lock) {
  for (OpIndex op = 0; op < all_ops().size(); ++op) {
    const OpSpec &spec = *all_ops()[op];
    const auto offered = [&](const std::string &backend) {
      return std::ranges::any_of(registry.candidates(op),
                                 [&](const Candidate *c) { return matches_backend(*c, backend); });
    };
    std::string pin = pinned_backend(options, spec.id());
    if (spec.helper() && !options.pin.contains(std::string(spec.id())) && !offered(pin))
      pin.clear();
    pins_.push_back(std::move(pin));
  }
}

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
  d->described = spec.describe(call);
  d->shape = d->described.text();
  d->work = spec.work(call);
  const std::string &pin = pin_of(op);
  for (const Candidate *candidate : registry_.candidates(op)) {
    auto choice = std::make_unique<Choice>();
    choice->candidate = candidate;
    sy_error reason = make_abi_error();
    if (!pin.empty() && !matches_backend(*candidate, pin)) {
      choice->refusal = fmt::format("the call is pinned to {}", pin);
    } else if (std::string gone = lost(*candidate); !gone.empty()) {
      choice->refusal = std::move(gone);
    } else if (!candidate->supports(call, &reason)) {
      choice->refusal = from_abi(reason, SY_E_UNSUPPORTED, "").message;
    } else {
      choice->prior_ns = candidate->estimate(call);
    }
    d->choices.push_back(std::move(choice));
  }
  if (const Candidate *reference = registry_.reference().find(op, call);
      reference != nullptr && !spec.checks_parts())
    d->shadow.expect(reference->estimate(call));
  selector_.prepare(*d, elements_of(call));
  std::vector<const Candidate *> ordered;
  for (const auto &c : d->choices)
    if (c->refusal.empty()) ordered.push_back(c->candidate);
  const auto now = std::ranges::count_if(d->choices, [](const auto &c) {
    return c->refusal.empty() && !c->late.load(std::memory_order_relaxed);
  });
  const auto cells = verdicts_.cells(ordered, d->described, static_cast<std::size_t>(now));
  for (std::size_t i = 0; i < cells.size(); ++i) d->choices[i]->verdict = cells[i];
  return d;
}

void Dispatcher::ask_late(Decision &d, bool all) {
  std::vector<const Candidate *> ripe;
  {
    const std::lock_guard lock(d.mutex);
    ripe = selector_.ripe(d, all);
  }
  (void)verdicts_.cells(ripe, d.described);
}

Decision &Dispatcher::decision(OpIndex op, const sy_call &call) {
  const Key key = key_of(op, call);
  if (Decision *known = table_.find(key, key.hash())) return *known;
  return *table_.insert(make_decision(op, call, key));
}

const Decision *Dispatcher::remembered(OpIndex op, const Shape &shape) const {
  // Whoever asks about a shape seldom knows how the arrays of his calls were aligned.
  const std::string text = shape.text();
  const std::string unaligned = Shape(shape).set("layout", std::string("unaligned")).text();
  const Decision *found = nullptr;
  for (const Decision *d : table_.all())
    if (d->op == op &&
        (d->shape == text || (shape.find("layout") == nullptr && d->shape == unaligned)) &&
        (found == nullptr ||
         d->calls.load(std::memory_order_relaxed) >= found->calls.load(std::memory_order_relaxed)))
      found = d;
  return found;
}

std::int32_t Dispatcher::look_up(OpIndex op, sy_call &call, KnownCall &known, sy_error *error) {
  thread_local CallMemo memo;
  if (call.threads == 0 || call.threads > threads_) call.threads = threads_;
  KnownCall *kept = memo.find(id_, op, call);
  if (kept != nullptr) {
    known = *kept;
  } else {
    if (const auto valid = all_ops()[op]->validate(call); !valid) {
      to_abi(valid.error(), error);
      return to_status(valid.error().code);
    }
    known.decision = &decision(op, call);
    known.work = all_ops()[op]->work(call);
    kept = memo.keep(id_, op, call, known);
  }
  // Within a class of sizes a kernel may still refuse: it is asked about each new description.
  Choice *chosen = known.decision->chosen.load(std::memory_order_acquire);
  if (chosen != known.choice) {
    known.choice =
        chosen != nullptr && chosen->candidate->supports(call, nullptr) ? chosen : nullptr;
    known.workspace = known.choice != nullptr ? chosen->candidate->workspace_size(call) : 0;
    if (kept != nullptr) *kept = known;
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
    to_abi(Error{ErrorCode::out_of_memory, "out of memory", {}, 0, 0, -1, {}}, error);
    return SY_E_OUT_OF_MEMORY;
  } catch (const std::exception &e) {
    to_abi(Error{ErrorCode::internal, e.what(), {}, 0, 0, -1, {}}, error);
    return SY_E_INTERNAL;
  }
}

std::int32_t Dispatcher::execute(const KnownCall &known, Choice &choice, sy_call &call,
                                 KernelStates *states, sy_error *error, Answer *answer,
                                 std::uint64_t *ns) {
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
    if (timed) {
      stats.timed(took, known.work.bytes, known.work.flops);
      if (&choice == known.choice)
        observe(d, took, d.timing_mask.load(std::memory_order_relaxed) + 1);
    }
    stats.bytes.fetch_add(static_cast<std::uint64_t>(known.work.bytes), std::memory_order_relaxed);
    stats.flops.fetch_add(static_cast<std::uint64_t>(known.work.flops), std::memory_order_relaxed);
    fill(answer, candidate, choice.verdict->word(), took);
    // A timed call stands for those between two of them.
    if (timed && !candidate.reference &&
        d.shadow.earn(options_.shadow_share,
                      took * (d.timing_mask.load(std::memory_order_relaxed) + 1)))
      return check_sampled(d.op, d, choice, call, error, answer);
  } else if (!callers_fault(status)) {
    candidate.stats.fallbacks.fetch_add(1, std::memory_order_relaxed);
    const std::string why =
        from_abi(error != nullptr ? *error : make_abi_error(), status, "").message;
    if (status == SY_E_DEVICE_LOST) lose(candidate, why);
    const std::lock_guard lock(d.mutex);
    selector_.exclude(d, choice, why);
  }
  return status;
}

void Dispatcher::observe(Decision &d, std::uint64_t ns, std::uint64_t calls) noexcept {
  d.recent.add(ns);
  selector_.spent(ns * calls);
  const std::uint64_t total =
      d.total_ns.fetch_add(ns * calls, std::memory_order_relaxed) + ns * calls;
  std::uint64_t at = d.review_at.load(std::memory_order_relaxed);
  if (total < at) return;
  const std::uint64_t next = total + d.review_every.load(std::memory_order_relaxed);
  if (!d.review_at.compare_exchange_strong(at, next, std::memory_order_relaxed) ||
      !selector_.due(d))
    return;
  try {
    ask_late(d, false);
  } catch (const std::bad_alloc &) {
    return;
  }
  // Seldom; whoever finds the class busy leaves it to a later look.
  if (const std::unique_lock lock(d.mutex, std::try_to_lock); lock) selector_.review(d);
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
  watch(call);
  const auto status = route(*index, call, static_cast<KernelStates *>(states), &error, answer);
  if (status == SY_OK) return {};
  return tl::unexpected(from_abi(error, status, ""));
}

void Dispatcher::parallel_for(std::uint64_t n, const std::function<void(std::uint64_t)> &fn) {
  // The pool's threads must not be left by an exception; the caller gets it.
  struct Loop {
    const std::function<void(std::uint64_t)> &fn;
    std::atomic<bool> out_of_memory{false};
  } loop{fn};
  ThreadPool::process().run(
      n,
      [](void *arg, std::uint64_t i) {
        auto &l = *static_cast<Loop *>(arg);
        try {
          l.fn(i);
        } catch (const std::bad_alloc &) {
          l.out_of_memory.store(true, std::memory_order_relaxed);
        }
      },
      &loop, threads_);
  if (loop.out_of_memory.load(std::memory_order_relaxed)) throw std::bad_alloc();
}

}  // namespace switchyard
