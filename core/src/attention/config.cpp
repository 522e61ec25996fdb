// SPDX-License-Identifier: Apache-2.0
/// What an attention call is, seen from outside: its pattern, and the shapes of published models.
#include <fmt/format.h>

#include <algorithm>
#include <switchyard/attention.hpp>

#include "attention/attention.hpp"
#include "base/suggest.hpp"

namespace switchyard {
namespace {

/// One head seen several times. An empty or single head is just itself.
bool is_expanded(const TensorView &t) noexcept { return t.dim(1) > 1 && t.stride(1) == 0; }

/// Positions further apart in memory than heads?
bool is_blhd(const TensorView &t) noexcept {
  return t.dim(1) > 1 && t.dim(2) > 1 && t.stride(1) != 0 && t.stride(2) > t.stride(1);
}

// name, layers, query heads, key heads, head dim, value dim, window, softcap
constexpr ModelAttention kModels[] = {
    {"qwen2-0.5b", 24, 14, 2, 64, 64, 0, 0},
    {"qwen2-1.5b", 28, 12, 2, 128, 128, 0, 0},
    {"qwen2-7b", 28, 28, 4, 128, 128, 0, 0},
    {"qwen2-72b", 80, 64, 8, 128, 128, 0, 0},
    {"qwen3-0.6b", 28, 16, 8, 128, 128, 0, 0},
    {"qwen3-4b", 36, 32, 8, 128, 128, 0, 0},
    {"qwen3-8b", 36, 32, 8, 128, 128, 0, 0},
    {"qwen3-14b", 40, 40, 8, 128, 128, 0, 0},
    {"qwen3-32b", 64, 64, 8, 128, 128, 0, 0},
    {"qwen3-30b-a3b", 48, 32, 4, 128, 128, 0, 0},
    {"llama-3-8b", 32, 32, 8, 128, 128, 0, 0},
    {"llama-3-70b", 80, 64, 8, 128, 128, 0, 0},
    {"llama-3.2-1b", 16, 32, 8, 64, 64, 0, 0},
    {"llama-3.2-3b", 28, 24, 8, 128, 128, 0, 0},
    {"mistral-7b", 32, 32, 8, 128, 128, 4096, 0},
    {"gemma-2b", 18, 8, 1, 256, 256, 0, 0},
    {"gemma-7b", 28, 16, 16, 256, 256, 0, 0},
    {"gemma-2-9b", 42, 16, 8, 256, 256, 4096, 50},
    {"gemma-3-4b", 34, 8, 4, 256, 256, 1024, 0},
    {"phi-3-mini", 32, 32, 32, 96, 96, 2047, 0},
    {"phi-3-medium", 40, 40, 10, 128, 128, 2047, 0},
    // Latent attention: as plain heads (prefill), and with the projections absorbed (decode).
    {"deepseek-v3", 61, 128, 128, 192, 128, 0, 0},
    {"deepseek-v3-absorbed", 61, 128, 1, 576, 512, 0, 0},
};

}  // namespace

Result<AttentionConfig> AttentionConfig::of(const TensorView &q, const TensorView &k,
                                            const TensorView &v) {
  for (const auto &[name, t] : {std::pair{"q", &q}, std::pair{"k", &k}, std::pair{"v", &v}}) {
    if (t->rank() != 4)
      return fail(ErrorCode::shape,
                  fmt::format("{} has shape {}; it must be [batch, heads, length, head_dim]", name,
                              shape_text(t->shape())));
    if (!same(t->dtype(), q.dtype()))
      return fail(ErrorCode::dtype, fmt::format("{} is {} but q is {}; they must be equal", name,
                                                to_string(t->dtype()), to_string(q.dtype())));
  }
  if (k.dim(0) != q.dim(0) || v.dim(0) != q.dim(0) || k.dim(1) != v.dim(1) ||
      k.dim(2) != v.dim(2) || k.dim(3) != q.dim(3) || k.dim(1) == 0 || q.dim(1) % k.dim(1) != 0)
    return fail(ErrorCode::shape,
                fmt::format("q {}, k {} and v {} do not fit together", shape_text(q.shape()),
                            shape_text(k.shape()), shape_text(v.shape())));
  AttentionConfig c;
  c.batch = q.dim(0);
  c.q_heads = q.dim(1);
  c.kv_heads = k.dim(1);
  c.q_len = q.dim(2);
  c.kv_len = k.dim(2);
  c.head_dim = q.dim(3);
  c.value_dim = v.dim(3);
  c.dtype = q.dtype();
  c.expanded = is_expanded(k) && is_expanded(v);
  c.blhd = is_blhd(q) || is_blhd(k);
  return c;
}

std::string AttentionConfig::pattern() const {
  return attention_pattern(q_heads, distinct_kv_heads());
}

AttentionConfig ModelAttention::config(std::int64_t q_len, std::int64_t kv_len, DType dtype) const {
  AttentionConfig c;
  c.q_heads = q_heads;
  c.kv_heads = kv_heads;
  c.q_len = q_len;
  c.kv_len = kv_len;
  c.head_dim = head_dim;
  c.value_dim = value_dim;
  c.dtype = dtype;
  c.causal = "bottom_right";
  c.window = window;
  c.softcap = softcap > 0;
  return c;
}

std::span<const ModelAttention> model_attentions() noexcept { return kModels; }

Result<ModelAttention> model_attention(std::string_view name) {
  const auto *found = std::ranges::find(kModels, name, &ModelAttention::name);
  if (found != std::end(kModels)) return *found;
  std::vector<std::string_view> names;
  for (const ModelAttention &m : kModels) names.push_back(m.name);
  return fail(ErrorCode::usage,
              fmt::format("no model is called {}{}; known are {}", name,
                          did_you_mean(std::string(name), names), fmt::join(names, ", ")));
}

}  // namespace switchyard
