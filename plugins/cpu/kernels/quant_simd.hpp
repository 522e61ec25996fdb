// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Vector helpers of the quantisation kernels: loads of f32, f16 and bf16 as f32, rounded stores,
/// codes as bytes. For kernel sources only (needs SY_ISA). Plain arithmetic must not be fused into
/// multiply-adds: the build sets -ffp-contract=off.

#include <hwy/cache_control.h>
#include <hwy/highway.h>
#include <stdint.h>
#include <string.h>
#include <switchyard/plugin.h>

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

namespace hn = hwy::HWY_NAMESPACE;
using hwy::bfloat16_t;
using hwy::float16_t;

using DF = hn::ScalableTag<float>;
using DU = hn::RebindToUnsigned<DF>;
using DI = hn::RebindToSigned<DF>;
using VF = hn::Vec<DF>;
using VU = hn::Vec<DU>;
inline constexpr int kLanes = static_cast<int>(hn::MaxLanes(DF()));  ///< floats in a vector

inline constexpr uint32_t kInfBits = 0x7F800000u;
/// 1.5 * 2^23: adding it rounds |v| < 2^22 to the nearest even integer, which then stands in the
/// low bits of the sum (two's complement).
inline constexpr float kMagic = 12582912.0f;

template <class T>
HWY_INLINE VF load_f32(const T *p) {
  const DF df;
  if constexpr (sizeof(T) == 4) {
    return hn::LoadU(df, p);
  } else {
    return hn::PromoteTo(df, hn::LoadU(hn::Rebind<T, DF>(), p));
  }
}

/// The upper halves of lanes hold v rounded to bf16 (nearest, ties to even); NaN stays NaN.
HWY_INLINE VU bf16_high_halves(VF v) {
  const DU du;
  const VU bits = hn::BitCast(du, v);
  const VU even = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const VU rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7FFF)), even);
  const VU nan = hn::Or(bits, hn::Set(du, 0x400000));
  return hn::IfThenElse(hn::RebindMask(du, hn::Ne(v, v)), nan, rounded);
}

/// Rounds to T (nearest, ties to even).
template <class T>
HWY_INLINE void store_rounded(VF v, T *p) {
  if constexpr (sizeof(T) == 4) {
    hn::StoreU(v, DF(), p);
  } else if constexpr (__is_same(T, float16_t)) {
    const hn::Rebind<float16_t, DF> dh;
    hn::StoreU(hn::DemoteTo(dh, v), dh, p);
  } else {
    const hn::Rebind<uint16_t, DF> dh;
    hn::StoreU(hn::TruncateTo(dh, hn::ShiftRight<16>(bf16_high_halves(v))), dh,
               reinterpret_cast<uint16_t *>(p));
  }
}

/// v rounded to T, as f32.
template <class T>
HWY_INLINE VF rounded(VF v) {
  if constexpr (sizeof(T) == 4) {
    return v;
  } else if constexpr (__is_same(T, float16_t)) {
    return hn::PromoteTo(DF(), hn::DemoteTo(hn::Rebind<float16_t, DF>(), v));
  } else {
    return hn::BitCast(DF(), hn::And(bf16_high_halves(v), hn::Set(DU(), 0xFFFF0000u)));
  }
}

HWY_INLINE uint32_t bits_of(float v) { return __builtin_bit_cast(uint32_t, v); }
HWY_INLINE float float_of(uint32_t v) { return __builtin_bit_cast(float, v); }

/// The bits of v rounded to f16.
HWY_INLINE uint16_t f16_bits(float v) {
  const hn::CappedTag<float, 4> d4;
  const hn::Rebind<float16_t, decltype(d4)> dh;
  const hn::Rebind<uint16_t, decltype(d4)> du;
  return hn::GetLane(hn::BitCast(du, hn::DemoteTo(dh, hn::Set(d4, v))));
}

template <class T>
HWY_INLINE float load_scalar(const T *p) {
  if constexpr (sizeof(T) == 4) {
    return *p;
  } else {
    uint16_t h;
    memcpy(&h, p, sizeof(h));
    if constexpr (__is_same(T, bfloat16_t)) {
      return float_of(static_cast<uint32_t>(h) << 16);
    } else {
      const hn::CappedTag<float, 4> d4;
      const hn::Rebind<uint16_t, decltype(d4)> du;
      const hn::Rebind<float16_t, decltype(d4)> dh;
      return hn::GetLane(hn::PromoteTo(d4, hn::BitCast(dh, hn::Set(du, h))));
    }
  }
}

template <class T>
HWY_INLINE void store_scalar(float v, T *p) {
  if constexpr (sizeof(T) == 4) {
    *p = v;
  } else if constexpr (__is_same(T, float16_t)) {
    const uint16_t h = f16_bits(v);
    memcpy(p, &h, sizeof(h));
  } else {
    const uint32_t b = bits_of(v);
    const uint32_t h = v != v ? (b >> 16 | 0x40u) : ((b + 0x7FFFu + (b >> 16 & 1u)) >> 16);
    const uint16_t h16 = static_cast<uint16_t>(h);
    memcpy(p, &h16, sizeof(h16));
  }
}

template <class T>
inline constexpr float kLargestFinite = sizeof(T) == 4             ? 3.40282347e+38f
                                        : __is_same(T, bfloat16_t) ? 3.38953139e+38f
                                                                   : 65504.0f;

/// The low byte of each lane, in order: kLanes bytes.
HWY_INLINE void store_bytes(VU v, uint8_t *p) {
#if HWY_TARGET <= HWY_AVX3
  _mm_storeu_si128(reinterpret_cast<__m128i *>(p), _mm512_cvtepi32_epi8(v.raw));
#else
  const hn::Rebind<uint8_t, DU> d8;
  hn::StoreU(hn::TruncateTo(d8, v), d8, p);
#endif
}

/// The low byte of each pair of lanes, in order: kLanes / 2 bytes.
HWY_INLINE void store_pair_bytes(VU v, uint8_t *p) {
#if HWY_TARGET <= HWY_AVX3
  _mm_storel_epi64(reinterpret_cast<__m128i *>(p), _mm512_cvtepi64_epi8(v.raw));
#else
  const hn::RepartitionToWide<DU> d64;
  const hn::Rebind<uint8_t, decltype(d64)> d8;
  hn::StoreU(hn::TruncateTo(d8, hn::BitCast(d64, v)), d8, p);
#endif
}

/// Bit i = lane i.
template <class M>
HWY_INLINE uint32_t mask_bits(M m) {
#if HWY_TARGET <= HWY_AVX3
  return static_cast<uint32_t>(m.raw);
#else
  return static_cast<uint32_t>(hn::detail::BitsFromMask(m));
#endif
}

/// |v| as bits: integers that order like magnitudes, infinities above all numbers, NaN above those.
HWY_INLINE VU magnitude_bits(VF v) {
  return hn::And(hn::BitCast(DU(), v), hn::Set(DU(), 0x7FFFFFFFu));
}

/// 1/d, and 0 where there is none.
HWY_INLINE float inverse(float d) {
  const float id = 1.0f / d;  // infinite for 0 and the least subnormals
  return (bits_of(id) & 0x7FFFFFFFu) == kInfBits ? 0.0f : id;
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
