// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Vector arithmetic of the attention kernels: exp, tanh, transposition, conversion of rows
/// (needs SY_ISA).

#include <hwy/highway.h>

#include "attention_call.hpp"
#include "quant_simd.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace attention {

namespace hn = hwy::HWY_NAMESPACE;
using hwy::bfloat16_t;
using hwy::float16_t;
using quant::load_f32;
using quant::load_scalar;
using quant::store_rounded;
using quant::store_scalar;

using DF = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<DF>;
using VF = hn::Vec<DF>;
inline constexpr int kLanes = static_cast<int>(hn::MaxLanes(DF()));

// exp(r) ~ 1 + r + r^2 (c2 + c3 r + ... + c6 r^4) on |r| <= ln(2)/2, minimax with relative error
// 3.1e-9: rounding dominates.
inline constexpr float kExp2 = 0x1.fffffcp-2f, kExp3 = 0x1.555492p-3f, kExp4 = 0x1.5558f2p-5f,
                       kExp5 = 0x1.123a2p-7f, kExp6 = 0x1.6a23dp-10f;
inline constexpr float kLog2e = 1.44269504f;
inline constexpr float kLn2High = 0.693145751953125f;  // few bits: n * kLn2High is exact
inline constexpr float kLn2Low = 1.428606765330187e-06f;
inline constexpr float kExpLow = -87.0f;  // below, exp is taken as 0: no subnormal numbers arise

/// x = n ln(2) + r with |r| <= ln(2)/2, for -126 <= n <= 0; and 2^n.
struct Reduced {
  VF r, power;
};

HWY_INLINE Reduced reduce(VF x) {
  const DF df;
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits; 127 makes it a
  // biased exponent.
  const VF magic = hn::Set(df, 12583039.0f);
  const VF y = hn::MulAdd(x, hn::Set(df, kLog2e), magic);
  const VF n = hn::Sub(y, magic);
  const VF r = hn::NegMulAdd(n, hn::Set(df, kLn2High), x);
  return {hn::NegMulAdd(n, hn::Set(df, kLn2Low), r),
          hn::BitCast(df, hn::ShiftLeft<23>(hn::BitCast(DI(), y)))};
}

/// c2 + c3 r + ... + c6 r^4
HWY_INLINE VF exp_tail(VF r) {
  const DF df;
  VF p = hn::MulAdd(hn::Set(df, kExp6), r, hn::Set(df, kExp5));
  p = hn::MulAdd(p, r, hn::Set(df, kExp4));
  p = hn::MulAdd(p, r, hn::Set(df, kExp3));
  return hn::MulAdd(p, r, hn::Set(df, kExp2));
}

/// exp(x) for x <= 0; NaN stays NaN.
HWY_INLINE VF exp_nonpositive(VF x) {
  const DF df;
  const auto below = hn::Lt(x, hn::Set(df, kExpLow));  // false for NaN; Max might drop it
  const Reduced x2 = reduce(hn::IfThenElse(below, hn::Set(df, kExpLow), x));
  VF p = hn::MulAdd(exp_tail(x2.r), x2.r, hn::Set(df, 1.0f));
  p = hn::MulAdd(p, x2.r, hn::Set(df, 1.0f));
  return hn::IfThenZeroElse(below, hn::Mul(p, x2.power));
}

/// tanh(x) with a relative error of a few units in the last place, also near 0.
HWY_INLINE VF tanh_f32(VF x) {
  const DF df;
  const VF one = hn::Set(df, 1.0f);
  const VF size = hn::Abs(x);
  const VF clamped = hn::IfThenElse(hn::Gt(size, hn::Set(df, 15.0f)), hn::Set(df, 15.0f), size);
  const Reduced y = reduce(hn::Mul(hn::Set(df, -2.0f), clamped));
  // exp(-2|x|) - 1 = 2^n (exp(r) - 1) + (2^n - 1)
  const VF m = hn::MulAdd(exp_tail(y.r), hn::Mul(y.r, y.r), y.r);
  const VF em1 = hn::MulAdd(y.power, m, hn::Sub(y.power, one));
  return hn::CopySign(hn::Div(hn::Neg(em1), hn::Add(em1, hn::Set(df, 2.0f))), x);
}

/// Columns j..j+3 of kLanes rows, as as many vectors: 4 x 4 elements are transposed in each block.
template <int kBlocks>
HWY_INLINE void transpose_four(const float *HWY_RESTRICT from, int64_t from_stride,
                               float *HWY_RESTRICT to, int64_t to_stride) {
  const DF df;
  const hn::FixedTag<float, 4> four;
  const hn::FixedTag<float, 8> eight;
  // Block b: four elements of row 4 b + q.
  const auto rows = [&](int64_t q) HWY_ATTR {
    const auto pair = [&](int64_t b) HWY_ATTR {
      const float *row = from + (4 * b + q) * from_stride;
      return hn::Combine(eight, hn::LoadU(four, row + 4 * from_stride), hn::LoadU(four, row));
    };
    if constexpr (kBlocks == 4)
      return hn::Combine(df, pair(2), pair(0));
    else
      return pair(0);
  };
  const auto v0 = rows(0), v1 = rows(1), v2 = rows(2), v3 = rows(3);
  const auto a = hn::InterleaveLower(df, v0, v2), b = hn::InterleaveLower(df, v1, v3);
  const auto c = hn::InterleaveUpper(df, v0, v2), d = hn::InterleaveUpper(df, v1, v3);
  hn::StoreU(hn::InterleaveLower(df, a, b), df, to);
  hn::StoreU(hn::InterleaveUpper(df, a, b), df, to + to_stride);
  hn::StoreU(hn::InterleaveLower(df, c, d), df, to + 2 * to_stride);
  hn::StoreU(hn::InterleaveUpper(df, c, d), df, to + 3 * to_stride);
}

/// to[j * to_stride + i] = from[i * from_stride + j] for i < rows, j < columns.
inline void transpose(const float *HWY_RESTRICT from, int64_t from_stride, int64_t rows,
                      int64_t columns, float *HWY_RESTRICT to, int64_t to_stride) {
  static_assert(kLanes == 16 || kLanes == 8);
  int64_t i = 0;
  for (; i + kLanes <= rows; i += kLanes) {
    const float *a = from + i * from_stride;
    int64_t j = 0;
    for (; j + 4 <= columns; j += 4)
      transpose_four<kLanes / 4>(a + j, from_stride, to + j * to_stride + i, to_stride);
    for (; j < columns; ++j)
      for (int64_t e = 0; e < kLanes; ++e) to[j * to_stride + i + e] = a[e * from_stride + j];
  }
  for (; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) to[j * to_stride + i] = from[i * from_stride + j];
}

/// n elements of any stride as contiguous f32.
template <class T>
inline void widen_row(const T *from, int64_t stride, int64_t n, float *HWY_RESTRICT to) {
  int64_t i = 0;
  if (stride == 1)
    for (; i + kLanes <= n; i += kLanes) hn::StoreU(load_f32(from + i), DF(), to + i);
  for (; i < n; ++i) to[i] = load_scalar(from + i * stride);
}

/// n contiguous f32 rounded to elements of any stride.
template <class T>
inline void store_row(const float *from, int64_t n, T *to, int64_t stride) {
  int64_t i = 0;
  if (stride == 1)
    for (; i + kLanes <= n; i += kLanes) store_rounded(hn::LoadU(DF(), from + i), to + i);
  for (; i < n; ++i) store_scalar(from[i], to + i * stride);
}

}  // namespace attention
}  // namespace SY_ISA
}  // namespace switchyard::cpu
