// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Encoders of the ggml block formats. encode(x, out) writes one block in one pass over registers
/// and says whether the values were finite and the scale fits f16.

#include "quant_driver.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

enum class Encoded { ok, nonfinite, overflow };

/// Largest magnitude of kN values, as bits: at least kInfBits if any is not finite.
template <int kN, class T>
HWY_INLINE uint32_t largest_magnitude_bits(const T *x) {
  const DU du;
  VU acc = magnitude_bits(load_f32(x));
  for (int i = kLanes; i < kN; i += kLanes) acc = hn::Max(acc, magnitude_bits(load_f32(x + i)));
  return hn::GetLane(hn::MaxOfLanes(du, acc));
}

/// Stores d as f16; false if it overflows.
HWY_INLINE bool put_scale(float d, uint8_t *out) {
  const uint16_t h = f16_bits(d);
  memcpy(out, &h, sizeof(h));
  return (h & 0x7FFFu) < 0x7C00u;
}

/// v rounded half away from zero.
HWY_INLINE VF round_away(VF v) {
  return hn::Trunc(hn::Add(v, hn::CopySign(hn::Set(DF(), 0.49999997f), v)));
}

struct Q4_0 {
  static constexpr int kBlock = 32, kBytes = 18;

  template <class T>
  HWY_INLINE static Encoded encode(const T *x, uint8_t *out) {
    const DF df;
    const DU du;
    const uint32_t amax = largest_magnitude_bits<kBlock>(x);
    if (amax >= kInfBits) return Encoded::nonfinite;
    // The sign of the first value that has the largest magnitude. Zeros count as positive.
    uint32_t largest = 0, negative = 0;
    for (int i = 0; i < kBlock; i += kLanes) {
      const VF v = load_f32(x + i);
      largest |= mask_bits(hn::Eq(magnitude_bits(v), hn::Set(du, amax))) << i;
      negative |= mask_bits(hn::Lt(v, hn::Zero(df))) << i;
    }
    const uint32_t sign = negative >> __builtin_ctz(largest) << 31;
    const float d = float_of(amax | sign) * -0.125f;  // exact, like a division by -8
    const VF id = hn::Set(df, inverse(d));
    const VF offset = hn::Set(df, 8.5f), top = hn::Set(df, 15.0f);
    for (int j = 0; j < 16; j += kLanes) {
      const VF low = hn::Trunc(hn::Add(hn::Mul(load_f32(x + j), id), offset));
      const VF high = hn::Trunc(hn::Add(hn::Mul(load_f32(x + j + 16), id), offset));
      const VF byte = hn::MulAdd(hn::Min(high, top), hn::Set(df, 16.0f), hn::Min(low, top));
      store_bytes(hn::BitCast(du, hn::Add(byte, hn::Set(df, kMagic))), out + 2 + j);
    }
    return put_scale(d, out) ? Encoded::ok : Encoded::overflow;
  }
};

struct Q8_0 {
  static constexpr int kBlock = 32, kBytes = 34;

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
};

struct TQ2_0 {
  static constexpr int kBlock = 256, kBytes = 66;

  template <class T>
  HWY_INLINE static Encoded encode(const T *x, uint8_t *out) {
    const DF df;
    const uint32_t amax = largest_magnitude_bits<kBlock>(x);
    if (amax >= kInfBits) return Encoded::nonfinite;
    const float d = float_of(amax);
    const VF id = hn::Set(df, inverse(d));
    const auto code = [&](const T *p) HWY_ATTR { return round_away(hn::Mul(load_f32(p), id)); };
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

inline constexpr const char *kScaleOverflow =
    "the scale of a block does not fit f16 (index names the block's first value); scale the input "
    "down or take a format with f32 scales";

/// A block that holds NaN or Inf.
template <class Codec, class T>
[[gnu::noinline]] Encoded encode_saturated(const T *x, uint8_t *out) {
  float buf[Codec::kBlock];
  gather_f32(x, Codec::kBlock, true, buf);
  return Codec::encode(buf, out);
}

template <class Codec, class T>
int32_t quantize_blocks(const KernelDef &, const Context &ctx, const sy_call &call,
                        sy_error *error) {
  constexpr int64_t kBlock = Codec::kBlock, kBytes = Codec::kBytes;
  const auto &params = *static_cast<const sy_quantize_params *>(call.params);
  const Rows rows(*call.inputs[SY_QUANTIZE_IN_X]);
  auto *out = reinterpret_cast<uint8_t *>(first_byte(*call.outputs[SY_QUANTIZE_OUT_CODES]));
  const bool saturate = params.nonfinite == SY_NONFINITE_SATURATE;
  const int64_t blocks = rows.values() / kBlock;
  const bool stream = static_cast<uint64_t>(blocks * kBytes) > kStreamBytes;
  FirstError first;
  auto piece = [&](int64_t u0, int64_t u1) {
    if (first.before(u0 * kBlock)) return;
    for_runs<const T>(rows, kBlock, u0, u1, [&](const T *p, int64_t u, int64_t n) {
      bool good = true;
      write_units<4096>(out, stream, kBytes, u, n, [&](int64_t at, int64_t m, uint8_t *to) {
        for (int64_t b = 0; b < m; ++b, to += kBytes) {
          const T *x = p + (at + b) * kBlock;
          Encoded result = Codec::encode(x, to);
          if (HWY_LIKELY(result == Encoded::ok)) continue;
          if (result == Encoded::nonfinite && saturate) result = encode_saturated<Codec>(x, to);
          if (result == Encoded::ok) continue;
          const int64_t index = (u + at + b) * kBlock;
          if (result == Encoded::overflow)
            first.report(index, true);
          else
            first.report(index + first_nonfinite(x, kBlock), false);
          good = false;
          return false;
        }
        return true;
      });
      return good;
    });
    if (stream) hwy::FlushStream();
  };
  if (!for_units(ctx, call, blocks, kBlock * static_cast<int64_t>(sizeof(T)), 1, 0, 1, piece))
    return cancelled(error);
  return first.status(error, kScaleOverflow);
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
