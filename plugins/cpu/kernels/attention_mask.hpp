// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The mask tensor seen in pieces: what a run of keys looks like to one query, and as f32 to be
/// added to scores, -inf standing for "not visible" (needs SY_ISA).

#include "attention_simd.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace attention {

enum MaskKind : uint32_t { kHidden = 1, kPlain = 2, kMixed = 3 };  // kHidden | kPlain = kMixed

template <class M>
inline float mask_value(const M *p) {
  if constexpr (__is_same(M, uint8_t))
    return *p != 0 ? 0.0f : -__builtin_inff();
  else
    return load_scalar(p);
}

/// Are all n values -inf (kHidden), all 0 (kPlain), or neither (kMixed)?
template <class M>
inline uint32_t classify_run(const M *p, int64_t stride, int64_t n) {
  int64_t i = 0;
  uint32_t kind = 0;
  if constexpr (__is_same(M, uint8_t)) {
    if (stride == 1) {
      uint64_t any = 0, all = 0x0101010101010101u;
      for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, p + i, 8);
        any |= word;
        all &= word;
      }
      if (i > 0) {
        if (any == 0)
          kind = kHidden;
        else if (all == 0x0101010101010101u)
          kind = kPlain;
        else
          return kMixed;
      }
    }
  } else if constexpr (__is_same(M, float)) {
    const DF df;
    if (stride == 1)
      for (; i + kLanes <= n && kind != kMixed; i += kLanes) {
        const VF v = hn::LoadU(df, p + i);
        const bool hidden = hn::AllTrue(df, hn::Eq(v, hn::Set(df, -__builtin_inff())));
        const bool plain = hn::AllTrue(df, hn::Eq(v, hn::Zero(df)));
        kind |= hidden ? kHidden : plain ? kPlain : kMixed;
      }
  }
  for (; i < n && kind != kMixed; ++i) {
    const float v = mask_value(p + i * stride);
    kind |= v == -__builtin_inff() ? kHidden : v == 0.0f ? kPlain : kMixed;
  }
  return kind;
}

/// n values as f32.
template <class M>
inline void widen_mask(const M *p, int64_t stride, int64_t n, float *to) {
  if constexpr (__is_same(M, uint8_t)) {
    for (int64_t i = 0; i < n; ++i) to[i] = mask_value(p + i * stride);
  } else {
    widen_row(p, stride, n, to);
  }
}

/// Calls f with a null pointer of the mask's element type.
template <class F>
inline auto with_mask_type(const sy_tensor &mask, F f) {
  if (mask.dtype.code == SY_TYPE_BOOL) return f(static_cast<const uint8_t *>(nullptr));
  if (mask.dtype.code == SY_TYPE_BFLOAT) return f(static_cast<const bfloat16_t *>(nullptr));
  if (mask.dtype.bits == 16) return f(static_cast<const float16_t *>(nullptr));
  return f(static_cast<const float *>(nullptr));
}

}  // namespace attention
}  // namespace SY_ISA
}  // namespace switchyard::cpu
