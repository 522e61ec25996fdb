// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The loop over self-contained blocks. A codec's encode(x, out) writes one block and says whether
/// the values were finite and the scale fits f16.

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

inline constexpr const char *kScaleOverflow =
    "the scale of a block does not fit f16 (index names the block's first value); scale the input "
    "down or take a format with f32 scales";

/// Traits that a codec may lack.
template <class Codec>
concept Paired = requires(const float *x, uint8_t *out) {
  Codec::encode_pair(x, out);
};
template <class Codec, class T>
concept Batched = requires(const T *x, uint8_t *out) {
  Codec::encode_batch(x, out);
};
template <class Codec>
concept Searches = requires {
  Codec::kPace;
};  ///< slow: shorter pieces

/// A block of 16-bit values that holds NaN or Inf, or whose codec reads f32.
template <class Codec, class T>
[[gnu::noinline]] Encoded encode_widened(const T *x, bool saturate, uint8_t *out) {
  float buf[Codec::kBlock];
  gather_f32(x, Codec::kBlock, saturate, buf);
  return Codec::encode(buf, out);
}

/// Widens whole vectors; kBlock values.
template <class Codec, class T>
HWY_INLINE Encoded encode_one(const T *x, uint8_t *out) {
  if constexpr (sizeof(T) == 4 || !Codec::kWiden) {
    return Codec::encode(x, out);
  } else {
    alignas(64) float buf[Codec::kBlock];
    for (int i = 0; i < Codec::kBlock; i += kLanes) hn::Store(load_f32(x + i), DF(), buf + i);
    return Codec::encode(buf, out);
  }
}

/// Encodes some of the `left` blocks at x; how many it did before an error.
template <class Codec, class T>
HWY_INLINE int64_t encode_next(const T *x, int64_t left, bool saturate, uint8_t *to,
                               Encoded *result) {
  int64_t n = 1;
  if constexpr (Batched<Codec, T>) {
    if (left >= kLanes) {
      if (HWY_LIKELY(Codec::encode_batch(x, to))) return kLanes;
      n = kLanes;
    }
  } else if constexpr (Paired<Codec> && sizeof(T) == 4) {
    if (left >= 2 && Codec::encode_pair(x, to) == Encoded::ok) return 2;
  }
  for (int64_t b = 0; b < n; ++b) {
    *result = encode_one<Codec>(x + b * Codec::kBlock, to + b * Codec::kBytes);
    if (HWY_UNLIKELY(*result == Encoded::nonfinite) && saturate)
      *result = encode_widened<Codec>(x + b * Codec::kBlock, true, to + b * Codec::kBytes);
    if (*result != Encoded::ok) return b;
  }
  return n;
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
  const bool far = rows.values() * static_cast<int64_t>(sizeof(T)) > kFarBytes;
  FirstError first;
  auto piece = [&](int64_t u0, int64_t u1) {
    if (first.before(u0 * kBlock)) return;
    for_runs<const T>(rows, kBlock, u0, u1, [&](const T *p, int64_t u, int64_t n) {
      bool good = true;
      write_units<4096>(out, stream, kBytes, u, n, [&](int64_t at, int64_t m, uint8_t *to) {
        for (int64_t b = 0; b < m;) {
          const T *x = p + (at + b) * kBlock;
          Encoded result = Encoded::ok;
          const int64_t done = encode_next<Codec>(x, m - b, saturate, to + b * kBytes, &result);
          if (far) fetch_ahead(x, done * kBlock);
          b += done;
          if (HWY_LIKELY(result == Encoded::ok)) continue;
          const int64_t index = (u + at + b) * kBlock;
          if (result == Encoded::overflow)
            first.report(index, true);
          else
            first.report(index + first_nonfinite(p + (at + b) * kBlock, kBlock), false);
          good = false;
          return false;
        }
        return true;
      });
      return good;
    });
    if (stream) hwy::FlushStream();
  };
  Pace pace;
  if constexpr (Searches<Codec>) pace = Codec::kPace;
  if (!for_units(ctx, call, blocks, kBlock * static_cast<int64_t>(sizeof(T)), 1, 0, 1, piece, pace))
    return cancelled(error);
  return first.status(error, kScaleOverflow);
}

/// Two scale rules: `Other` where the call asks for kRule.
template <class Codec, class Other, uint32_t kRule, class T>
int32_t quantize_blocks_by_rule(const KernelDef &self, const Context &ctx, const sy_call &call,
                                sy_error *error) {
  if (static_cast<const sy_quantize_params *>(call.params)->scale_rule == kRule)
    return quantize_blocks<Other, T>(self, ctx, call, error);
  return quantize_blocks<Codec, T>(self, ctx, call, error);
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
