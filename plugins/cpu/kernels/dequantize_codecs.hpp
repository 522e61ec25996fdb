// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Decoders: codes -> f32 -> the element type of y.

#include "quant_driver.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

/// kLanes bytes as u32.
HWY_INLINE VU load_bytes(const uint8_t *p) {
  return hn::PromoteTo(DU(), hn::LoadU(hn::Rebind<uint8_t, DU>(), p));
}
HWY_INLINE VF to_float(VU small) { return hn::ConvertTo(DF(), hn::BitCast(DI(), small)); }
/// kLanes signed bytes as f32.
HWY_INLINE VF load_codes(const uint8_t *p) {
  const hn::Rebind<int8_t, DF> d8;
  return hn::ConvertTo(DF(),
                       hn::PromoteTo(DI(), hn::LoadU(d8, reinterpret_cast<const int8_t *>(p))));
}
HWY_INLINE float get_scale(const uint8_t *p) {
  return load_scalar(reinterpret_cast<const float16_t *>(p));
}

struct DecodeQ4_0 {
  static constexpr int kBlock = 32, kBytes = 18;

  template <class T>
  HWY_INLINE static void decode(const uint8_t *block, T *y) {
    const DF df;
    const VF d = hn::Set(df, get_scale(block)), eight = hn::Set(df, 8.0f);
    for (int j = 0; j < 16; j += kLanes) {
      const VU bytes = load_bytes(block + 2 + j);
      const VU low = hn::And(bytes, hn::Set(DU(), 15u)), high = hn::ShiftRight<4>(bytes);
      store_rounded(hn::Mul(hn::Sub(to_float(low), eight), d), y + j);
      store_rounded(hn::Mul(hn::Sub(to_float(high), eight), d), y + 16 + j);
    }
  }
};

struct DecodeQ8_0 {
  static constexpr int kBlock = 32, kBytes = 34;

  template <class T>
  HWY_INLINE static void decode(const uint8_t *block, T *y) {
    const VF d = hn::Set(DF(), get_scale(block));
    for (int j = 0; j < kBlock; j += kLanes)
      store_rounded(hn::Mul(load_codes(block + 2 + j), d), y + j);
  }
};

struct DecodeTQ2_0 {
  static constexpr int kBlock = 256, kBytes = 66;

  template <int kShift, class T>
  HWY_INLINE static void put(VU bytes, VF d, T *y) {
    const VU t = hn::And(hn::ShiftRight<kShift>(bytes), hn::Set(DU(), 3u));
    store_rounded(hn::Mul(hn::Sub(to_float(t), hn::Set(DF(), 1.0f)), d), y);
  }

  template <class T>
  HWY_INLINE static void decode(const uint8_t *block, T *y) {
    const VF d = hn::Set(DF(), get_scale(block + 64));
    for (int half = 0; half < 2; ++half)
      for (int m = 0; m < 32; m += kLanes) {
        const VU bytes = load_bytes(block + 32 * half + m);
        T *to = y + 128 * half + m;
        put<0>(bytes, d, to);
        put<2>(bytes, d, to + 32);
        put<4>(bytes, d, to + 64);
        put<6>(bytes, d, to + 96);
      }
  }
};

/// The kLanes 4-bit codes at p, as u32.
HWY_INLINE VU load_nibbles(const uint8_t *p) {
  const DU du;
  uint32_t words[kLanes / 8];
  memcpy(words, p, sizeof(words));
  VU spread;
  if constexpr (kLanes == 8) {
    spread = hn::Set(du, words[0]);
  } else {
    const hn::Half<DU> dh;
    spread = hn::Combine(du, hn::Set(dh, words[kLanes / 8 - 1]), hn::Set(dh, words[0]));
  }
  alignas(64) static constexpr uint32_t kShifts[16] = {0, 4, 8, 12, 16, 20, 24, 28,
                                                       0, 4, 8, 12, 16, 20, 24, 28};
  return hn::And(hn::Shr(spread, hn::Load(du, kShifts)), hn::Set(du, 15u));
}

/// One group of MLX affine: a product and a sum, each rounded to the dtype of the scales.
template <int kBits, class TS, class T>
HWY_INLINE void decode_affine(const uint8_t *codes, int64_t group, float scale, float bias, T *y) {
  const VF s = hn::Set(DF(), scale), b = hn::Set(DF(), bias);
  for (int64_t i = 0; i < group; i += kLanes) {
    const VU q = kBits == 8 ? load_bytes(codes + i) : load_nibbles(codes + i / 2);
    const VF product = rounded<TS>(hn::Mul(to_float(q), s));
    VF value = hn::Add(product, b);
    if constexpr (!__is_same(TS, T)) value = rounded<TS>(value);
    store_rounded(value, y + i);
  }
}

/// n int8 codes times one scale.
template <class T>
HWY_INLINE void decode_ternary(const uint8_t *codes, int64_t n, float scale, T *y) {
  const VF m = hn::Set(DF(), scale);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_rounded(hn::Mul(load_codes(codes + i), m), y + i);
  if (i < n) {
    uint8_t rest[kLanes] = {};
    T out[kLanes];
    memcpy(rest, codes + i, static_cast<size_t>(n - i));
    store_rounded(hn::Mul(load_codes(rest), m), out);
    memcpy(y + i, out, static_cast<size_t>(n - i) * sizeof(T));
  }
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
