// SPDX-License-Identifier: Apache-2.0
#pragma once
/// MXFP4: E2M1 codes under a power of two per 32 values, in ggml's blocks and as MLX packs them.

#include "../mxfp4.hpp"
#include "quantize_blocks.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

/// The exponent byte for a block whose largest magnitude has these bits. MLX takes a sixth of it in
/// the values' dtype TValue.
template <bool kRceil, class TValue>
HWY_INLINE uint32_t mxfp4_exponent(uint32_t amax) {
  if constexpr (kRceil) {
    TValue stored;
    store_scalar(float_of(amax) / 6.0f, &stored);
    const uint32_t bits = bits_of(load_scalar(&stored));
    return bits == 0 ? 127 : (bits + 0x7FFFFFu) >> 23;
  } else {
    const uint32_t e = (amax + kLog2Slack.of[amax >> 23]) >> 23;
    return e < 2 ? 0 : e - 2;
  }
}

/// 2^(127 - e), for e in 0..254.
HWY_INLINE float power_of_exponent(uint32_t e) {
  return float_of(e < 254 ? (254 - e) << 23 : 0x00400000u);
}

/// Codes of values that were divided by their power of two.
HWY_INLINE VU mxfp4_codes(VF v) {
  const DF df;
  const DU du;
  const VU bits = hn::BitCast(du, v);
  const VU magnitude = hn::And(bits, hn::Set(du, 0x7FFFFFFFu));
  // From 1 on codes count half octaves: rounding keeps one bit of the fraction, ties go down.
  const auto normal =
      hn::Sub(hn::BitCast(DI(), hn::ShiftRight<22>(hn::Add(magnitude, hn::Set(du, 0x1FFFFFu)))),
              hn::Set(DI(), 252));
  const VF a = hn::BitCast(df, magnitude);
  const auto above = [&](float limit) HWY_ATTR {
    return hn::VecFromMask(DI(), hn::RebindMask(DI(), hn::Gt(a, hn::Set(df, limit))));
  };
  const auto small = hn::Neg(hn::Add(above(0.25f), above(0.75f)));
  const auto code = hn::Min(hn::Max(normal, small), hn::Set(DI(), 7));
  const VU sign = hn::And(hn::ShiftRight<28>(bits), hn::Set(du, 8u));
  const VU q = hn::BitCast(du, code);
  return hn::Or(q, hn::IfThenZeroElse(hn::Eq(q, hn::Zero(du)), sign));
}

template <bool kRceil>
struct MXFP4Blocks {
  static constexpr int kBlock = 32, kBytes = 17;
  static constexpr bool kWiden = false;

  template <class T>
  HWY_INLINE static Encoded encode(const T *x, uint8_t *out) {
    const uint32_t amax = largest_magnitude_bits<kBlock>(x);
    if (amax >= kInfBits) return Encoded::nonfinite;
    const uint32_t e = mxfp4_exponent<kRceil, float>(amax);
    const VF factor = hn::Set(DF(), power_of_exponent(e));
    out[0] = static_cast<uint8_t>(e);
    for (int j = 0; j < 16; j += kLanes) {
      const VU low = mxfp4_codes(hn::Mul(load_f32(x + j), factor));
      const VU high = mxfp4_codes(hn::Mul(load_f32(x + j + 16), factor));
      store_bytes(hn::Or(low, hn::ShiftLeft<4>(high)), out + 1 + j);
    }
    return Encoded::ok;
  }
};

/// Two neighbours make a byte: they share a 64-bit lane.
HWY_INLINE void store_nibble_pairs(VU codes, uint8_t *out) {
  const hn::Repartition<uint64_t, DF> d64;
  const auto pair = hn::BitCast(d64, codes);
  store_pair_bytes(hn::BitCast(DU(), hn::Or(pair, hn::ShiftRight<28>(pair))), out);
}

template <bool kRceil, class TValue, class T>
HWY_INLINE Encoded encode_mxfp4(const T *x, uint8_t *codes, uint8_t *scale) {
  const uint32_t amax = largest_magnitude_bits<32>(x);
  if (amax >= kInfBits) return Encoded::nonfinite;
  const uint32_t e = mxfp4_exponent<kRceil, TValue>(amax);
  const VF factor = hn::Set(DF(), power_of_exponent(e));
  *scale = static_cast<uint8_t>(e);
  for (int i = 0; i < 32; i += kLanes)
    store_nibble_pairs(mxfp4_codes(hn::Mul(load_f32(x + i), factor)), codes + i / 2);
  return Encoded::ok;
}

template <bool kRceil, class T>
int32_t quantize_mxfp4_as(const Context &ctx, const sy_call &call, sy_error *error) {
  const auto &params = *static_cast<const sy_quantize_params *>(call.params);
  const Rows rows(*call.inputs[SY_QUANTIZE_IN_X]);
  auto *out = reinterpret_cast<uint8_t *>(first_byte(*call.outputs[SY_QUANTIZE_OUT_CODES]));
  auto *scales = reinterpret_cast<uint8_t *>(first_byte(*call.outputs[SY_QUANTIZE_OUT_SCALES]));
  const bool saturate = params.nonfinite == SY_NONFINITE_SATURATE;
  const int64_t blocks = rows.values() / 32;
  const bool stream = static_cast<uint64_t>(blocks * 16) > kStreamBytes;
  FirstError first;
  auto piece = [&](int64_t u0, int64_t u1) {
    if (first.before(u0 * 32)) return;
    for_runs<const T>(rows, 32, u0, u1, [&](const T *p, int64_t u, int64_t n) {
      bool good = true;
      write_units<4096>(out, stream, 16, u, n, [&](int64_t at, int64_t m, uint8_t *to) {
        for (int64_t b = 0; b < m; ++b, to += 16) {
          const T *x = p + (at + b) * 32;
          Encoded result = encode_mxfp4<kRceil, T>(x, to, scales + u + at + b);
          if (HWY_LIKELY(result == Encoded::ok)) continue;
          if (saturate) {
            float buf[32];
            gather_f32(x, 32, true, buf);
            encode_mxfp4<kRceil, T>(buf, to, scales + u + at + b);
            continue;
          }
          first.report((u + at + b) * 32 + first_nonfinite(x, 32), false);
          good = false;
          return false;
        }
        return true;
      });
      return good;
    });
    if (stream) hwy::FlushStream();
  };
  if (!for_units(ctx, call, blocks, 32 * static_cast<int64_t>(sizeof(T)), 1, 0, 1, piece))
    return cancelled(error);
  return first.status(error, "");
}

template <class T>
int32_t quantize_mxfp4(const KernelDef &, const Context &ctx, const sy_call &call,
                       sy_error *error) {
  if (static_cast<const sy_quantize_params *>(call.params)->scale_rule == SY_SCALE_FLOOR)
    return quantize_mxfp4_as<false, T>(ctx, call, error);
  return quantize_mxfp4_as<true, T>(ctx, call, error);
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
