// SPDX-License-Identifier: Apache-2.0
#include "attention/attention.hpp"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <cmath>

#include "base/call_frame.hpp"

namespace switchyard {
namespace {

/// A 3-D array gets a leading axis of one.
Result<TensorView> four_axes(std::string_view name, const TensorView &t, int rank) {
  if (!t.present()) return fail(ErrorCode::invalid_argument, fmt::format("{} is missing", name));
  if (t.rank() != rank || rank < 3 || rank > 4)
    return fail(ErrorCode::shape,
                fmt::format("{} has shape {}; q, k, v and out must all be [batch, heads, length, "
                            "head_dim] or all [heads, length, head_dim]",
                            name, shape_text(t.shape())));
  if (rank == 4) return t;
  sy_tensor raw = t.raw();
  for (int i = 3; i > 0; --i) {
    raw.shape[i] = raw.shape[i - 1];
    raw.strides[i] = raw.strides[i - 1];
  }
  raw.shape[0] = 1;
  raw.strides[0] = raw.shape[1] * raw.strides[1];
  raw.rank = 4;
  return TensorView(raw);
}

/// The mask as [B, Hq, Lq, Lkv], missing and unit axes by zero strides.
Result<TensorView> broadcast_mask(const TensorView &mask,
                                  const std::array<std::int64_t, 4> &target) {
  sy_tensor raw = mask.raw();
  raw.rank = 4;
  for (int i = 0; i < 4; ++i) {
    const int from = i - (4 - mask.rank());
    const auto n = target[static_cast<std::size_t>(i)];
    raw.shape[i] = n;
    raw.strides[i] = from < 0 || mask.dim(from) == 1 ? 0 : mask.stride(from);
    if (mask.rank() > 4 || (from >= 0 && mask.dim(from) != 1 && mask.dim(from) != n))
      return fail(ErrorCode::shape,
                  fmt::format("the mask's shape {} cannot be broadcast to {} ([batch, heads, "
                              "queries, keys])",
                              shape_text(mask.shape()), shape_text(target)));
  }
  return TensorView(raw);
}

Result<sy_attention_params> make_params(const AttentionOptions &options, std::int64_t dk) {
  sy_attention_params p{};
  p.causal = options.causal;
  p.scale = std::isnan(options.scale)
                ? static_cast<float>(1.0 / std::sqrt(static_cast<double>(dk > 0 ? dk : 1)))
                : options.scale;
  p.softcap = options.softcap;
  p.window_left = options.window_left;
  p.window_right = options.window_right;
  if (!options.window) return p;
  if (*options.window < 1)
    return fail(ErrorCode::invalid_argument,
                fmt::format("window is {}; it must be at least 1 (the query's own position)",
                            *options.window));
  if (options.window_left >= 0 || options.window_right >= 0)
    return fail(ErrorCode::invalid_argument,
                "give either window or window_left and window_right, not both");
  p.window_left = *options.window - 1;
  return p;
}

/// Keys of a sequence at most.
std::int64_t length_of(const TensorView &k, const TensorView &table) {
  return table.present() && table.rank() == 2 ? k.dim(2) * table.dim(1) : k.dim(2);
}

/// Values in a row of v.
std::int64_t row_values(const TensorView &v, const StoredKeys &stored) {
  if (stored.format == SY_QUANT_Q8_0) return v.dim(3) / 34 * 32;
  return stored.format == SY_QUANT_MLX_AFFINE4 ? v.dim(3) * 8 : v.dim(3);
}

/// Drops the axis that four_axes added.
Tensor without_batch(Tensor tensor, int rank) {
  if (rank == 4) return tensor;
  sy_tensor raw = tensor.view().raw();
  for (int i = 0; i + 1 < raw.rank; ++i) {
    raw.shape[i] = raw.shape[i + 1];
    raw.strides[i] = raw.strides[i + 1];
  }
  --raw.rank;
  return Tensor::adopt(TensorView(raw), std::make_shared<Tensor>(std::move(tensor)));
}

}  // namespace

std::string attention_pattern(std::int64_t query_heads, std::int64_t key_heads) {
  if (query_heads == key_heads) return "MHA";
  if (key_heads == 1) return "MQA";
  return fmt::format("GQA-{}:1", key_heads > 0 ? query_heads / key_heads : 0);
}

Result<AttentionResult> attention(Runner &runner, const TensorView &q, const TensorView &k,
                                  const TensorView &v, const AttentionOptions &options) {
  return attention(runner, q, k, v, AttentionCall(options), StoredKeys());
}

Result<AttentionResult> attention(Runner &runner, const TensorView &q_in, const TensorView &k_in,
                                  const TensorView &v_in, const AttentionCall &options,
                                  const StoredKeys &stored) {
  const auto start = std::chrono::steady_clock::now();
  const int rank = q_in.rank();
  const auto q = four_axes("q", q_in, rank), k = four_axes("k", k_in, rank),
             v = four_axes("v", v_in, rank);
  for (const auto *t : {&q, &k, &v})
    if (!*t) return tl::unexpected(t->error());
  auto params = make_params(options, q->dim(3));
  if (!params) return tl::unexpected(params.error());

  // No more slots than the call needs: kernels of version 1.0 know seven.
  const int slots = stored.k_scales.present()       ? int{SY_ATTENTION_KV_INPUTS}
                    : options.block_table.present() ? SY_ATTENTION_IN_BLOCK_TABLE + 1
                                                    : int{SY_ATTENTION_INPUTS};
  CallFrame frame(static_cast<std::uint32_t>(slots), SY_ATTENTION_OUTPUTS);
  frame.params(*params);
  const sy_attention_kv_params longer{
      {sizeof longer, params->causal, params->scale, params->softcap, params->window_left,
       params->window_right, 0, 0},
      options.keep,
      stored.gap,
      stored.format,
      stored.group};
  if (options.keep != 0 || stored.gap != 0 || stored.format != SY_QUANT_NONE) {
    frame.call().params = &longer;
    frame.call().params_size = sizeof(longer);
  }
  frame.input(SY_ATTENTION_IN_Q, *q);
  frame.input(SY_ATTENTION_IN_K, *k);
  frame.input(SY_ATTENTION_IN_V, *v);
  const std::int64_t keys = length_of(*k, options.block_table);
  if (options.mask.present()) {
    const auto mask = broadcast_mask(options.mask, {q->dim(0), q->dim(1), q->dim(2), keys});
    if (!mask) return tl::unexpected(mask.error());
    frame.input(SY_ATTENTION_IN_MASK, *mask);
  }
  frame.input(SY_ATTENTION_IN_SINKS, options.sinks);
  frame.input(SY_ATTENTION_IN_ALIBI, options.alibi);
  frame.input(SY_ATTENTION_IN_KV_LENGTHS, options.kv_lengths);
  frame.input(SY_ATTENTION_IN_BLOCK_TABLE, options.block_table);
  frame.input(SY_ATTENTION_IN_K_SCALES, stored.k_scales);
  frame.input(SY_ATTENTION_IN_K_BIASES, stored.k_biases);
  frame.input(SY_ATTENTION_IN_V_SCALES, stored.v_scales);
  frame.input(SY_ATTENTION_IN_V_BIASES, stored.v_biases);

  AttentionResult result;
  Tensor o, lse;
  if (options.out.present()) {
    const auto out = four_axes("out", options.out, rank);
    if (!out) return tl::unexpected(out.error());
    frame.output(SY_ATTENTION_OUT_O, *out);
  } else {
    auto made = Tensor::empty(q->dtype(),
                              std::array{q->dim(0), q->dim(1), q->dim(2), row_values(*v, stored)});
    if (!made) return tl::unexpected(made.error());
    o = std::move(*made);
    frame.output(SY_ATTENTION_OUT_O, o);
  }
  if (options.return_lse) {
    auto made = Tensor::empty(dtypes::f32, std::array{q->dim(0), q->dim(1), q->dim(2)});
    if (!made) return tl::unexpected(made.error());
    lse = std::move(*made);
    frame.output(SY_ATTENTION_OUT_LSE, lse);
  }
  frame.call().threads = runner.threads();
  Answer answer;
  if (auto ok = runner.run(SY_OP_ATTENTION, frame.call(), nullptr, &answer); !ok)
    return tl::unexpected(ok.error());
  if (o.present()) result.out = without_batch(std::move(o), rank);
  if (lse.present()) result.lse = without_batch(std::move(lse), rank);
  result.info.backend = answer.backend;
  result.info.kernel = answer.kernel;
  result.info.verified = answer.verified;
  result.info.fallback_reason = std::move(answer.fallback_reason);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  result.info.time_ms = took.count();
  return result;
}

}  // namespace switchyard
