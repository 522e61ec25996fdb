// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Philox4x32-10 (Salmon et al., 2011) over vectors: any draw can be computed from its place alone,
/// so results depend neither on threads nor on the order of work.

#include "quant_simd.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

/// The upper 32 bits of the product of each lane with k.
HWY_INLINE VU multiply_high(VU v, uint32_t k) {
  const DU du;
  const hn::RepartitionToWide<DU> d64;
  const VU factor = hn::Set(du, k);
  const auto even = hn::ShiftRight<32>(hn::MulEven(v, factor));
  const auto odd = hn::MulEven(hn::BitCast(du, hn::ShiftRight<32>(hn::BitCast(d64, v))), factor);
  return hn::OddEven(hn::BitCast(du, odd), hn::BitCast(du, even));
}

/// The draws of values index .. index + 4 * kLanes, uniform in [0, 1) in steps of 2^-24; `index` is
/// a multiple of 4.
HWY_INLINE void draw(uint64_t seed, int64_t index, float *out) {
  const DU du;
  const auto first = static_cast<uint64_t>(index) / 4;
  const uint32_t low = static_cast<uint32_t>(first);
  VU c0 = hn::Add(hn::Set(du, low), hn::Iota(du, 0));
  // Lanes whose low half has wrapped around carry into the high half.
  const VU high = hn::Set(du, static_cast<uint32_t>(first >> 32));
  VU c1 = hn::Sub(high, hn::VecFromMask(du, hn::Lt(c0, hn::Set(du, low))));
  VU c2 = hn::Zero(du), c3 = hn::Zero(du);
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const VU a_high = multiply_high(c0, 0xD2511F53u), b_high = multiply_high(c2, 0xCD9E8D57u);
    const VU a_low = hn::Mul(c0, hn::Set(du, 0xD2511F53u));
    const VU b_low = hn::Mul(c2, hn::Set(du, 0xCD9E8D57u));
    c0 = hn::Xor(hn::Xor(b_high, c1), hn::Set(du, k0));
    c1 = b_low;
    c2 = hn::Xor(hn::Xor(a_high, c3), hn::Set(du, k1));
    c3 = a_low;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const auto unit = [](VU v) HWY_ATTR {
    const VF wide = hn::ConvertTo(DF(), hn::BitCast(DI(), hn::ShiftRight<8>(v)));
    return hn::Mul(wide, hn::Set(DF(), 0x1p-24f));
  };
  hn::StoreInterleaved4(unit(c0), unit(c1), unit(c2), unit(c3), DF(), out);
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
