// SPDX-License-Identifier: Apache-2.0
/// Does it pay to take an attention call over from its host? Thresholds first, then what the
/// dispatcher knows of such calls, beside the host's own times.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <switchyard/attention.hpp>

#include "base/duration.hpp"
#include "dispatcher/answers.hpp"
#include "facade/engine_impl.hpp"

namespace switchyard {
namespace {

constexpr std::size_t kHostTimes = 9, kLeastHostTimes = 3;

/// A call of the config's kind over tensors without data.
class ConfigCall {
 public:
  ConfigCall(const AttentionConfig &c, std::uint32_t threads)
      : frame_(SY_ATTENTION_INPUTS, SY_ATTENTION_OUTPUTS) {
    const std::int64_t dv = c.value_dim > 0 ? c.value_dim : c.head_dim, keys = c.keys();
    using Sizes = std::array<std::int64_t, 4>;
    const auto tensor = [](DType dtype, const Sizes &n, bool blhd, bool shared_head) {
      Sizes strides{n[1] * n[2] * n[3], n[2] * n[3], n[3], 1};
      if (blhd) strides = {n[1] * n[2] * n[3], n[3], n[1] * n[3], 1};
      if (shared_head) strides = {n[2] * n[3], 0, n[3], 1};
      return TensorView(static_cast<void *>(nullptr), dtype, n, strides);
    };
    frame_.input(SY_ATTENTION_IN_Q,
                 tensor(c.dtype, {c.batch, c.q_heads, c.q_len, c.head_dim}, c.blhd, false));
    frame_.input(SY_ATTENTION_IN_K,
                 tensor(c.dtype, {c.batch, c.kv_heads, keys, c.head_dim}, c.blhd, c.expanded));
    frame_.input(SY_ATTENTION_IN_V,
                 tensor(c.dtype, {c.batch, c.kv_heads, keys, dv}, c.blhd, c.expanded));
    if (c.mask)
      frame_.input(SY_ATTENTION_IN_MASK,
                   TensorView(static_cast<void *>(nullptr), dtypes::boolean,
                              Sizes{c.batch, c.q_heads, c.q_len, keys}, Sizes{0, 0, keys, 1}));
    const auto per_head = [&](std::size_t slot, bool given) {
      if (given)
        frame_.input(slot,
                     TensorView(static_cast<void *>(nullptr), dtypes::f32, std::array{c.q_heads}));
    };
    per_head(SY_ATTENTION_IN_SINKS, c.sinks);
    per_head(SY_ATTENTION_IN_ALIBI, c.alibi);
    frame_.output(SY_ATTENTION_OUT_O,
                  tensor(c.dtype, {c.batch, c.q_heads, c.q_len, dv}, c.blhd_out, false));
    if (c.return_lse)
      frame_.output(SY_ATTENTION_OUT_LSE, TensorView(static_cast<void *>(nullptr), dtypes::f32,
                                                     std::array{c.batch, c.q_heads, c.q_len}));
    params_.causal = c.causal == "none"       ? SY_CAUSAL_NONE
                     : c.causal == "top_left" ? SY_CAUSAL_TOP_LEFT
                                              : SY_CAUSAL_BOTTOM_RIGHT;
    params_.scale = static_cast<float>(
        1.0 / std::sqrt(static_cast<double>(std::max<std::int64_t>(c.head_dim, 1))));
    params_.softcap = c.softcap ? 30.0f : 0.0f;
    params_.window_left = c.window > 0 ? c.window - 1 : -1;
    params_.window_right = -1;
    frame_.params(params_);
    frame_.call().threads = threads;
  }
  const sy_call &call() const noexcept { return frame_.call(); }

 private:
  CallFrame frame_;
  sy_attention_params params_{};
};

Advice declined(std::string kind, std::string reason) {
  Advice advice;
  advice.kind = std::move(kind);
  advice.reason = std::move(reason);
  return advice;
}

/// What needs no look at the machine. nullopt = nothing speaks against it.
std::optional<Advice> refused(const AttentionConfig &c, const AttentionThresholds &t) {
  const auto below = [](std::string kind, std::string_view what, std::int64_t n,
                        std::int64_t limit) {
    return declined(std::move(kind), fmt::format("{} {} below threshold {}", what, n, limit));
  };
  if (c.requires_grad)
    return declined("requires_grad", "a gradient is wanted, and none is computed here");
  if (c.dropout > 0)
    return declined("dropout", fmt::format("dropout {} is not offered", c.dropout));
  const std::int64_t ratio = c.distinct_kv_heads() > 0 ? c.q_heads / c.distinct_kv_heads() : 0;
  if (c.keys() < t.min_seq_len)
    return below("min_seq_len", "sequence length", c.keys(), t.min_seq_len);
  if (t.max_seq_len > 0 && c.keys() > t.max_seq_len)
    return declined("max_seq_len",
                    fmt::format("sequence length {} above threshold {}", c.keys(), t.max_seq_len));
  if (ratio < t.gqa_ratio_min) return below("gqa_ratio_min", "GQA ratio", ratio, t.gqa_ratio_min);
  if (c.q_heads < t.min_heads) return below("min_heads", "head count", c.q_heads, t.min_heads);
  if (c.causal == "causal" && c.q_len != c.keys())
    return declined("ambiguous_causal",
                    fmt::format("causal is ambiguous: {} queries over {} keys may mean top-left or "
                                "bottom-right",
                                c.q_len, c.keys()));
  if (c.batch <= 0 || c.q_heads <= 0 || c.q_len <= 0 || c.keys() <= 0)
    return declined("too_little_work", "too little work: the call is empty");
  return std::nullopt;
}

std::string_view evidence_of(const Choice &c) noexcept {
  if (c.samples.count() > 0) return "measured here";
  if (c.stored) return "measured earlier";
  return c.predicted.points > 0 ? "predicted from measured shapes" : "its author's estimate";
}

}  // namespace

struct AttentionAdvisor::Impl {
  Engine *engine;
  AttentionThresholds thresholds;
  OpIndex op;
  mutable std::mutex mutex;
  AdviceStatus status;
  struct KeyLess {
    bool operator()(const Key &a, const Key &b) const noexcept { return a.words < b.words; }
  };
  std::map<Key, std::deque<double>, KeyLess> host;  ///< newest last

  std::uint32_t threads() const { return engine->impl().threads; }

  Key key_of(const sy_call &call) const {
    Key key;
    KeyBuilder builder(key);
    all_ops()[op]->key(call, builder);
    return key;
  }

  /// Median of the host's times, 0 while there are too few. Call with the mutex held.
  double host_ms(const Key &key) const {
    const auto found = host.find(key);
    if (found == host.end() || found->second.size() < kLeastHostTimes) return 0;
    std::vector<double> ms(found->second.begin(), found->second.end());
    std::ranges::nth_element(ms, ms.begin() + static_cast<std::ptrdiff_t>(ms.size() / 2));
    return ms[ms.size() / 2];
  }

  Advice judge(const AttentionConfig &config) {
    if (auto no = refused(config, thresholds)) return *no;
    const ConfigCall call(config, threads());
    if (const auto valid = all_ops()[op]->validate(call.call()); !valid)
      return declined("invalid", valid.error().message);
    Advice advice = by_evidence(config, call.call());
    {
      const std::lock_guard lock(mutex);
      advice.host_ms = host_ms(key_of(call.call()));
    }
    if (!advice.optimize || advice.host_ms <= 0 || advice.expected_ms <= 0) return advice;
    const std::string own = duration_text(advice.host_ms * 1e6);
    if (advice.expected_ms * (1 + engine->impl().options.margin) < advice.host_ms) {
      advice.reason += fmt::format("; the host's own takes {}", own);
      return advice;
    }
    advice.optimize = false;
    advice.kind = "host_as_fast";
    advice.reason = fmt::format("the host's own takes {}, {} {}", own, advice.kernel,
                                duration_text(advice.expected_ms * 1e6));
    return advice;
  }

  /// What the dispatcher has to say.
  Advice by_evidence(const AttentionConfig &config, const sy_call &call) const {
    Engine::Impl &e = engine->impl();
    Decision &d = e.dispatcher->decision(op, call);
    if (!d.waited.exchange(true))
      for (const auto &c : d.choices)
        if (c->supported() && !c->candidate->reference) {
          e.verdicts->wait(*c->verdict, e.options.gate_timeout_ms);
          break;
        }
    const std::lock_guard lock(d.mutex);
    e.dispatcher->selector().settle(d);
    const Choice *best = e.dispatcher->selector().expected(d, elements_of(call));
    if (best == nullptr || best->candidate->reference) {
      const bool pending = std::ranges::any_of(d.choices, [](const auto &c) {
        return c->pending() && !c->late.load(std::memory_order_relaxed) && !c->candidate->reference;
      });
      if (pending) return declined("not_verified_yet", "its kernels are still being verified");
      std::string why = "no verified backend but the reference offers it";
      for (const auto &c : d.choices)
        if (!c->candidate->reference && !c->refusal.empty()) {
          why += fmt::format(" ({}: {})", c->candidate->name, c->refusal);
          break;
        }
      return declined("no_backend", std::move(why));
    }
    Advice advice;
    advice.kernel = best->candidate->name;
    const double ns = best->expected_ns();
    advice.expected_ms = ns / 1e6;
    if (ns > 0 && ns < thresholds.min_work_us * 1e3) {
      advice.kind = "too_little_work";
      advice.reason = fmt::format("too little work: {} expected, below threshold {}",
                                  duration_text(ns), duration_text(thresholds.min_work_us * 1e3));
      return advice;
    }
    advice.optimize = true;
    advice.kind = "optimized";
    advice.reason = ns > 0 ? fmt::format("{}: {} by {} ({})", config.pattern(), duration_text(ns),
                                         advice.kernel, evidence_of(*best))
                           : fmt::format("{}: {} offers it", config.pattern(), advice.kernel);
    return advice;
  }
};

AttentionAdvisor::AttentionAdvisor(Engine &engine, AttentionThresholds thresholds)
    : impl_(new Impl{&engine, thresholds, *find_op(SY_OP_ATTENTION), {}, {}, {}}) {}
AttentionAdvisor::AttentionAdvisor(AttentionAdvisor &&) noexcept = default;
AttentionAdvisor &AttentionAdvisor::operator=(AttentionAdvisor &&) noexcept = default;
AttentionAdvisor::~AttentionAdvisor() = default;

Advice AttentionAdvisor::should_optimize(const AttentionConfig &config) {
  Advice advice = impl_->judge(config);
  const std::lock_guard lock(impl_->mutex);
  ++impl_->status.asked;
  ++impl_->status.patterns[config.pattern()];
  if (advice.optimize)
    ++impl_->status.optimized;
  else
    ++impl_->status.declined[advice.kind];
  return advice;
}

void AttentionAdvisor::observe(const AttentionConfig &config, double host_ms) {
  if (!(host_ms > 0) || !std::isfinite(host_ms)) return;
  const ConfigCall call(config, impl_->threads());
  if (!all_ops()[impl_->op]->validate(call.call())) return;
  const Key key = impl_->key_of(call.call());
  const std::lock_guard lock(impl_->mutex);
  auto &times = impl_->host[key];
  times.push_back(host_ms);
  if (times.size() > kHostTimes) times.pop_front();
}

bool AttentionAdvisor::observed(const AttentionConfig &config) const {
  const ConfigCall call(config, impl_->threads());
  if (!all_ops()[impl_->op]->validate(call.call())) return false;
  const Key key = impl_->key_of(call.call());
  const std::lock_guard lock(impl_->mutex);
  return impl_->host_ms(key) > 0;
}

AdviceStatus AttentionAdvisor::status() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->status;
}

void AttentionAdvisor::reset_status() {
  const std::lock_guard lock(impl_->mutex);
  impl_->status = {};
}

const AttentionThresholds &AttentionAdvisor::thresholds() const noexcept {
  return impl_->thresholds;
}

}  // namespace switchyard
