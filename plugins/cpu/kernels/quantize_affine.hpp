// SPDX-License-Identifier: Apache-2.0
#pragma once
/// MLX affine: a scale and a bias per group, codes as a bitstream with the low bits first.

#include "quantize_batch.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

/// Scale and bias of a group from its extremes, in f32 as the owner's CPU code computes them.
struct AffineScale {
  float scale, bias;
};

HWY_INLINE AffineScale affine_scale(float min, float max, float top) {
  const float wide = (max - min) / top;
  const float s = wide > 1e-7f ? wide : 1e-7f;
  const bool low_edge = float_of(bits_of(min) & 0x7FFFFFFFu) > float_of(bits_of(max) & 0x7FFFFFFFu);
  const float edge = low_edge ? min : max;
  const float signed_scale = low_edge ? s : -s;
  // Large where a group of equal values has the least scale: too large for the magic.
  const float q0 = __builtin_rintf(edge / signed_scale);
  return q0 != 0.0f ? AffineScale{edge / q0, edge} : AffineScale{signed_scale, 0.0f};
}

/// The same of kBatch groups.
struct AffineScales {
  alignas(64) float scale[kBatch], bias[kBatch], below[kBatch], above[kBatch];

  /// False where single groups must be looked at: ranges too wide for f32 or for reciprocals.
  HWY_INLINE bool find(VF min, VF max, float top) {
    const DF df;
    const DU du;
    const VF low_size = hn::Abs(min), high_size = hn::Abs(max);
    const VF wide = hn::Div(hn::Sub(max, min), hn::Set(df, top));
    const VF least = hn::Set(df, 1e-7f);
    const VF s = hn::IfThenElse(hn::Gt(wide, least), wide, least);
    const auto low_edge = hn::Gt(low_size, high_size);
    const VF edge = hn::IfThenElse(low_edge, min, max);
    const VF signed_scale = hn::IfThenElse(low_edge, s, hn::Neg(s));
    const VF q0 = hn::Round(hn::Div(edge, signed_scale));
    const auto on_edge = hn::Ne(q0, hn::Zero(df));
    const VF chosen = hn::IfThenElse(on_edge, hn::Div(edge, q0), signed_scale);
    if (HWY_UNLIKELY(
            !hn::AllTrue(du, hn::Lt(magnitude_bits(chosen), hn::Set(du, bits_of(0x1p64f))))))
      return false;
    hn::Store(chosen, df, scale);
    hn::Store(hn::IfThenElseZero(on_edge, edge), df, bias);
    // Products with these enclose the rounded quotient.
    const VF reciprocal = hn::Div(hn::Set(df, 1.0f), chosen);
    hn::Store(hn::Mul(reciprocal, hn::Set(df, 1.0f - 0x1p-22f)), df, below);
    hn::Store(hn::Mul(reciprocal, hn::Set(df, 1.0f + 0x1p-22f)), df, above);
    return true;
  }
};

/// kBatch groups; false where they must be encoded one by one.
template <int kBits, int kGroup, class T>
HWY_INLINE bool encode_affine_batch(const T *x, uint8_t *codes, T *scale, T *bias) {
  const DF df;
  constexpr float kTop = static_cast<float>((1 << kBits) - 1);
  VF least, most;
  AffineScales scales;
  if (!extremes_of_batch<kGroup>(x, &least, &most) || !scales.find(least, most, kTop)) return false;
  store_rounded(hn::Load(df, scales.scale), scale);
  store_rounded(hn::Load(df, scales.bias), bias);
  for (int i = 0; i < kBatch * kGroup; i += kCodes) {
    VI differ = hn::Zero(DI());
    const auto part = [&](int k) HWY_ATTR {
      const int at = i + k * kLanes, b = at / kGroup;
      const VF v = hn::Sub(load_f32(x + at), hn::Set(df, scales.bias[b]));
      const VI code = to_int(hn::Mul(v, hn::Set(df, scales.below[b])));
      const VI other = to_int(hn::Mul(v, hn::Set(df, scales.above[b])));
      differ = hn::Or(differ, hn::Xor(code, other));
      return code;
    };
    VB bytes = narrow<false>(part(0), part(1), part(2), part(3));
    if (HWY_UNLIKELY(!hn::AllFalse(DI(), hn::Ne(differ, hn::Zero(DI()))))) {
      // Close to a tie: only the quotient tells.
      const auto exact = [&](int k) HWY_ATTR {
        const int at = i + k * kLanes, b = at / kGroup;
        const VF v = hn::Sub(load_f32(x + at), hn::Set(df, scales.bias[b]));
        return to_int(hn::Div(v, hn::Set(df, scales.scale[b])));
      };
      bytes = narrow<false>(exact(0), exact(1), exact(2), exact(3));
    }
    if constexpr (kBits < 8) bytes = hn::Min(bytes, hn::Set(D8(), (1 << kBits) - 1));
    pack_codes<kBits>(bytes, codes + i * kBits / 8);
  }
  return true;
}

template <int kBits, int kGroup, class T, class TOut>
HWY_INLINE Encoded encode_affine(const T *x, uint8_t *codes, TOut *scale, TOut *bias) {
  const DF df;
  const DU du;
  constexpr float kTop = static_cast<float>((1 << kBits) - 1);
  VF min = load_f32(x), max = min;
  VU magnitude = magnitude_bits(min);
  for (int i = kLanes; i < kGroup; i += kLanes) {
    const VF v = load_f32(x + i);
    min = hn::Min(min, v);
    max = hn::Max(max, v);
    magnitude = hn::Max(magnitude, magnitude_bits(v));
  }
  if (HWY_UNLIKELY(!hn::AllFalse(du, hn::Gt(magnitude, hn::Set(du, kInfBits - 1)))))
    return Encoded::nonfinite;
  const float low = hn::GetLane(hn::MinOfLanes(df, min));
  const float high = hn::GetLane(hn::MaxOfLanes(df, max));
  if ((bits_of(high - low) & 0x7FFFFFFFu) >= kInfBits) return Encoded::overflow;
  const AffineScale a = affine_scale(low, high, kTop);
  const VF s = hn::Set(df, a.scale), b = hn::Set(df, a.bias);
  const auto code = [&](int i) HWY_ATTR {
    const VF q = hn::Div(hn::Sub(load_f32(x + i), b), s);
    return hn::Min(hn::Max(q, hn::Zero(df)), hn::Set(df, kTop));
  };
  if constexpr (kBits == 8 || kBits == 4) {
    for (int i = 0; i < kGroup; i += kLanes) {
      const VU bits = hn::BitCast(du, hn::Add(code(i), hn::Set(df, kMagic)));
      if constexpr (kBits == 8) {
        store_bytes(bits, codes + i);
      } else {
        // Two neighbours make a byte: they share a 64-bit lane.
        const hn::Repartition<uint64_t, DF> d64;
        const auto pair = hn::BitCast(d64, hn::And(bits, hn::Set(du, 15u)));
        store_pair_bytes(hn::BitCast(du, hn::Or(pair, hn::ShiftRight<28>(pair))), codes + i / 2);
      }
    }
  } else {
    constexpr int kChunk = kGroup < kCodes ? kGroup : kCodes;
    for (int i = 0; i < kGroup; i += kChunk) {
      const auto part = [&](int k) HWY_ATTR {
        return k * kLanes < kChunk ? to_int(code(i + k * kLanes)) : hn::Zero(DI());
      };
      const VB bytes = narrow<false>(part(0), part(1), part(2), part(3));
      uint8_t *to = codes + i * kBits / 8;
      if constexpr (kChunk == kCodes) {
        pack_codes<kBits>(bytes, to);
      } else {
        uint8_t packed[kCodes * kBits / 8];
        pack_codes<kBits>(bytes, packed);
        memcpy(to, packed, kChunk * kBits / 8);
      }
    }
  }
  store_scalar(a.scale, scale);
  store_scalar(a.bias, bias);
  return Encoded::ok;
}

inline constexpr const char *kRangeOverflow =
    "the range of a group does not fit f32 (index names the group's first value); scale the input "
    "down";

/// A group that holds NaN or Inf.
template <int kBits, int kGroup, class T>
[[gnu::noinline]] Encoded encode_affine_saturated(const T *x, uint8_t *codes, T *scale, T *bias) {
  float buf[kGroup];
  gather_f32(x, kGroup, true, buf);
  return encode_affine<kBits, kGroup>(buf, codes, scale, bias);
}

template <int kBits, int kGroup, class T>
int32_t quantize_affine_groups(const Context &ctx, const sy_call &call, sy_error *error) {
  constexpr int64_t kBytes = kGroup * kBits / 8;
  const auto &params = *static_cast<const sy_quantize_params *>(call.params);
  const Rows rows(*call.inputs[SY_QUANTIZE_IN_X]);
  auto *out = reinterpret_cast<uint8_t *>(first_byte(*call.outputs[SY_QUANTIZE_OUT_CODES]));
  T *scales = reinterpret_cast<T *>(first_byte(*call.outputs[SY_QUANTIZE_OUT_SCALES]));
  T *biases = reinterpret_cast<T *>(first_byte(*call.outputs[SY_QUANTIZE_OUT_BIASES]));
  const bool saturate = params.nonfinite == SY_NONFINITE_SATURATE;
  const int64_t groups = rows.values() / kGroup;
  const bool stream = static_cast<uint64_t>(groups * kBytes) > kStreamBytes;
  const bool far = rows.values() * static_cast<int64_t>(sizeof(T)) > kFarBytes;
  FirstError first;
  auto piece = [&](int64_t u0, int64_t u1) {
    if (first.before(u0 * kGroup)) return;
    for_runs<const T>(rows, kGroup, u0, u1, [&](const T *p, int64_t u, int64_t n) {
      bool good = true;
      write_units<4096>(out, stream, kBytes, u, n, [&](int64_t at, int64_t m, uint8_t *to) {
        for (int64_t g = 0, batch = 0; g < m; ++g, to += kBytes) {
          const int64_t group = u + at + g;
          const T *x = p + (at + g) * kGroup;
          if (g >= batch && g + kBatch <= m) {
            batch = g + kBatch;
            if (far) fetch_ahead(x, kBatch * kGroup);
            if (HWY_LIKELY(
                    (encode_affine_batch<kBits, kGroup>(x, to, scales + group, biases + group)))) {
              g += kBatch - 1;
              to += kBytes * (kBatch - 1);
              continue;
            }
          }
          Encoded result = encode_affine<kBits, kGroup>(x, to, scales + group, biases + group);
          if (HWY_LIKELY(result == Encoded::ok)) continue;
          if (result == Encoded::nonfinite && saturate)
            result = encode_affine_saturated<kBits, kGroup>(x, to, scales + group, biases + group);
          if (result == Encoded::ok) continue;
          if (result == Encoded::overflow)
            first.report(group * kGroup, true);
          else
            first.report(group * kGroup + first_nonfinite(x, kGroup), false);
          good = false;
          return false;
        }
        return true;
      });
      return good;
    });
    if (stream) hwy::FlushStream();
  };
  if (!for_units(ctx, call, groups, kGroup * static_cast<int64_t>(sizeof(T)), 1, 0, 1, piece))
    return cancelled(error);
  return first.status(error, kRangeOverflow);
}

template <int kBits, class T>
int32_t quantize_affine(const KernelDef &, const Context &ctx, const sy_call &call,
                        sy_error *error) {
  switch (static_cast<const sy_quantize_params *>(call.params)->group_size) {
    case 32:
      return quantize_affine_groups<kBits, 32, T>(ctx, call, error);
    case 64:
      return quantize_affine_groups<kBits, 64, T>(ctx, call, error);
    case 128:
      return quantize_affine_groups<kBits, 128, T>(ctx, call, error);
    default:
      return failure(error, SY_E_INVALID_ARGUMENT, "group size must be 32, 64 or 128");
  }
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
