// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Attention as people call it: defaults, broadcast masks and 3-D arrays turned into the
/// operation's exact form.

#include <switchyard/ops/attention_kv.h>
#include <string>
#include <switchyard/attention.hpp>

#include "dispatcher/runner.hpp"

namespace switchyard {

/// What else belongs to k and v that are not plain; ops/attention.h has the formats.
struct StoredKeys {
  std::uint32_t format = SY_QUANT_NONE, group = 0;
  TensorView k_scales{}, k_biases{}, v_scales{}, v_biases{};
  std::int64_t gap = 0;  ///< keys dropped behind the kept ones
};

/// softmax(scale * q k^T) v per head.
///
/// q [B, Hq, Lq, Dk], k [B, Hkv, Lkv, Dk], v [B, Hkv, Lkv, Dv], f32, f16 or bf16, any strides; 3-D
/// arrays [H, L, D] mean B = 1, and the results are 3-D then. Without `options.out` the result is
/// allocated in C order. Fails with shape, dtype or invalid_argument, naming what does not fit.
Result<AttentionResult> attention(Runner &runner, const TensorView &q, const TensorView &k,
                                  const TensorView &v, const AttentionOptions &options);
/// With all that a call may say of its keys.
Result<AttentionResult> attention(Runner &runner, const TensorView &q, const TensorView &k,
                                  const TensorView &v, const AttentionCall &options,
                                  const StoredKeys &stored);

/// "MHA" (one key head per query head), "MQA" (one key head), else "GQA-n:1".
std::string attention_pattern(std::int64_t query_heads, std::int64_t key_heads);

}  // namespace switchyard
