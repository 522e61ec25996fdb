// SPDX-License-Identifier: Apache-2.0
#pragma once
/// BitNet ternary: a mean of magnitudes in f64 in a fixed order, then codes -1, 0, 1. What is
/// stored of them is a sink's business (quantize_ternary_sinks.hpp).
///
/// The order: blocks of 4,096 values; within a block 32 running sums, sum j adding values j, j +
/// 32,
/// ...; these folded in halves (j += j + 16, then 8, 4, 2, 1); block sums pairwise, the left part
/// of n > 1 blocks having the largest power of two of blocks below n.

#include "quant_driver.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

inline constexpr int64_t kSumBlock = 4096;
inline constexpr int kRunning = 32;
inline constexpr int64_t kMostPartials = 1024;

using D64 = hn::Repartition<uint64_t, DF>;
using DD = hn::Repartition<double, DF>;
using VD = hn::Vec<DD>;
inline constexpr int kSums = kRunning / kLanes;  ///< registers of sums of even values, and of odd

/// Running sums of magnitudes: lane i of low[k] is sum kLanes * k + 2i, of high[k] the next. The
/// bits of an f32, 29 places up, are those of an f64 2^896 times smaller, least numbers and zeros
/// too: that spares the processor's conversion, and a fused product with 2^896, which is exact, its
/// adders (Zen 4: 71 GB/s so, 58 GB/s with conversions).
struct RunningSums {
  VD low[kSums], high[kSums];

  HWY_INLINE RunningSums() {
    for (int k = 0; k < kSums; ++k) low[k] = high[k] = hn::Zero(DD());
  }

  /// 32 values.
  template <class T>
  HWY_INLINE void add(const T *x) {
    const D64 d64;
    const DD dd;
    const VD unit = hn::Set(dd, 0x1p896);
    for (int k = 0; k < kSums; ++k) {
      const auto two = hn::BitCast(d64, load_f32(x + k * kLanes));
      const auto even = hn::And(two, hn::Set(d64, 0x7FFFFFFFu));
      const auto odd = hn::And(two, hn::Set(d64, uint64_t{0x7FFFFFFF} << 32));
      low[k] = hn::MulAdd(hn::BitCast(dd, hn::ShiftLeft<29>(even)), unit, low[k]);
      high[k] = hn::MulAdd(hn::BitCast(dd, hn::ShiftRight<3>(odd)), unit, high[k]);
    }
  }

  HWY_INLINE double total() {
    for (int half = kSums / 2; half >= 1; half /= 2)
      for (int k = 0; k < half; ++k) {
        low[k] = hn::Add(low[k], low[k + half]);
        high[k] = hn::Add(high[k], high[k + half]);
      }
    const hn::Full128<double> d2;
    const auto halves = [&](auto v) HWY_ATTR {
      return hn::Add(hn::LowerHalf(d2, v), hn::UpperHalf(d2, v));
    };
#if HWY_TARGET <= HWY_AVX3
    const hn::Full256<double> d4;
    const auto even = halves(hn::Add(hn::LowerHalf(d4, low[0]), hn::UpperHalf(d4, low[0])));
    const auto odd = halves(hn::Add(hn::LowerHalf(d4, high[0]), hn::UpperHalf(d4, high[0])));
#else
    const auto even = halves(low[0]), odd = halves(high[0]);
#endif
    const auto sums =
        hn::Add(hn::InterleaveLower(d2, even, odd), hn::InterleaveUpper(d2, even, odd));
    return hn::GetLane(sums) + hn::ExtractLane(sums, 1);
  }
};

/// block_sum of values whose sum is large, or which are not all finite: those pass through.
template <class T>
[[gnu::noinline]] double large_block_sum(const T *x, int64_t n) {
  double sums[kRunning] = {};
  for (int64_t i = 0; i < n; ++i)
    sums[i % kRunning] += static_cast<double>(__builtin_fabsf(load_scalar(x + i)));
  for (int half = kRunning / 2; half >= 1; half /= 2)
    for (int j = 0; j < half; ++j) sums[j] += sums[j + half];
  return sums[0];
}

/// Sum of |x| over at most 4,096 values. NaN and infinities pass through.
template <class T>
HWY_INLINE double block_sum(const T *x, int64_t n) {
  RunningSums sums;
  int64_t i = 0;
  for (; i + kRunning <= n; i += kRunning) sums.add(x + i);
  if (i < n) {  // absent values count as zero, which changes no sum
    float rest[kRunning] = {};
    gather_f32(x + i, n - i, false, rest);
    sums.add(rest);
  }
  const double sum = sums.total();
  // Of numbers from 2^128 on the bits stand for infinities and NaN.
  return HWY_LIKELY(sum < 0x1p128) ? sum : large_block_sum(x, n);
}

HWY_INLINE bool is_finite(double v) {
  return (__builtin_bit_cast(uint64_t, v) >> 52 & 0x7FF) != 0x7FF;
}

/// Sums pairwise as they arrive: after n sums one partial stands for each bit set in n.
struct PairwiseSum {
  double partials[48];
  uint64_t n = 0;

  void add(double sum) {
    int top = __builtin_popcountll(n);
    for (uint64_t carry = n; carry % 2 != 0; carry /= 2) sum = partials[--top] + sum;
    partials[top] = sum;
    ++n;
  }
  double total() const {
    int top = __builtin_popcountll(n);
    if (top == 0) return 0;
    double sum = partials[--top];
    while (top > 0) sum = partials[--top] + sum;
    return sum;
  }
};

/// The sum over one block of the logical order, wherever its values lie. Reports non-finite values;
/// with `saturate` it sums what they saturate to.
template <class T>
inline double sum_block_at(const Rows &rows, int64_t block, bool saturate, FirstError *first) {
  const int64_t begin = block * kSumBlock, total = rows.values();
  const int64_t n = total - begin < kSumBlock ? total - begin : kSumBlock;
  double sum;
  if (rows.count == 1) {
    sum = block_sum(reinterpret_cast<const T *>(rows.base) + begin, n);
    if (HWY_LIKELY(is_finite(sum))) return sum;
  }
  float buf[kSumBlock];
  for_runs<const T>(rows, 1, begin, begin + n, [&](const T *p, int64_t u, int64_t m) {
    gather_f32(p, m, saturate, buf + (u - begin));
    return true;
  });
  sum = block_sum(buf, n);
  if (!is_finite(sum)) first->report(begin + first_nonfinite(buf, n), false);
  return sum;
}

HWY_INLINE float scale_of(double sum, int64_t n) {
  const float mean = n > 0 ? static_cast<float>(sum / static_cast<double>(n)) : 0.0f;
  return mean > 1e-5f ? mean : 1e-5f;
}

/// What turns values into codes: t = clamp(even(x * inv), -1, 1).
struct CodeRule {
  float inv;
  /// Every product is finite and fits 32 bits: no magnitude exceeds the sum of all, so none exceeds
  /// their number times the mean.
  bool small;
};

inline CodeRule code_rule(float m, int64_t values, bool saturate) {
  return {1.0f / m, !saturate && values < int64_t{1} << 30};
}

/// The code of one finite value, whatever the product.
HWY_INLINE int8_t code_of(float x, CodeRule rule) {
  const float v = x * rule.inv;
  return static_cast<int8_t>((v > 0.5f) - (v < -0.5f));
}

/// kCodes codes of any products: the sign where the magnitude exceeds one half, 0 for NaN.
template <class T>
HWY_INLINE void compare_codes(const T *x, VF inv, uint8_t *out) {
  const DF df;
  for (int i = 0; i < kCodes; i += kLanes) {
    const VF v = hn::Mul(load_f32(x + i), inv);
    const VU up = hn::BitCast(DU(), hn::VecFromMask(df, hn::Gt(v, hn::Set(df, 0.5f))));
    const VU down = hn::BitCast(DU(), hn::VecFromMask(df, hn::Lt(v, hn::Set(df, -0.5f))));
    store_bytes(hn::Sub(down, up), out + i);
  }
}

/// kCodes codes of small products: integers that saturate as they are narrowed.
template <class T>
HWY_INLINE void narrow_codes(const T *x, VF inv, uint8_t *out) {
  const hn::Repartition<int8_t, DF> d8;
  const auto rounded = [&](int i)
                           HWY_ATTR { return to_int(hn::Mul(load_f32(x + i * kLanes), inv)); };
  const VB bytes = narrow<true>(rounded(0), rounded(1), rounded(2), rounded(3));
  const auto codes = hn::Min(hn::Max(hn::BitCast(d8, bytes), hn::Set(d8, -1)), hn::Set(d8, 1));
  hn::StoreU(hn::BitCast(D8(), codes), D8(), out);
}

/// Fewer than kCodes codes.
template <class T>
HWY_INLINE void few_codes(const T *x, int64_t n, VF inv, uint8_t *out) {
  float padded[kCodes] = {};
  uint8_t bytes[kCodes];
  gather_f32(x, n, false, padded);
  compare_codes(padded, inv, bytes);
  memcpy(out, bytes, static_cast<size_t>(n));
}

/// How many values to do on their own first: loads that straddle cache lines cost more than a short
/// start.
template <class T>
HWY_INLINE int64_t values_to_line(const T *x, int64_t n) {
  const auto past = reinterpret_cast<uintptr_t>(x) % 64;
  return n >= 4096 && past != 0 ? static_cast<int64_t>((64 - past) / sizeof(T)) : 0;
}

template <class T>
HWY_INLINE void ternary_codes(const T *x, int64_t n, CodeRule rule, int8_t *codes) {
  const VF inv = hn::Set(DF(), rule.inv);
  auto *out = reinterpret_cast<uint8_t *>(codes);
  int64_t i = values_to_line(x, n);
  if (i > 0) few_codes(x, i, inv, out);
  if (rule.small)
    for (; i + kCodes <= n; i += kCodes) narrow_codes(x + i, inv, out + i);
  else
    for (; i + kCodes <= n; i += kCodes) compare_codes(x + i, inv, out + i);
  if (i < n) few_codes(x + i, n - i, inv, out + i);
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
