// SPDX-License-Identifier: Apache-2.0
#pragma once
/// MXFP4: E2M1 codes under a power of two per 32 values, in ggml's blocks and as MLX packs them.

#include "../mxfp4.hpp"
#include "quantize_batch.hpp"

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

/// Codes of four vectors of values that were divided by their power of two.
HWY_INLINE VB mxfp4_codes(VF v0, VF v1, VF v2, VF v3) {
  const DI di;
  const hn::Repartition<int8_t, DF> d8;
  // A magnitude rounded up to two bits of fraction lies above the same ties as before. In quarters
  // of octaves, counted from the first above 1/4:
  const auto quarters = [&](VF v) HWY_ATTR {
    const auto magnitude = hn::BitCast(di, magnitude_bits(v));
    return hn::ShiftRight<21>(hn::Add(magnitude, hn::Set(di, 0x1FFFFF - (501 << 21))));
  };
  const auto bits = [&](VF v) HWY_ATTR { return hn::BitCast(di, v); };
  const auto place =
      hn::BitCast(d8, narrow<true>(quarters(v0), quarters(v1), quarters(v2), quarters(v3)));
  // Ties at 1/4, 3/4, 5/4, 7/4, 5/2, 7/2; negative places yield 0. The last tie is 5.
  alignas(16) static constexpr uint8_t kCodesOf[16] = {1, 1, 1, 1, 1, 1, 2, 2,
                                                       2, 3, 3, 4, 4, 5, 5, 6};
  const VB table = hn::LoadDup128(D8(), kCodesOf);
  const auto low = hn::BitCast(D8(), hn::Min(place, hn::Set(d8, 15)));
  VB code = hn::TableLookupBytesOr0(table, low);
  const auto seven = hn::Gt(place, hn::Set(d8, 16));
  code = hn::BitCast(D8(), hn::IfThenElse(seven, hn::Set(d8, 7), hn::BitCast(d8, code)));
  const VB negative =
      hn::And(narrow<true>(bits(v0), bits(v1), bits(v2), bits(v3)), hn::Set(D8(), 0x80));
  const hn::Repartition<uint16_t, DF> d16;
  const VB sign = hn::BitCast(D8(), hn::ShiftRight<4>(hn::BitCast(d16, negative)));
  return hn::Or(code, hn::IfThenZeroElse(hn::Eq(code, hn::Zero(D8())), sign));
}

/// Codes of one block: the first 32 bytes.
template <class T>
HWY_INLINE VB mxfp4_block_codes(const T *x, uint32_t e) {
  const VF factor = hn::Set(DF(), power_of_exponent(e));
  const auto part = [&](int k) HWY_ATTR {
    return k * kLanes < 32 ? hn::Mul(load_f32(x + k * kLanes), factor) : hn::Zero(DF());
  };
  return mxfp4_codes(part(0), part(1), part(2), part(3));
}

/// Exponent bytes of kBatch blocks and the factors that divide by their powers.
struct MXFP4Scales {
  uint8_t e[kBatch];
  alignas(64) float factors[kBatch];

  /// False if any value is not finite.
  template <bool kRceil, class TValue, class T>
  HWY_INLINE bool find(const T *x) {
    const VU largest = largest_magnitudes(x);
    if (HWY_UNLIKELY(!all_finite(largest))) return false;
    alignas(64) uint32_t amax[kBatch];
    hn::Store(largest, DU(), amax);
    for (int b = 0; b < kBatch; ++b) {
      const uint32_t exponent = mxfp4_exponent<kRceil, TValue>(amax[b]);
      e[b] = static_cast<uint8_t>(exponent);
      factors[b] = power_of_exponent(exponent);
    }
    return true;
  }
  /// The codes of kCodes values; vector k is `at(k)` values behind x.
  template <class T, class At>
  HWY_INLINE VB codes(const T *x, At at) const {
    const auto part = [&](int k) HWY_ATTR {
      return hn::Mul(load_f32(x + at(k)), hn::Set(DF(), factors[at(k) / 32]));
    };
    return mxfp4_codes(part(0), part(1), part(2), part(3));
  }
};

template <bool kRceil>
struct MXFP4Blocks {
  static constexpr int kBlock = 32, kBytes = 17;
  static constexpr bool kWiden = false;

  template <class T>
  HWY_INLINE static Encoded encode(const T *x, uint8_t *out) {
    const uint32_t amax = largest_magnitude_bits<kBlock>(x);
    if (amax >= kInfBits) return Encoded::nonfinite;
    const uint32_t e = mxfp4_exponent<kRceil, float>(amax);
    out[0] = static_cast<uint8_t>(e);
    alignas(64) uint8_t codes[kCodes];
    hn::Store(mxfp4_block_codes(x, e), D8(), codes);
    for (int j = 0; j < 16; ++j) out[1 + j] = static_cast<uint8_t>(codes[j] | codes[j + 16] << 4);
    return Encoded::ok;
  }

  template <class T>
  HWY_INLINE static bool encode_batch(const T *x, uint8_t *out) {
    MXFP4Scales scales;
    if (!scales.template find<kRceil, float>(x)) return false;
    for (int b = 0; b < kBatch; ++b) out[b * kBytes] = scales.e[b];
    for (int b = 0; b < kBatch; b += kPacked) {
      const auto low = [&](int k) { return 32 * b + k * kLanes / 16 * 32 + k * kLanes % 16; };
      const auto high = [&](int k) { return low(k) + 16; };
      store_nibbles<kBytes>(scales.codes(x, low), scales.codes(x, high), out + b * kBytes + 1);
    }
    return true;
  }
};

template <bool kRceil, class TValue, class T>
HWY_INLINE Encoded encode_mxfp4(const T *x, uint8_t *codes, uint8_t *scale) {
  const uint32_t amax = largest_magnitude_bits<32>(x);
  if (amax >= kInfBits) return Encoded::nonfinite;
  const uint32_t e = mxfp4_exponent<kRceil, TValue>(amax);
  *scale = static_cast<uint8_t>(e);
  uint8_t packed[kCodes / 2];
  pack_codes<4>(mxfp4_block_codes(x, e), packed);
  memcpy(codes, packed, 16);
  return Encoded::ok;
}

/// The same of kBatch blocks; false if any value is not finite.
template <bool kRceil, class TValue, class T>
HWY_INLINE bool encode_mxfp4_batch(const T *x, uint8_t *codes, uint8_t *e) {
  MXFP4Scales scales;
  if (!scales.template find<kRceil, TValue>(x)) return false;
  memcpy(e, scales.e, kBatch);
  for (int i = 0; i < kBatch * 32; i += kCodes) {
    const auto at = [&](int k) { return i + k * kLanes; };
    pack_codes<4>(scales.codes(x, at), codes + i / 2);
  }
  return true;
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
  const bool far = rows.values() * static_cast<int64_t>(sizeof(T)) > kFarBytes;
  FirstError first;
  auto piece = [&](int64_t u0, int64_t u1) {
    if (first.before(u0 * 32)) return;
    for_runs<const T>(rows, 32, u0, u1, [&](const T *p, int64_t u, int64_t n) {
      bool good = true;
      write_units<4096>(out, stream, 16, u, n, [&](int64_t at, int64_t m, uint8_t *to) {
        for (int64_t b = 0, batch = 0; b < m; ++b, to += 16) {
          const T *x = p + (at + b) * 32;
          if (b >= batch && b + kBatch <= m) {
            batch = b + kBatch;
            if (far) fetch_ahead(x, kBatch * 32);
            if (HWY_LIKELY((encode_mxfp4_batch<kRceil, T>(x, to, scales + u + at + b)))) {
              b += kBatch - 1;
              to += 16 * (kBatch - 1);
              continue;
            }
          }
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
