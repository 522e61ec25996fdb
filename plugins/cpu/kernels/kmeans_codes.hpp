// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Values as small integers, and the 32-bit words in which they are multiplied. Part of the kernel
/// sources (needs SY_ISA).

#include <string.h>

#include "kmeans_products_intrinsics.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

/// rint((x - origin) rate), ties to even, limited to -most..most, of d values, eight at a time:
/// sink(m, codes) gets those of columns m..m+7, zero beyond the last. Without an origin it is 0.
template <class Code, class Sink>
HWY_INLINE void encode(const float *HWY_RESTRICT x, const float *HWY_RESTRICT origin, int64_t d,
                       double rate, double most, const Sink &sink) {
  const hn::CappedTag<double, 8> f64;
  const hn::Rebind<float, decltype(f64)> f32;
  const hn::Rebind<int32_t, decltype(f64)> i32;
  const hn::Rebind<Code, decltype(f64)> narrow;
  constexpr int64_t kStep = hn::MaxLanes(f64);
  for (int64_t m = 0; m < d; m += 8) {
    alignas(16) Code codes[8];
    for (int64_t at = 0; at < 8; at += kStep) {
      const int64_t left = d - m - at;
      const auto read = [&](const float *from) HWY_ATTR {
        const float *p = from + m + at;
        const auto v = left >= kStep ? hn::LoadU(f32, p)
                       : left > 0
                           ? hn::MaskedLoad(hn::FirstN(f32, static_cast<size_t>(left)), f32, p)
                           : hn::Zero(f32);
        return hn::PromoteTo(f64, v);
      };
      auto v = read(x);
      if (origin != nullptr) v = hn::Sub(v, read(origin));
      const auto scaled = hn::Mul(v, hn::Set(f64, rate));
      const auto limited =
          hn::Min(hn::Max(hn::Round(scaled), hn::Set(f64, -most)), hn::Set(f64, most));
      hn::StoreU(hn::DemoteTo(narrow, hn::DemoteTo(i32, limited)), narrow, codes + at);
    }
    sink(m, codes);
  }
}

/// fn(block, word) for the codes of the columns m..m+7 of d.
template <class Code, class Fn>
HWY_INLINE void each_word(int64_t d, int64_t m, const Code *eight, const Fn &fn) {
  constexpr int64_t kCodes = 4 / sizeof(Code);
  for (int64_t i = 0; i < 8 && m + i < d; i += kCodes) {
    uint32_t word;
    memcpy(&word, eight + i, sizeof word);
    fn((m + i) / kCodes, word);
  }
}

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
