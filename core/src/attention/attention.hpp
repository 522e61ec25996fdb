// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Attention as people call it: defaults, broadcast masks and 3-D arrays turned into the
/// operation's exact form.

#include <string>
#include <switchyard/engine.hpp>

#include "dispatcher/runner.hpp"

namespace switchyard {

/// softmax(scale * q k^T) v per head.
///
/// q [B, Hq, Lq, Dk], k [B, Hkv, Lkv, Dk], v [B, Hkv, Lkv, Dv], f32, f16 or bf16, any strides; 3-D
/// arrays [H, L, D] mean B = 1, and the results are 3-D then. Without `options.out` the result is
/// allocated in C order. Fails with shape, dtype or invalid_argument, naming what does not fit.
Result<AttentionResult> attention(Runner &runner, const TensorView &q, const TensorView &k,
                                  const TensorView &v, const AttentionOptions &options);

/// "MHA" (one key head per query head), "MQA" (one key head), else "GQA-n:1".
std::string attention_pattern(std::int64_t query_heads, std::int64_t key_heads);

}  // namespace switchyard
