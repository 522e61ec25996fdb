// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Q4_K and Q6_K. Their searches run across sub-blocks, one in each lane, so that every sum keeps
/// the order of the values within its sub-block.

#include "quantize_blocks.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

inline constexpr float kWholeRange = 4194303.0f;  ///< what the magic of to_int can take

/// even(v) within low..top; NaN becomes `low`.
HWY_INLINE VF clamped_even(VF v, VF low, VF top) {
  return hn::Round(hn::Min(hn::Max(v, low), top));
}
HWY_INLINE int clamped_even(float v, float low, float top) {
  if (!(v > low)) v = low;
  if (v > top) v = top;
  return static_cast<int>((v + kMagic) - kMagic);
}

/// kLanes sub-blocks of kN values: value l of sub-block j goes to at[l * kLanes + j].
template <int kN>
HWY_INLINE void transpose(const float *x, float *at) {
  for (int j = 0; j < kLanes; ++j)
    for (int l = 0; l < kN; ++l) at[l * kLanes + j] = x[j * kN + l];
}

/// What a search leaves of each lane. Codes follow from `step` and `base`.
struct FoundQ4 {
  alignas(64) float scale[kLanes], min[kLanes], step[kLanes], base[kLanes];
};

/// The step and the offset of least weighted error among 22 candidates, for kLanes sub-blocks of
/// 32.
inline void search_q4(const float *x, FoundQ4 *found) {
  const DF df;
  alignas(64) float xs[32 * kLanes], ws[32 * kLanes], qs[32 * kLanes];
  transpose<32>(x, xs);
  const VF zero = hn::Zero(df), fifteen = hn::Set(df, 15.0f);
  VF squares = zero;
  for (int l = 0; l < 32; ++l) {
    const VF v = hn::Load(df, xs + l * kLanes);
    squares = hn::Add(squares, hn::Mul(v, v));
  }
  const VF level = hn::Sqrt(hn::Mul(squares, hn::Set(df, 1.0f / 32.0f)));
  VF min = hn::Load(df, xs), max = min, sum_w = zero, sum_x = zero;
  for (int l = 0; l < 32; ++l) {
    const VF v = hn::Load(df, xs + l * kLanes);
    const VF w = hn::Add(level, hn::Abs(v));
    hn::Store(w, df, ws + l * kLanes);
    min = hn::Min(v, min);
    max = hn::Max(v, max);
    sum_w = l == 0 ? w : hn::Add(sum_w, w);
    sum_x = l == 0 ? hn::Mul(w, v) : hn::Add(sum_x, hn::Mul(w, v));
  }
  min = hn::Min(min, zero);
  VF step = hn::Div(fifteen, hn::Sub(max, min));
  const auto spread = hn::Lt(step, hn::Set(df, __builtin_inff()));  // else equal, or too close
  step = hn::IfThenElseZero(spread, step);
  VF scale = hn::IfThenElseZero(spread, hn::Div(hn::Set(df, 1.0f), step));
  VF base = min, best = zero;
  for (int l = 0; l < 32; ++l) {
    const VF v = hn::Load(df, xs + l * kLanes), w = hn::Load(df, ws + l * kLanes);
    const VF q = clamped_even(hn::Mul(step, hn::Sub(v, min)), zero, fifteen);
    const VF miss = hn::Sub(hn::Add(hn::Mul(scale, q), min), v);
    best = hn::Add(best, hn::Mul(w, hn::Mul(miss, miss)));
  }
  for (int k = 0; k <= 20; ++k) {
    // `min` is the best one so far, not that of the values.
    const VF trial =
        hn::Div(hn::Set(df, -1.0f + 0.1f * static_cast<float>(k) + 15.0f), hn::Sub(max, min));
    VF sum_q = zero, sum_qq = zero, sum_qx = zero;
    for (int l = 0; l < 32; ++l) {
      const VF v = hn::Load(df, xs + l * kLanes), w = hn::Load(df, ws + l * kLanes);
      const VF q = clamped_even(hn::Mul(trial, hn::Sub(v, min)), zero, fifteen);
      hn::Store(q, df, qs + l * kLanes);
      const VF wq = hn::Mul(w, q);
      sum_q = hn::Add(sum_q, wq);
      sum_qq = hn::Add(sum_qq, hn::Mul(wq, q));
      sum_qx = hn::Add(sum_qx, hn::Mul(wq, v));
    }
    const VF determinant = hn::Sub(hn::Mul(sum_w, sum_qq), hn::Mul(sum_q, sum_q));
    const auto solvable = hn::And(spread, hn::Gt(determinant, zero));
    if (hn::AllFalse(df, solvable)) continue;
    VF s = hn::Div(hn::Sub(hn::Mul(sum_w, sum_qx), hn::Mul(sum_x, sum_q)), determinant);
    VF m = hn::Div(hn::Sub(hn::Mul(sum_qq, sum_x), hn::Mul(sum_q, sum_qx)), determinant);
    const auto positive = hn::Gt(m, zero);
    m = hn::IfThenZeroElse(positive, m);
    s = hn::IfThenElse(positive, hn::Div(sum_qx, sum_qq), s);
    VF error = zero;
    for (int l = 0; l < 32; ++l) {
      const VF v = hn::Load(df, xs + l * kLanes), w = hn::Load(df, ws + l * kLanes);
      const VF miss = hn::Sub(hn::Add(hn::Mul(s, hn::Load(df, qs + l * kLanes)), m), v);
      error = hn::Add(error, hn::Mul(w, hn::Mul(miss, miss)));
    }
    const auto better = hn::And(solvable, hn::Lt(error, best));
    step = hn::IfThenElse(better, trial, step);
    base = hn::IfThenElse(better, min, base);
    best = hn::IfThenElse(better, error, best);
    scale = hn::IfThenElse(better, s, scale);
    min = hn::IfThenElse(better, m, min);
  }
  hn::Store(scale, df, found->scale);
  hn::Store(hn::Neg(min), df, found->min);
  hn::Store(step, df, found->step);
  hn::Store(base, df, found->base);
}

struct Q4_K {
  static constexpr int kBlock = 256, kBytes = 144;
  static constexpr bool kWiden = true;
  static constexpr Pace kPace = kSearchPace;

  /// Eight numbers in units of 1/63 of the largest above 0; the unit. A number below 0 wraps around
  /// in 8 bits first, as its owner has it.
  HWY_INLINE static float six_bits(const float *v, int *out) {
    float largest = 0.0f;
    for (int j = 0; j < 8; ++j) largest = v[j] > largest ? v[j] : largest;
    const float factor = largest > 0.0f ? 63.0f / largest : 0.0f;
    const bool usable = bits_of(factor) < kInfBits;
    for (int j = 0; j < 8; ++j) {
      const float units = (usable ? factor : 0.0f) * v[j];
      const int byte = clamped_even(units, -kWholeRange - 1.0f, kWholeRange) & 255;
      out[j] = byte < 63 ? byte : 63;
    }
    return largest / 63.0f;
  }

  /// The block whose sub-blocks are lanes lane..lane+7 of `found`.
  static Encoded write(const float *x, const FoundQ4 &found, int lane, uint8_t *out) {
    const DF df;
    int s[8], m[8];
    const float d = six_bits(found.scale + lane, s), offset = six_bits(found.min + lane, m);
    const bool d_fits = put_scale(d, out), offset_fits = put_scale(offset, out + 2);
    if (!d_fits || !offset_fits) return Encoded::overflow;
    for (int j = 0; j < 4; ++j) {
      out[4 + j] = static_cast<uint8_t>(s[j] | (s[j + 4] >> 4) << 6);
      out[8 + j] = static_cast<uint8_t>(m[j] | (m[j + 4] >> 4) << 6);
      out[12 + j] = static_cast<uint8_t>((s[j + 4] & 15) | (m[j + 4] & 15) << 4);
    }
    const float rounded_d = load_scalar(reinterpret_cast<const float16_t *>(out));
    const float rounded_offset = load_scalar(reinterpret_cast<const float16_t *>(out + 2));
    VF step[2], base[2];
    bool divides[2];
    for (int j = 0; j < 8; ++j) {
      const int side = j % 2;
      const float scale = rounded_d * static_cast<float>(s[j]);
      divides[side] = scale != 0.0f;  // else the codes that the search found
      step[side] = hn::Set(df, divides[side] ? scale : found.step[lane + j]);
      base[side] = hn::Set(
          df, divides[side] ? rounded_offset * static_cast<float>(m[j]) : found.base[lane + j]);
      if (side == 0) continue;
      const float *at = x + 32 * (j - 1);
      for (int l = 0; l < 32; l += kLanes) {
        const auto code = [&](int half) HWY_ATTR {
          const VF v = load_f32(at + 32 * half + l);
          const VF units = divides[half] ? hn::Div(hn::Add(v, base[half]), step[half])
                                         : hn::Mul(step[half], hn::Sub(v, base[half]));
          return clamped_even(units, hn::Zero(df), hn::Set(df, 15.0f));
        };
        const VF byte = hn::MulAdd(code(1), hn::Set(df, 16.0f), code(0));
        store_bytes(hn::BitCast(DU(), hn::Add(byte, hn::Set(df, kMagic))),
                    out + 16 + 16 * (j - 1) + l);
      }
    }
    return Encoded::ok;
  }

  static Encoded encode(const float *x, uint8_t *out) {
    if (largest_magnitude_bits<kBlock>(x) >= kInfBits) return Encoded::nonfinite;
    FoundQ4 found;
    if constexpr (kLanes == 8) {
      search_q4(x, &found);
    } else {  // half of the lanes idle
      alignas(64) float padded[32 * kLanes] = {};
      memcpy(padded, x, kBlock * sizeof(float));
      search_q4(padded, &found);
    }
    return write(x, found, 0, out);
  }

#if HWY_TARGET <= HWY_AVX3
  static Encoded encode_pair(const float *x, uint8_t *out) {
    static_assert(kLanes == 16);
    if (largest_magnitude_bits<2 * kBlock>(x) >= kInfBits) return Encoded::nonfinite;
    FoundQ4 found;
    search_q4(x, &found);
    const Encoded first = write(x, found, 0, out);
    return first != Encoded::ok ? first : write(x + kBlock, found, 8, out + kBytes);
  }
#endif
};

struct FoundQ6 {
  alignas(64) float scale[16], step[16];
  uint32_t zero = 0;  ///< bit j: sub-block j counts as zeros
};

inline constexpr float kLeast = 1e-15f;  ///< magnitudes below count as zero

/// The scale that explains each of kLanes sub-blocks of 16 best among 19 candidates.
inline void search_q6(const float *x, int lane, FoundQ6 *found) {
  const DF df;
  alignas(64) float xs[16 * kLanes], ws[16 * kLanes], wxs[16 * kLanes];
  transpose<16>(x, xs);
  const VF zero = hn::Zero(df), low = hn::Set(df, -32.0f), top = hn::Set(df, 31.0f);
  VF amax = zero, smax = zero;
  for (int l = 0; l < 16; ++l) {
    const VF v = hn::Load(df, xs + l * kLanes), w = hn::Mul(v, v);
    hn::Store(w, df, ws + l * kLanes);
    hn::Store(hn::Mul(w, v), df, wxs + l * kLanes);
    const auto larger = hn::Gt(hn::Abs(v), amax);
    smax = hn::IfThenElse(larger, v, smax);
    amax = hn::Max(amax, hn::Abs(v));
  }
  const auto zeros = hn::Lt(amax, hn::Set(df, kLeast));
  VF scale = zero, best = zero, step = zero;
  for (int trial = 0; trial < 19; ++trial) {
    // 0 first, then -9..9 without it.
    const int k = trial == 0 ? 0 : trial <= 9 ? trial - 10 : trial - 9;
    const VF inverse = hn::Div(hn::Set(df, -(32.0f + 0.1f * static_cast<float>(k))), smax);
    VF sum_x = zero, sum_q = zero;
    for (int l = 0; l < 16; ++l) {
      const VF v = hn::Load(df, xs + l * kLanes);
      const VF q = clamped_even(hn::Mul(inverse, v), low, top);
      sum_x = hn::Add(sum_x, hn::Mul(hn::Load(df, wxs + l * kLanes), q));
      sum_q = hn::Add(sum_q, hn::Mul(hn::Mul(hn::Load(df, ws + l * kLanes), q), q));
    }
    const VF s = hn::Div(sum_x, sum_q);
    if (trial == 0) {
      scale = hn::IfThenElseZero(hn::Ne(sum_q, zero), s);
      best = hn::Mul(scale, sum_x);
      step = inverse;
      continue;
    }
    const auto better =
        hn::And(hn::Gt(sum_q, zero), hn::Gt(hn::Mul(sum_x, sum_x), hn::Mul(best, sum_q)));
    scale = hn::IfThenElse(better, s, scale);
    best = hn::IfThenElse(better, hn::Mul(s, sum_x), best);
    step = hn::IfThenElse(better, inverse, step);
  }
  hn::Store(hn::IfThenZeroElse(zeros, scale), df, found->scale + lane);
  hn::Store(step, df, found->step + lane);
  found->zero |= mask_bits(zeros) << lane;
}

struct Q6_K {
  static constexpr int kBlock = 256, kBytes = 210;
  static constexpr bool kWiden = true;
  static constexpr Pace kPace = kSearchPace;

  static Encoded encode(const float *x, uint8_t *out) {
    const DF df;
    if (largest_magnitude_bits<kBlock>(x) >= kInfBits) return Encoded::nonfinite;
    FoundQ6 found;
    for (int lane = 0; lane < 16; lane += kLanes) search_q6(x + 16 * lane, lane, &found);
    float largest = 0.0f;
    for (int j = 0; j < 16; ++j) {
      const float magnitude = __builtin_fabsf(found.scale[j]);
      if (bits_of(magnitude) >= kInfBits) return Encoded::overflow;
      if (magnitude > __builtin_fabsf(largest)) largest = found.scale[j];
    }
    if (__builtin_fabsf(largest) < kLeast) {
      memset(out, 0, kBytes);
      return Encoded::ok;
    }
    const float units = -128.0f / largest;
    if (!put_scale(1.0f / units, out + 208)) return Encoded::overflow;
    const float d = load_scalar(reinterpret_cast<const float16_t *>(out + 208));
    alignas(64) uint8_t codes[kBlock];
    for (int j = 0; j < 16; ++j) {
      const int s = clamped_even(units * found.scale[j], -128.0f, 127.0f);
      out[192 + j] = static_cast<uint8_t>(s);
      const float scale = d * static_cast<float>(s);
      const bool divides = scale != 0.0f;  // else the codes that the search found
      const bool zeros = !divides && (found.zero >> j & 1u) != 0;
      const VF by = hn::Set(df, divides ? scale : found.step[j]);
      for (int l = 16 * j; l < 16 * j + 16; l += kLanes) {
        const VF v = load_f32(x + l);
        VF q = divides ? hn::Div(v, by) : hn::Mul(v, by);
        q = clamped_even(q, hn::Set(df, -32.0f), hn::Set(df, 31.0f));
        q = zeros ? hn::Set(df, kMagic) : hn::Add(q, hn::Set(df, kMagic + 32.0f));
        store_bytes(hn::BitCast(DU(), q), codes + l);
      }
    }
    pack(codes, out);
    return Encoded::ok;
  }

 private:
  HWY_INLINE static void pack(const uint8_t *codes, uint8_t *out) {
    const hn::CappedTag<uint8_t, 32> d8;
    constexpr int kStep = static_cast<int>(hn::MaxLanes(decltype(d8)()));
    const auto low = hn::Set(d8, 15);
    for (int h = 0; h < 2; ++h)
      for (int l = 0; l < 32; l += kStep) {
        const uint8_t *at = codes + 128 * h + l;
        const auto a = hn::Load(d8, at), b = hn::Load(d8, at + 32), c = hn::Load(d8, at + 64),
                   e = hn::Load(d8, at + 96);
        hn::StoreU(hn::Or(hn::And(a, low), hn::ShiftLeft<4>(hn::And(c, low))), d8,
                   out + 64 * h + l);
        hn::StoreU(hn::Or(hn::And(b, low), hn::ShiftLeft<4>(hn::And(e, low))), d8,
                   out + 64 * h + 32 + l);
        const auto ab = hn::Or(hn::ShiftRight<4>(a), hn::ShiftLeft<2>(hn::ShiftRight<4>(b)));
        const auto ce = hn::Or(hn::ShiftRight<4>(c), hn::ShiftLeft<2>(hn::ShiftRight<4>(e)));
        hn::StoreU(hn::Or(ab, hn::ShiftLeft<4>(ce)), d8, out + 128 + 32 * h + l);
      }
  }
};

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
