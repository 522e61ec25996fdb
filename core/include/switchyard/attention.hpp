// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Around the attention call: ragged batches, the shapes of published models, and advice. Does it
/// pay to hand a call to Switchyard? Hosts that have attention of their own (a torch model) ask
/// before each call and keep their own where the answer is no.
///
///     switchyard::AttentionAdvisor advisor(engine, {.min_seq_len = 64});
///     const auto advice = advisor.should_optimize({.q_heads = 40, .kv_heads = 8, .q_len = 32});
///     // advice.optimize == false, advice.reason == "sequence length 32 below threshold 64"

#include <map>
#include <memory>
#include <switchyard/engine.hpp>

namespace switchyard {

/// All that a call may say, of its keys too.
struct AttentionCall : AttentionOptions {
  AttentionCall(const AttentionOptions &options = {}) : AttentionOptions(options) {}
  TensorView alibi{};       ///< f32 [Hq] slopes
  TensorView kv_lengths{};  ///< i32 [B]: keys that exist per sequence
  /// i32 [B, M]: k and v are pages [pages, Hkv, P, D]; needs kv_lengths, which may reach M * P.
  TensorView block_table{};
  std::int64_t keep = 0;  ///< the first keys, which a window does not hide
};

/// Engine::attention with more to say.
SY_API Result<AttentionResult> attention(Engine &engine, const TensorView &q, const TensorView &k,
                                         const TensorView &v, const AttentionCall &call);

/// An attention call as its host sees it: sizes and kind, no data.
struct AttentionConfig {
  std::int64_t batch = 1, q_heads = 1, kv_heads = 1, q_len = 1, kv_len = 0;  ///< kv_len 0 = q_len
  std::int64_t head_dim = 64, value_dim = 0;                                 ///< 0 = head_dim
  DType dtype = dtypes::f32;
  /// "none", "top_left", "bottom_right", or "causal" where the host cannot tell which of the two
  /// is meant: that is ambiguous unless q_len equals kv_len.
  std::string causal = "none";
  std::int64_t window = 0;  ///< keys a query sees, its own included; 0 = all
  bool mask = false, alibi = false, sinks = false, softcap = false, return_lse = false;
  bool blhd = false;      ///< q, k and v lie in memory as [batch, length, heads, dim]
  bool blhd_out = false;  ///< and so shall the result
  bool requires_grad = false;
  double dropout = 0;
  /// K and V have one head in memory, shown kv_heads times by a stride of 0.
  bool expanded = false;

  /// Sizes, dtype and layout of q [B, Hq, Lq, Dk], k and v, and whether k and v are expanded.
  /// Fails with shape or dtype where they do not fit together.
  SY_API static Result<AttentionConfig> of(const TensorView &q, const TensorView &k,
                                           const TensorView &v);
  /// Key heads in memory: 1 for expanded ones.
  std::int64_t distinct_kv_heads() const noexcept { return expanded ? 1 : kv_heads; }
  std::int64_t keys() const noexcept { return kv_len > 0 ? kv_len : q_len; }
  /// "MHA", "MQA" or "GQA-n:1", of the key heads in memory.
  SY_API std::string pattern() const;
};

/// What a user wants left alone. 0 = no limit.
struct AttentionThresholds {
  std::int64_t min_seq_len = 0, max_seq_len = 0;  ///< keys
  std::int64_t gqa_ratio_min = 0;                 ///< query heads per key head
  std::int64_t min_heads = 0;                     ///< query heads
  /// A call that is expected to take less is too little work to be handed over.
  double min_work_us = 5;
};

struct Advice {
  bool optimize = false;
  std::string reason;      ///< in words, with the numbers
  std::string kind;        ///< the reason without numbers, for counting: "min_seq_len"
  std::string kernel;      ///< who would answer; "" if it was not asked for
  double expected_ms = 0;  ///< of that kernel; 0 = nothing known
  double host_ms = 0;      ///< of the host's own, as observed; 0 = not observed
};

struct AdviceStatus {
  std::uint64_t asked = 0, optimized = 0;
  std::map<std::string, std::uint64_t> declined;  ///< by Advice::kind
  std::map<std::string, std::uint64_t> patterns;  ///< of everything asked
  /// Share of the calls that were to be optimised, 0 to 1.
  double rate() const noexcept {
    return asked == 0 ? 0 : static_cast<double>(optimized) / static_cast<double>(asked);
  }
};

/// Answers from thresholds, from what the engine has measured or predicts for such a call, and from
/// the host's own times. [any-thread] Keep the engine alive.
class SY_API AttentionAdvisor {
 public:
  explicit AttentionAdvisor(Engine &engine, AttentionThresholds thresholds = {});
  AttentionAdvisor(AttentionAdvisor &&) noexcept;
  AttentionAdvisor &operator=(AttentionAdvisor &&) noexcept;
  ~AttentionAdvisor();

  /// In this order: gradients, dropout, thresholds, ambiguous causality, no work, nobody but the
  /// reference to do it (yet), too little work, the host's own being as fast. The first call of a
  /// class may wait for its kernel's verification (Options::gate_timeout_ms); where that takes
  /// longer, the answer is no ("not_verified_yet") until it is done.
  Advice should_optimize(const AttentionConfig &config);
  /// Tells how long the host's own attention took for such a call. The median of the last nine
  /// counts. Calls whose sizes agree within the classes of docs/selection.md share their times.
  void observe(const AttentionConfig &config, double host_ms);
  /// Whether enough times were told for a call like this (three).
  bool observed(const AttentionConfig &config) const;
  AdviceStatus status() const;
  void reset_status();
  const AttentionThresholds &thresholds() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Attention of sequences of different lengths that lie one behind the other: q [T, Hq, Dk],
/// k [S, Hkv, Dk], v [S, Hkv, Dv]; sequence b has the queries q_offsets[b]..q_offsets[b + 1] - 1
/// and the keys kv_offsets[b]..kv_offsets[b + 1] - 1 (i32 [B + 1], ascending from 0). The result is
/// [T, Hq, Dv], lse [T, Hq]. Of the options, masks, kv_lengths and block_table are not offered.
/// Where there are many sequences, threads take whole ones.
SY_API Result<AttentionResult> attention_ragged(Engine &engine, const TensorView &q,
                                                const TensorView &k, const TensorView &v,
                                                const TensorView &q_offsets,
                                                const TensorView &kv_offsets,
                                                const AttentionCall &call = {});

/// The attention of a published model, for benchmarks and examples.
struct ModelAttention {
  std::string_view name;  ///< "llama-3-8b"
  int layers, q_heads, kv_heads, head_dim, value_dim;
  int window;     ///< of its layers with a sliding window; 0 = none
  float softcap;  ///< 0 = none

  /// `q_len` new positions over `kv_len` keys (0 = q_len), causal.
  SY_API AttentionConfig config(std::int64_t q_len, std::int64_t kv_len = 0,
                                DType dtype = dtypes::bf16) const;
};

SY_API std::span<const ModelAttention> model_attentions() noexcept;
/// By name, or a usage error with "did you mean".
SY_API Result<ModelAttention> model_attention(std::string_view name);

}  // namespace switchyard
