// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <switchyard/ops/attention_kv.h>

namespace switchyard::cpu {

/// The caller's parameters, zeros where its struct is shorter.
[[gnu::always_inline]] static inline sy_attention_kv_params attention_params(const sy_call &call) {
  sy_attention_kv_params p;
  const auto *given = static_cast<const sy_attention_params *>(call.params);
  __builtin_memset(&p, 0, sizeof(p));
  __builtin_memcpy(&p, given, given->struct_size < sizeof(p) ? given->struct_size : sizeof(p));
  return p;
}

}  // namespace switchyard::cpu
