// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Encoders of ggml blocks of 32 values with one or two scales: block by block in one pass over
/// registers, and many side by side.

#include "quantize_batch.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

/// Bits of the first of 32 values that has this magnitude.
template <class T>
HWY_INLINE uint32_t first_of_magnitude(const T *x, uint32_t magnitude) {
  const VU wanted = hn::Set(DU(), magnitude);
  uint32_t found = 0;
  for (int i = 0; i < 32; i += kLanes)
    found |= mask_bits(hn::Eq(magnitude_bits(load_f32(x + i)), wanted)) << i;
  return bits_of(load_scalar(x + __builtin_ctz(found)));
}

/// Bits of the first value of the largest magnitude among 32; at least kInfBits without the sign if
/// any is not finite. Zeros count as positive.
template <class T>
HWY_INLINE uint32_t signed_largest_bits(const T *x) {
  const DU du;
  // The sign goes below the magnitude: of equal magnitudes a negative value has the largest key.
  VU keys = hn::Zero(du);
  for (int i = 0; i < 32; i += kLanes)
    keys = hn::Max(keys, hn::RotateRight<31>(hn::BitCast(du, load_f32(x + i))));
  const uint32_t key = hn::GetLane(hn::MaxOfLanes(du, keys));
  const uint32_t bits = key >> 1 | key << 31;
  if (HWY_LIKELY((bits >> 31) == 0)) return bits;
  auto positive = hn::MaskFromVec(hn::Zero(du));
  for (int i = 0; i < 32; i += kLanes)
    positive = hn::Or(positive, hn::Eq(hn::BitCast(du, load_f32(x + i)), hn::Set(du, key >> 1)));
  if (HWY_LIKELY(hn::AllFalse(du, positive))) return key == 1 ? 0 : bits;
  return key == 1 ? 0 : first_of_magnitude(x, key >> 1);  // both signs
}

/// The same of each of kBatch blocks; false if any value is not finite.
template <class T>
HWY_INLINE bool signed_largest_of_batch(const T *x, VU *largest) {
  const DU du;
  const DI di;
  // As signed integers positive values come out largest, as unsigned ones negative values.
  const auto most =
      fold_blocks<32>(di, x, Larger(), [](VF v) HWY_ATTR { return hn::BitCast(DI(), v); });
  const VU least =
      fold_blocks<32>(du, x, Larger(), [](VF v) HWY_ATTR { return hn::BitCast(DU(), v); });
  const VU sign = hn::Set(du, 0x80000000u);
  const VU up = hn::BitCast(du, hn::Max(most, hn::Zero(di)));
  const VU down = hn::Sub(hn::Max(least, sign), sign);
  if (HWY_UNLIKELY(!all_finite(hn::Max(up, down)))) return false;
  *largest = hn::IfThenElse(hn::Gt(down, up), hn::Or(down, sign), up);
  uint32_t both = mask_bits(hn::And(hn::Eq(down, up), hn::Ne(up, hn::Zero(du))));
  if (HWY_UNLIKELY(both != 0)) {  // both signs: the first counts
    alignas(64) uint32_t lanes[kBatch];
    hn::Store(*largest, du, lanes);
    for (; both != 0; both &= both - 1) {
      const int b = __builtin_ctz(both);
      lanes[b] = first_of_magnitude(x + b * 32, lanes[b]);
    }
    *largest = hn::Load(du, lanes);
  }
  return true;
}

/// Least and greatest of all lanes.
struct Extremes {
  float min, max;
};
HWY_INLINE Extremes extremes_of(VF least, VF most) {
#if HWY_TARGET <= HWY_AVX3
  // Both reductions side by side, in narrow registers.
  const hn::Full256<float> d256;
  const hn::Full128<float> d128;
  const auto low = hn::Min(hn::LowerHalf(d256, least), hn::UpperHalf(d256, least));
  const auto high = hn::Max(hn::LowerHalf(d256, most), hn::UpperHalf(d256, most));
  const auto a = hn::Neg(hn::Min(hn::LowerHalf(d128, low), hn::UpperHalf(d128, low)));
  const auto b = hn::Max(hn::LowerHalf(d128, high), hn::UpperHalf(d128, high));
  auto both = hn::Max(hn::InterleaveLower(d128, a, b), hn::InterleaveUpper(d128, a, b));
  both = hn::Max(both, hn::Shuffle1032(both));
  return {-hn::GetLane(both), hn::ExtractLane(both, 1)};
#else
  return {hn::GetLane(hn::MinOfLanes(DF(), least)), hn::GetLane(hn::MaxOfLanes(DF(), most))};
#endif
}

/// Codes below 16 of values j and j + 16, as bytes in lanes.
HWY_INLINE VU join_nibbles(VU low, VU high) {
  const VU mask = hn::Set(DU(), 15u);
  return hn::Or(hn::And(low, mask), hn::ShiftLeft<4>(hn::And(high, mask)));
}

/// Q4_0 and Q5_0: codes around half of their range.
template <int kTop, int kScaleAt, int kFifthAt, int kNibblesAt>
struct SignedCodec {
  static constexpr int kBlock = 32, kBytes = kNibblesAt + 16;
  static constexpr bool kWiden = false;

  template <class T>
  HWY_INLINE static Encoded encode(const T *x, uint8_t *out) {
    const DF df;
    constexpr float kHalf = (kTop + 1) / 2;
    const uint32_t largest = signed_largest_bits(x);
    if ((largest & 0x7FFFFFFFu) >= kInfBits) return Encoded::nonfinite;
    const float d = float_of(largest) * (-1.0f / kHalf);  // exact, like a division
    const VF id = hn::Set(df, inverse(d));
    const VF offset = hn::Set(df, kHalf + 0.5f), top = hn::Set(df, float{kTop});
    uint32_t fifth = 0;
    for (int j = 0; j < 16; j += kLanes) {
      const auto code = [&](const T *p) HWY_ATTR {
        return hn::Min(hn::Trunc(hn::Add(hn::Mul(load_f32(p), id), offset)), top);
      };
      const VF low = code(x + j), high = code(x + j + 16);
      if constexpr (kTop == 15) {
        const VF byte = hn::MulAdd(high, hn::Set(df, 16.0f), low);
        store_bytes(hn::BitCast(DU(), hn::Add(byte, hn::Set(df, kMagic))), out + kNibblesAt + j);
      } else {
        const VF sixteen = hn::Set(df, 16.0f);
        fifth |= mask_bits(hn::Ge(low, sixteen)) << j | mask_bits(hn::Ge(high, sixteen))
                                                            << (16 + j);
        const VU l = hn::BitCast(DU(), to_int(low)), h = hn::BitCast(DU(), to_int(high));
        store_bytes(join_nibbles(l, h), out + kNibblesAt + j);
      }
    }
    if constexpr (kTop > 15) memcpy(out + kFifthAt, &fifth, sizeof(fifth));
    return put_scale(d, out + kScaleAt) ? Encoded::ok : Encoded::overflow;
  }

  template <class T>
  HWY_INLINE static bool encode_batch(const T *x, uint8_t *out) {
    const DF df;
    constexpr float kHalf = (kTop + 1) / 2;
    VU largest;
    if (!signed_largest_of_batch(x, &largest)) return false;
    const VF d = hn::Mul(hn::BitCast(df, largest), hn::Set(df, -1.0f / kHalf));
    alignas(64) float id[kBatch];
    if (!put_scales<kBytes>(d, out + kScaleAt, id)) return false;
    const VF offset = hn::Set(df, kHalf + 0.5f);
    pack_batch<kTop, kBytes, kFifthAt, kNibblesAt>(x, out, [&](VF v, int b) HWY_ATTR {
      return truncated(hn::Add(hn::Mul(v, hn::Set(df, id[b])), offset));
    });
    return true;
  }
};
using Q4_0 = SignedCodec<15, 0, 0, 2>;
using Q5_0 = SignedCodec<31, 0, 2, 6>;

/// Of the zeros of either sign among x the first.
template <class T>
[[gnu::noinline]] float first_zero(const T *x, int n) {
  for (int i = 0; i < n; ++i)
    if (load_scalar(x + i) == 0.0f) return load_scalar(x + i);
  return 0.0f;
}

/// Q4_1 and Q5_1: codes above the least value.
template <int kTop, int kFifthAt, int kNibblesAt>
struct OffsetCodec {
  static constexpr int kBlock = 32, kBytes = kNibblesAt + 16;
  static constexpr bool kWiden = false;

  template <class T>
  HWY_INLINE static Encoded encode(const T *x, uint8_t *out) {
    const DF df;
    const DU du;
    VF least = load_f32(x), most = least;
    VU magnitude = magnitude_bits(least);
    for (int i = kLanes; i < kBlock; i += kLanes) {
      const VF v = load_f32(x + i);
      least = hn::Min(least, v);
      most = hn::Max(most, v);
      magnitude = hn::Max(magnitude, magnitude_bits(v));
    }
    if (HWY_UNLIKELY(!hn::AllFalse(du, hn::Gt(magnitude, hn::Set(du, kInfBits - 1)))))
      return Encoded::nonfinite;
    const Extremes e = extremes_of(least, most);
    float min = e.min;
    if (HWY_UNLIKELY(min == 0.0f)) min = first_zero(x, kBlock);
    // Of zeros of both signs either may come out as the greatest: the range is +0 all the same.
    const float range = e.max - min;
    const float d = float_of(bits_of(range) & 0x7FFFFFFFu) / float{kTop};
    const VF id = hn::Set(df, inverse(d)), offset = hn::Set(df, min);
    const VF half = hn::Set(df, 0.5f), top = hn::Set(df, float{kTop});
    uint32_t fifth = 0;
    for (int j = 0; j < 16; j += kLanes) {
      const auto code = [&](const T *p) HWY_ATTR {
        const VF v = hn::Mul(hn::Sub(load_f32(p), offset), id);
        return hn::Min(hn::Trunc(hn::Add(v, half)), top);
      };
      const VF low = code(x + j), high = code(x + j + 16);
      if constexpr (kTop == 15) {
        const VF byte = hn::MulAdd(high, hn::Set(df, 16.0f), low);
        store_bytes(hn::BitCast(du, hn::Add(byte, hn::Set(df, kMagic))), out + kNibblesAt + j);
      } else {
        const VF sixteen = hn::Set(df, 16.0f);
        fifth |= mask_bits(hn::Ge(low, sixteen)) << j | mask_bits(hn::Ge(high, sixteen))
                                                            << (16 + j);
        const VU l = hn::BitCast(du, to_int(low)), h = hn::BitCast(du, to_int(high));
        store_bytes(join_nibbles(l, h), out + kNibblesAt + j);
      }
    }
    if constexpr (kTop > 15) memcpy(out + kFifthAt, &fifth, sizeof(fifth));
    const bool d_fits = put_scale(d, out), min_fits = put_scale(min, out + 2);
    return d_fits && min_fits ? Encoded::ok : Encoded::overflow;
  }

  template <class T>
  HWY_INLINE static bool encode_batch(const T *x, uint8_t *out) {
    const DF df;
    const DU du;
    VF least, most;
    if (!extremes_of_batch<kBlock>(x, &least, &most)) return false;
    alignas(64) float min[kBatch], id[kBatch];
    uint32_t zeros = mask_bits(hn::RebindMask(du, hn::Eq(least, hn::Zero(df))));
    hn::Store(least, df, min);
    if (HWY_UNLIKELY(zeros != 0)) {
      for (; zeros != 0; zeros &= zeros - 1) {
        const int b = __builtin_ctz(zeros);
        min[b] = first_zero(x + b * kBlock, kBlock);
      }
      least = hn::Load(df, min);
    }
    const VF d = hn::Div(hn::Abs(hn::Sub(most, least)), hn::Set(df, float{kTop}));
    Scales scales, offsets;
    if (!scales.put(d) || !offsets.put(least)) return false;
    hn::Store(inverses(d), df, id);
    for (int b = 0; b < kBatch; ++b) {
      memcpy(out + b * kBytes, scales.bits + b, 2);
      memcpy(out + b * kBytes + 2, offsets.bits + b, 2);
    }
    const VF half = hn::Set(df, 0.5f);
    pack_batch<kTop, kBytes, kFifthAt, kNibblesAt>(x, out, [&](VF v, int b) HWY_ATTR {
      const VF q = hn::Mul(hn::Sub(v, hn::Set(df, min[b])), hn::Set(df, id[b]));
      return truncated(hn::Add(q, half));
    });
    return true;
  }
};
using Q4_1 = OffsetCodec<15, 0, 4>;
using Q5_1 = OffsetCodec<31, 4, 8>;

struct Q8_0 {
  static constexpr int kBlock = 32, kBytes = 34;
  static constexpr bool kWiden = false;

  template <class T>
  HWY_INLINE static Encoded encode(const T *x, uint8_t *out) {
    const DF df;
    const uint32_t amax = largest_magnitude_bits<kBlock>(x);
    if (amax >= kInfBits) return Encoded::nonfinite;
    const float d = float_of(amax) / 127.0f;
    const VF id = hn::Set(df, inverse(d));
    for (int j = 0; j < kBlock; j += kLanes) {
      const VF q = round_away(hn::Mul(load_f32(x + j), id));
      store_bytes(hn::BitCast(DU(), hn::Add(q, hn::Set(df, kMagic))), out + 2 + j);
    }
    return put_scale(d, out) ? Encoded::ok : Encoded::overflow;
  }

  template <class T>
  HWY_INLINE static bool encode_batch(const T *x, uint8_t *out) {
    const DF df;
    const VU amax = largest_magnitudes(x);
    if (HWY_UNLIKELY(!all_finite(amax))) return false;
    const VF d = hn::Div(hn::BitCast(df, amax), hn::Set(df, 127.0f));
    alignas(64) float id[kBatch];
    if (!put_scales<kBytes>(d, out, id)) return false;
    for (int i = 0; i < kBatch * kBlock; i += kCodes) {
      const auto part = [&](int k) HWY_ATTR {
        const int at = i + k * kLanes;
        return rounded_away(hn::Mul(load_f32(x + at), hn::Set(df, id[at / kBlock])));
      };
      const VB codes = narrow<true>(part(0), part(1), part(2), part(3));
      uint8_t *to = out + i / kBlock * kBytes + 2;
#if HWY_TARGET <= HWY_AVX3
      const hn::Full256<uint8_t> d256;
      hn::StoreU(hn::LowerHalf(d256, codes), d256, to);
      hn::StoreU(hn::UpperHalf(d256, codes), d256, to + kBytes);
#else
      hn::StoreU(codes, D8(), to);
#endif
    }
    return true;
  }
};

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
