// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Ternary blocks of ggml: TQ1_0, TQ2_0 and Q2_0, scaled by the largest magnitude or by BitNet's
/// mean.

#include "quantize_batch.hpp"
#include "quantize_ternary.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

/// How a block's scale comes about, and from it codes -1, 0, 1 as f32.
struct ByLargest {
  template <int kN, class T>
  HWY_INLINE static Encoded scale(const T *x, float *d) {
    const uint32_t amax = largest_magnitude_bits<kN>(x);
    *d = float_of(amax);
    return amax >= kInfBits ? Encoded::nonfinite : Encoded::ok;
  }
  HWY_INLINE static float factor(float d) { return inverse(d); }
  /// Half away from zero; |v| <= 1.
  HWY_INLINE static VF code(VF v) { return round_away(v); }
};

struct ByMean {
  template <int kN, class T>
  HWY_INLINE static Encoded scale(const T *x, float *d) {
    const double sum = block_sum(x, kN);
    *d = scale_of(sum, kN);
    return is_finite(sum) ? Encoded::ok : Encoded::nonfinite;
  }
  HWY_INLINE static float factor(float m) { return 1.0f / m; }
  HWY_INLINE static VF code(VF v) {
    const VF one = hn::Set(DF(), 1.0f);
    return hn::Round(hn::Max(hn::Min(v, one), hn::Neg(one)));
  }
};

template <class Rule>
struct TQ2_0 {
  static constexpr int kBlock = 256, kBytes = 66;
  static constexpr bool kWiden = false;

  template <class T>
  HWY_INLINE static Encoded encode(const T *x, uint8_t *out) {
    const DF df;
    float d;
    if (Rule::template scale<kBlock>(x, &d) != Encoded::ok) return Encoded::nonfinite;
    const VF id = hn::Set(df, Rule::factor(d));
    const auto code = [&](const T *p) HWY_ATTR { return Rule::code(hn::Mul(load_f32(p), id)); };
    for (int half = 0; half < 2; ++half)
      for (int m = 0; m < 32; m += kLanes) {
        const T *p = x + 128 * half + m;
        // Codes are -1..1 here; 85 = 1 + 4 + 16 + 64 lifts all four to 0..2.
        VF byte = hn::Add(code(p), hn::Set(df, 85.0f + kMagic));
        byte = hn::MulAdd(code(p + 32), hn::Set(df, 4.0f), byte);
        byte = hn::MulAdd(code(p + 64), hn::Set(df, 16.0f), byte);
        byte = hn::MulAdd(code(p + 96), hn::Set(df, 64.0f), byte);
        store_bytes(hn::BitCast(DU(), byte), out + 32 * half + m);
      }
    return put_scale(d, out + 64) ? Encoded::ok : Encoded::overflow;
  }
};

template <class Rule>
struct TQ1_0 {
  static constexpr int kBlock = 256, kBytes = 54;
  static constexpr bool kWiden = true;

  /// Five digits as a number to base 3, all one too low, to the byte that holds it:
  /// (256 (v + 121) + 242) / 243 rounded down, which a half more in the dividend keeps exact.
  HWY_INLINE static VF byte_of(VF v) {
    const DF df;
    return hn::Trunc(hn::MulAdd(v, hn::Set(df, 256.0f / 243.0f),
                                hn::Set(df, (256.0f * 121.0f + 242.5f) / 243.0f)));
  }

  HWY_INLINE static Encoded encode(const float *x, uint8_t *out) {
    const DF df;
    float d;
    if (Rule::template scale<kBlock>(x, &d) != Encoded::ok) return Encoded::nonfinite;
    const VF id = hn::Set(df, Rule::factor(d)), three = hn::Set(df, 3.0f);
    const auto code = [&](const float *p) HWY_ATTR { return Rule::code(hn::Mul(load_f32(p), id)); };
    const auto five = [&](const float *p, int step, uint8_t *to) HWY_ATTR {
      VF v = code(p);
      for (int n = 1; n < 5; ++n) v = hn::MulAdd(v, three, code(p + n * step));
      store_bytes(hn::BitCast(DU(), hn::Add(byte_of(v), hn::Set(df, kMagic))), to);
    };
    for (int m = 0; m < 32; m += kLanes) five(x + m, 32, out + m);
    for (int m = 0; m < 16; m += kLanes) five(x + 160 + m, 16, out + 32 + m);
    // The last 16 values fill four bytes, of which the least digit is 0 (here: -1).
    alignas(64) float last[16];
    for (int i = 0; i < 16; i += kLanes) hn::Store(code(x + 240 + i), df, last + i);
    for (int j = 0; j < 4; ++j) {
      float v = last[j];
      for (int n = 1; n < 4; ++n) v = v * 3.0f + last[j + 4 * n];
      const int number = static_cast<int>(v * 3.0f) + 120;
      out[48 + j] = static_cast<uint8_t>((256 * number + 242) / 243);
    }
    return put_scale(d, out + 52) ? Encoded::ok : Encoded::overflow;
  }
};

template <class Rule>
struct Q2_0 {
  static constexpr int kBlock = 64, kBytes = 18;
  static constexpr bool kWiden = true;

  HWY_INLINE static Encoded encode(const float *x, uint8_t *out) {
    const DF df;
    float d;
    if (Rule::template scale<kBlock>(x, &d) != Encoded::ok) return Encoded::nonfinite;
    const VF id = hn::Set(df, Rule::factor(d)), one = hn::Set(df, 1.0f);
    const auto code = [&](const float *p) HWY_ATTR {
      return to_int(hn::Add(Rule::code(hn::Mul(load_f32(p), id)), one));
    };
    for (int i = 0; i < kBlock; i += kCodes) {
      const float *p = x + i;
      pack_codes<2>(
          narrow<false>(code(p), code(p + kLanes), code(p + 2 * kLanes), code(p + 3 * kLanes)),
          out + 2 + i / 4);
    }
    return put_scale(d, out) ? Encoded::ok : Encoded::overflow;
  }

  template <class T>
  requires __is_same(Rule, ByLargest) HWY_INLINE
      static bool encode_batch(const T *x, uint8_t *out) {
    const DF df;
    const VU amax = largest_magnitudes<kBlock>(x);
    if (HWY_UNLIKELY(!all_finite(amax))) return false;
    const VF d = hn::BitCast(df, amax);
    alignas(64) float id[kBatch];
    if (!put_scales<kBytes>(d, out, id)) return false;
    for (int i = 0; i < kBatch * kBlock; i += kCodes) {
      const VF factor = hn::Set(df, id[i / kBlock]);
      const auto part = [&](int k) HWY_ATTR {
        return rounded_away(hn::Mul(load_f32(x + i + k * kLanes), factor));
      };
      const VB codes = narrow<true>(part(0), part(1), part(2), part(3));
      pack_codes<2>(hn::Add(codes, hn::Set(D8(), 1)),
                    out + i / kBlock * kBytes + 2 + i % kBlock / 4);
    }
    return true;
  }
};

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
