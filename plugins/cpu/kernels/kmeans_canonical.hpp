// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The canonical pieces of k-means (switchyard/ops/kmeans.h), vectorised without changing a bit:
/// distance, fixed-point sums and inertia partials. Part of the kernel sources (needs SY_ISA).

#include <hwy/highway.h>

#include "kmeans_call.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

/// Sixteen f32 accumulators: one vector, or two of eight lanes.
using Lanes = hn::CappedTag<float, 16>;
static_assert(hn::MaxLanes(Lanes()) == 16 || hn::MaxLanes(Lanes()) == 8);
constexpr bool kWide = hn::MaxLanes(Lanes()) == 16;

/// One step of the accumulators over `count` <= 16 elements; a missing element adds fma(0, 0, a) =
/// a.
template <class V>
HWY_INLINE void accumulate_tail(const float *x, const float *c, size_t count, V &low, V &high) {
  const Lanes lanes;
  constexpr size_t kLanes = hn::MaxLanes(Lanes());
  const auto first = hn::FirstN(lanes, count < kLanes ? count : kLanes);
  auto t = hn::Sub(hn::MaskedLoad(first, lanes, x), hn::MaskedLoad(first, lanes, c));
  low = hn::MulAdd(t, t, low);
  if constexpr (!kWide) {
    if (count > kLanes) {
      const auto rest = hn::FirstN(lanes, count - kLanes);
      t = hn::Sub(hn::MaskedLoad(rest, lanes, x + kLanes), hn::MaskedLoad(rest, lanes, c + kLanes));
      high = hn::MulAdd(t, t, high);
    }
  }
}

/// Sixteen accumulators to eight.
template <class V>
HWY_INLINE auto fold_sixteen(V low, V high) {
  if constexpr (kWide && sizeof(V) == 64) {
    const hn::Half<Lanes> half;
    return hn::Add(hn::LowerHalf(half, low), hn::UpperHalf(half, low));
  } else {
    return hn::Add(low, high);
  }
}

/// D*(x, c).
HWY_INLINE float canonical_distance(const float *HWY_RESTRICT x, const float *HWY_RESTRICT c,
                                    int64_t d) {
  const Lanes lanes;
  auto low = hn::Zero(lanes), high = hn::Zero(lanes);
  int64_t m = 0;
  for (; m + 16 <= d; m += 16) {
    const auto t = hn::Sub(hn::LoadU(lanes, x + m), hn::LoadU(lanes, c + m));
    low = hn::MulAdd(t, t, low);
    if constexpr (!kWide) {
      const auto s = hn::Sub(hn::LoadU(lanes, x + m + 8), hn::LoadU(lanes, c + m + 8));
      high = hn::MulAdd(s, s, high);
    }
  }
  if (m < d) accumulate_tail(x + m, c + m, static_cast<size_t>(d - m), low, high);
  // a[i] += a[i + 8], then 4, 2, 1; other lanes hold values that are never used.
  const hn::CappedTag<float, 4> d4;
  const auto eight = fold_sixteen(low, high);
  const auto four = hn::Add(hn::LowerHalf(d4, eight), hn::UpperHalf(d4, eight));
  const auto two = hn::Add(four, hn::Shuffle1032(four));
  return hn::GetLane(hn::Add(two, hn::Shuffle2301(two)));
}

/// to[m] += rint(w * x[m] * scale[m]) for all m of a row; kMove: from[m] loses as much. Sums and
/// `scale` are padded with room to a multiple of 8. Integers below 2^51 come out of the low
/// mantissa bits after adding 1.5 * 2^52, which rounds to nearest even.
template <bool kMove>
HWY_INLINE void add_row(const float *HWY_RESTRICT x, int64_t d, const double *HWY_RESTRICT scale,
                        double weight, int64_t *HWY_RESTRICT from, int64_t *HWY_RESTRICT to) {
  const hn::CappedTag<double, 8> f64;
  const hn::Rebind<float, decltype(f64)> f32;
  const hn::RebindToSigned<decltype(f64)> i64;
  constexpr size_t kLanes = hn::MaxLanes(f64);
  const auto magic = hn::Set(f64, 0x1.8p52);
  const auto w = hn::Set(f64, weight);
  for (int64_t m = 0; m < d; m += kLanes) {
    const size_t left = static_cast<size_t>(d - m);
    const auto v =
        left >= kLanes ? hn::LoadU(f32, x + m) : hn::MaskedLoad(hn::FirstN(f32, left), f32, x + m);
    const auto q = hn::Mul(hn::Mul(hn::PromoteTo(f64, v), w), hn::Load(f64, scale + m));
    const auto integer = hn::Sub(hn::BitCast(i64, hn::Add(q, magic)), hn::BitCast(i64, magic));
    hn::Store(hn::Add(hn::Load(i64, to + m), integer), i64, to + m);
    if constexpr (kMove) hn::Store(hn::Sub(hn::Load(i64, from + m), integer), i64, from + m);
  }
}

/// rint(w * scale) for |result| < 2^51.
HWY_INLINE int64_t quantised_weight(float w, double scale) {
  const double shifted = static_cast<double>(w) * scale + 0x1.8p52;
  int64_t bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  return bits - 0x4338000000000000;
}

/// 2^shift, which is normal for every shift of finite f32 data.
HWY_INLINE double power_of_two(int32_t shift) {
  const int64_t bits = static_cast<int64_t>(shift + 1023) << 52;
  double value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

/// The partial of one block of rows; `weights` may be null.
HWY_INLINE double inertia_partial(const float *HWY_RESTRICT distances,
                                  const float *HWY_RESTRICT weights, int64_t rows) {
  const hn::CappedTag<double, 4> f64;
  const hn::Rebind<float, decltype(f64)> f32;
  auto low = hn::Zero(f64), high = hn::Zero(f64);
  const auto term = [&](int64_t i, auto mask) HWY_ATTR {
    auto v = hn::PromoteTo(f64, hn::MaskedLoad(mask, f32, distances + i));
    if (weights != nullptr)
      v = hn::Mul(hn::PromoteTo(f64, hn::MaskedLoad(mask, f32, weights + i)), v);
    return v;
  };
  int64_t i = 0;
  for (; i + 8 <= rows; i += 8) {
    const auto all = hn::FirstN(f32, 4);
    low = hn::Add(low, term(i, all));
    high = hn::Add(high, term(i + 4, all));
  }
  // A missing row adds +0 to a lane that is not negative: no bit changes.
  const auto left = static_cast<size_t>(rows - i);
  if (left > 0) low = hn::Add(low, term(i, hn::FirstN(f32, left < 4 ? left : 4)));
  if (left > 4) high = hn::Add(high, term(i + 4, hn::FirstN(f32, left - 4)));
  alignas(32) double lane[4];
  hn::Store(hn::Add(low, high), f64, lane);
  return (lane[0] + lane[2]) + (lane[1] + lane[3]);
}

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
