// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Rows of k and v as f32: widened or dequantised, from wherever they lie (needs SY_ISA).

#include "attention_simd.hpp"
#include "dequantize_codecs.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace attention {

/// n elements of 16 bits and any stride, contiguous, with a zero where they are odd.
template <class T>
inline void copy_pairs(const T *from, int64_t stride, int64_t n, char *to) {
  static_assert(sizeof(T) == 2);
  if (stride == 1)
    memcpy(to, from, static_cast<size_t>(2 * n));
  else
    for (int64_t e = 0; e < n; ++e) memcpy(to + 2 * e, from + e * stride, 2);
  if (n % 2 != 0) memset(to + 2 * n, 0, 2);
}

/// to[e] = (a[e], b[e]) for n elements of 16 bits and any stride; b NULL = zeros.
template <class T>
inline void interleave_pairs(const T *a, const T *b, int64_t stride, int64_t n,
                             uint32_t *HWY_RESTRICT to) {
  static_assert(sizeof(T) == 2);
  const hn::ScalableTag<uint32_t> d32;
  const hn::Rebind<uint16_t, decltype(d32)> d16;
  const auto *low = reinterpret_cast<const uint16_t *>(a);
  const auto *high = reinterpret_cast<const uint16_t *>(b);
  int64_t e = 0;
  if (stride == 1)
    for (; e + kLanes <= n; e += kLanes) {
      const auto first = hn::PromoteTo(d32, hn::LoadU(d16, low + e));
      const auto second =
          high != nullptr ? hn::PromoteTo(d32, hn::LoadU(d16, high + e)) : hn::Zero(d32);
      hn::StoreU(hn::Or(first, hn::ShiftLeft<16>(second)), d32, to + e);
    }
  for (; e < n; ++e)
    to[e] = low[e * stride] | (high != nullptr ? static_cast<uint32_t>(high[e * stride]) << 16 : 0);
}

/// n values of q8_0, n a multiple of 32.
HWY_INLINE void read_q8_0(const uint8_t *from, int64_t n, float *HWY_RESTRICT to) {
  for (int64_t e = 0; e < n; e += 32, from += 34) quant::DecodeQ8_0::decode(from, to + e);
}

/// n values of mlx_affine4 with scales of type S.
template <class S>
HWY_INLINE void read_affine4(const uint8_t *codes, const S *scales, const S *biases, int64_t group,
                             int64_t n, float *HWY_RESTRICT to) {
  for (int64_t e = 0; e < n; e += group, ++scales, ++biases)
    quant::decode_affine<4, S>(codes + e / 2, group, load_scalar(scales), load_scalar(biases),
                               to + e);
}

template <class S>
HWY_INLINE void read_affine4_at(const Call &c, bool values, Place at, int64_t head, float *to) {
  const sy_tensor &t = values ? *c.v : *c.k;
  read_affine4(
      reinterpret_cast<const uint8_t *>(element<const uint32_t>(t, at.outer, head, at.slot)),
      element<const S>(values ? *c.v_scales : *c.k_scales, at.outer, head, at.slot),
      element<const S>(values ? *c.v_biases : *c.k_biases, at.outer, head, at.slot), c.kv_group,
      values ? c.dv : c.dk, to);
}

/// Row j of k or v; T is the element type of those that are not quantised.
template <class T>
inline void read_key(const Call &c, bool values, int64_t b, int64_t head, int64_t j,
                     float *HWY_RESTRICT to) {
  const sy_tensor &t = values ? *c.v : *c.k;
  const int64_t n = values ? c.dv : c.dk;
  const Place at = place_of(c, b, j);
  if (c.format == SY_QUANT_NONE) {
    widen_row(element<const T>(t, at.outer, head, at.slot), t.strides[3], n, to);
  } else if (c.format == SY_QUANT_Q8_0) {
    read_q8_0(element<const uint8_t>(t, at.outer, head, at.slot), n, to);
  } else if (c.k_scales->dtype.bits == 32) {
    read_affine4_at<float>(c, values, at, head, to);
  } else if (c.k_scales->dtype.code == SY_TYPE_BFLOAT) {
    read_affine4_at<bfloat16_t>(c, values, at, head, to);
  } else {
    read_affine4_at<float16_t>(c, values, at, head, to);
  }
}

}  // namespace attention
}  // namespace SY_ISA
}  // namespace switchyard::cpu
