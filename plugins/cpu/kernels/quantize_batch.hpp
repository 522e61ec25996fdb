// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Blocks of 32 values side by side, as many as a register has lanes: what a block needs once (its
/// extremes, its scale) is computed for all of them in the lanes of one register. One block alone
/// spends most of its time folding registers and waiting for one division.

#include "quantize_blocks.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

using VI = hn::Vec<DI>;
inline constexpr int kBatch = kLanes;        ///< blocks
inline constexpr int kQuads = kLanes / 4;    ///< parts of 16 bytes in a register
inline constexpr int kPacked = kCodes / 16;  ///< blocks whose halves fill a register of bytes

struct Larger {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Max(a, b);
  }
};
struct Smaller {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Min(a, b);
  }
};

/// In every part of 16 bytes, lane k is what `op` makes of vector k's four lanes there.
template <class D, class V, class Op>
HWY_INLINE V fold_four(D d, V a, V b, V c, V e, Op op) {
  const hn::RepartitionToWide<D> wide;
  const V ab = op(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
  const V ce = op(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e));
  const auto low = hn::BitCast(wide, ab), high = hn::BitCast(wide, ce);
  return op(hn::BitCast(d, hn::InterleaveLower(wide, low, high)),
            hn::BitCast(d, hn::InterleaveUpper(wide, low, high)));
}

/// Lane 4q + k is what `op` makes of lane k of all parts of vector q.
template <class D, class V, class Op>
HWY_INLINE V fold_parts(D d, const V *v, Op op) {
#if HWY_TARGET <= HWY_AVX3
  const auto a = op(hn::ConcatLowerLower(d, v[1], v[0]), hn::ConcatUpperUpper(d, v[1], v[0]));
  const auto b = op(hn::ConcatLowerLower(d, v[3], v[2]), hn::ConcatUpperUpper(d, v[3], v[2]));
  const auto even = [&](auto x, auto y) HWY_ATTR {
    const DI di;
    return hn::BitCast(
        d, VI{_mm512_shuffle_i32x4(hn::BitCast(di, x).raw, hn::BitCast(di, y).raw, 0x88)});
  };
  const auto odd = [&](auto x, auto y) HWY_ATTR {
    const DI di;
    return hn::BitCast(
        d, VI{_mm512_shuffle_i32x4(hn::BitCast(di, x).raw, hn::BitCast(di, y).raw, 0xDD)});
  };
  return op(even(a, b), odd(a, b));
#else
  return op(hn::ConcatLowerLower(d, v[1], v[0]), hn::ConcatUpperUpper(d, v[1], v[0]));
#endif
}

/// Lane b is what `op` makes of all kBlock values of block b, as `view` shows them.
template <int kBlock, class D, class T, class Op, class View>
HWY_INLINE hn::Vec<D> fold_blocks(D d, const T *x, Op op, View view) {
  hn::Vec<D> parts[kQuads];
  for (int q = 0; q < kQuads; ++q) {
    const auto block = [&](int k) HWY_ATTR {
      const T *p = x + (4 * q + k) * kBlock;
      auto v = view(load_f32(p));
      for (int i = kLanes; i < kBlock; i += kLanes) v = op(v, view(load_f32(p + i)));
      return v;
    };
    parts[q] = fold_four(d, block(0), block(1), block(2), block(3), op);
  }
  return fold_parts(d, parts, op);
}

/// Largest magnitudes of kBatch blocks, as bits: at least kInfBits if any is not finite.
template <int kBlock = 32, class T>
HWY_INLINE VU largest_magnitudes(const T *x) {
  return fold_blocks<kBlock>(DU(), x, Larger(), [](VF v) HWY_ATTR { return magnitude_bits(v); });
}

/// Least and greatest values of kBatch blocks; false if any value is not finite.
template <int kBlock, class T>
HWY_INLINE bool extremes_of_batch(const T *x, VF *least, VF *most) {
  const DF df;
  VF finite = hn::Zero(df);  // products with 0 of NaN and infinities are NaN
  *least = fold_blocks<kBlock>(df, x, Smaller(), [&](VF v) HWY_ATTR {
    finite = hn::MulAdd(v, hn::Zero(df), finite);
    return v;
  });
  if (HWY_UNLIKELY(!hn::AllTrue(df, hn::Eq(finite, finite)))) return false;
  *most = fold_blocks<kBlock>(df, x, Larger(), [](VF v) HWY_ATTR { return v; });
  return true;
}

HWY_INLINE bool all_finite(VU magnitudes) {
  const DU du;
  return hn::AllFalse(du, hn::Gt(magnitudes, hn::Set(du, kInfBits - 1)));
}

/// inverse() of every lane.
HWY_INLINE VF inverses(VF d) {
  const VF id = hn::Div(hn::Set(DF(), 1.0f), d);
  return hn::IfThenZeroElse(
      hn::RebindMask(DF(), hn::Eq(magnitude_bits(id), hn::Set(DU(), kInfBits))), id);
}

/// Scales as f16, one for each block.
struct Scales {
  alignas(32) uint16_t bits[kBatch];

  /// False if any does not fit.
  HWY_INLINE bool put(VF d) {
    const hn::Rebind<float16_t, DF> dh;
    const hn::Rebind<uint16_t, DF> d16;
    const auto h = hn::BitCast(d16, hn::DemoteTo(dh, d));
    hn::Store(h, d16, bits);
    return hn::AllTrue(d16, hn::Lt(hn::And(h, hn::Set(d16, 0x7FFF)), hn::Set(d16, 0x7C00)));
  }
};

/// Writes the scales `d` of kBatch blocks kBytes apart, and their inverses; false if any does not
/// fit.
template <int kBytes>
HWY_INLINE bool put_scales(VF d, uint8_t *out, float (&id)[kBatch]) {
  Scales scales;
  if (!scales.put(d)) return false;
  hn::Store(inverses(d), DF(), id);
  for (int b = 0; b < kBatch; ++b) memcpy(out + b * kBytes, scales.bits + b, 2);
  return true;
}

/// v without its fraction; |v| < 2^31.
HWY_INLINE VI truncated(VF v) {
#if HWY_TARGET <= HWY_AVX3
  return VI{_mm512_cvttps_epi32(v.raw)};
#elif HWY_ARCH_X86
  return VI{_mm256_cvttps_epi32(v.raw)};
#else
  return hn::ConvertTo(DI(), v);
#endif
}

/// v rounded half away from zero, as an integer.
HWY_INLINE VI rounded_away(VF v) {
  return truncated(hn::Add(v, hn::CopySign(hn::Set(DF(), 0.49999997f), v)));
}

/// The codes of value 0 to 15 or of 16 to 31 of kPacked blocks, 16 bytes each.
template <class T, class Code>
HWY_INLINE VB half_codes(const T *x, Code code) {
  const auto part = [&](int k) HWY_ATTR {
    const int at = k * kLanes;
    return code(load_f32(x + at / 16 * 32 + at % 16), at / 16);
  };
  return narrow<false>(part(0), part(1), part(2), part(3));
}

/// Stores 16 bytes of each of kPacked blocks.
HWY_INLINE void store_halves(VB v, int64_t apart, uint8_t *out) {
  const hn::Full128<uint8_t> d128;
  const auto put = [&](auto two, uint8_t *to) HWY_ATTR {
    hn::StoreU(hn::LowerHalf(d128, two), d128, to);
    hn::StoreU(hn::UpperHalf(d128, two), d128, to + apart);
  };
#if HWY_TARGET <= HWY_AVX3
  const hn::Full256<uint8_t> d256;
  put(hn::LowerHalf(d256, v), out);
  put(hn::UpperHalf(d256, v), out + 2 * apart);
#else
  put(v, out);
#endif
}

/// Stores kPacked blocks of nibbles: codes of values 0 to 15 low, of 16 to 31 high.
template <int kBytes>
HWY_INLINE void store_nibbles(VB low, VB high, uint8_t *out) {
  const hn::Repartition<uint16_t, DF> d16;
  const VB shifted = hn::BitCast(D8(), hn::ShiftLeft<4>(hn::BitCast(d16, high)));
  store_halves(hn::Or(low, shifted), kBytes, out);
}

/// Codes of kBatch blocks in nibbles, and the fifth bits of codes up to kTop = 31. code(v, b) are
/// those of values of block b.
template <int kTop, int kBytes, int kFifthAt, int kNibblesAt, class T, class Code>
HWY_INLINE void pack_batch(const T *x, uint8_t *out, Code code) {
  const D8 d8;
  for (int b = 0; b < kBatch; b += kPacked) {
    const auto of = [&](VF v, int k) HWY_ATTR { return code(v, b + k); };
    const VB top = hn::Set(d8, kTop);
    VB low = hn::Min(half_codes(x + b * 32, of), top);
    VB high = hn::Min(half_codes(x + b * 32 + 16, of), top);
    uint8_t *to = out + b * kBytes;
    if constexpr (kTop > 15) {
      const VB sixteen = hn::Set(d8, 16), mask = hn::Set(d8, 15);
      uint8_t fifth[2][2 * kPacked];
      hn::StoreMaskBits(d8, hn::TestBit(low, sixteen), fifth[0]);
      hn::StoreMaskBits(d8, hn::TestBit(high, sixteen), fifth[1]);
      for (int k = 0; k < kPacked; ++k) {
        memcpy(to + k * kBytes + kFifthAt, fifth[0] + 2 * k, 2);
        memcpy(to + k * kBytes + kFifthAt + 2, fifth[1] + 2 * k, 2);
      }
      low = hn::And(low, mask);
      high = hn::And(high, mask);
    }
    store_nibbles<kBytes>(low, high, to + kNibblesAt);
  }
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
