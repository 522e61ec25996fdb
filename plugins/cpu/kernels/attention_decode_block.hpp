// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A block of keys against the few query rows of a key head (needs SY_ISA).

#include "attention_panel.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace attention {

inline constexpr int kBlockKeys = 256;
inline constexpr int kScoreRows = kLanes >= 16 ? 4 : 2;     ///< rows x 4 keys of accumulators
inline constexpr int kValueVectors = kLanes >= 16 ? 4 : 2;  ///< 4 rows x columns of accumulators

template <int N>
struct Count {
  static constexpr int kValue = N;
};

/// The query rows of a key head; row = position * group + head.
struct Rows {
  float *q;  ///< [rows][q_stride], zeros behind dk
  int64_t q_stride;
  float *s;      ///< [rows][kBlockKeys]
  float *alpha;  ///< [rows]
  float *bias;   ///< [kBlockKeys], with a mask only
};

/// Keys first..first+count-1 and their values, contiguous in the last dimension.
template <class T>
struct Keys {
  const T *k, *v;
  int64_t k_stride, v_stride, first, count;
  bool prefetch;  ///< the values are worth asking for ahead
};

/// n < kLanes elements, zeros behind them; nothing else is read.
template <class T>
HWY_INLINE VF load_partial(const T *p, int64_t n) {
  T values[kLanes];
  memset(values, 0, sizeof(values));
  memcpy(values, p, static_cast<size_t>(n) * sizeof(T));
  return load_f32(values);
}

/// Adds up the 128-bit blocks of v.
template <class D, class V>
HWY_INLINE auto sum_of_blocks(D, V v) {
  if constexpr (hn::MaxLanes(D()) == 4) {
    return v;
  } else {
    const hn::Half<D> half;
    return sum_of_blocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}

/// The four sums of lanes of a..d.
HWY_INLINE hn::Vec<hn::FixedTag<float, 4>> sums_of_lanes(VF a, VF b, VF c, VF d) {
  const DF df;
  const hn::RepartitionToWide<DF> dd;
  const VF ab = hn::Add(hn::InterleaveLower(df, a, b), hn::InterleaveUpper(df, a, b));
  const VF cd = hn::Add(hn::InterleaveLower(df, c, d), hn::InterleaveUpper(df, c, d));
  const auto x = hn::BitCast(dd, ab), y = hn::BitCast(dd, cd);
  const VF blocks = hn::Add(hn::BitCast(df, hn::InterleaveLower(dd, x, y)),
                            hn::BitCast(df, hn::InterleaveUpper(dd, x, y)));
  return sum_of_blocks(df, blocks);
}

/// Scores of NR rows and 4 keys.
template <class T, int NR>
HWY_INLINE void score_quad(const float *q, int64_t q_stride, const T *const *keys, int64_t dk,
                           float scale, float *s) {
  const DF df;
  VF acc[NR][4];
#pragma GCC unroll 4
  for (int r = 0; r < NR; ++r)
#pragma GCC unroll 4
    for (int a = 0; a < 4; ++a) acc[r][a] = hn::Zero(df);
  const auto step = [&](int64_t e, VF k0, VF k1, VF k2, VF k3) HWY_ATTR {
#pragma GCC unroll 4
    for (int r = 0; r < NR; ++r) {
      const VF x = hn::LoadU(df, q + r * q_stride + e);
      acc[r][0] = hn::MulAdd(x, k0, acc[r][0]);
      acc[r][1] = hn::MulAdd(x, k1, acc[r][1]);
      acc[r][2] = hn::MulAdd(x, k2, acc[r][2]);
      acc[r][3] = hn::MulAdd(x, k3, acc[r][3]);
    }
  };
  int64_t e = 0;
  for (; e + kLanes <= dk; e += kLanes)
    step(e, load_f32(keys[0] + e), load_f32(keys[1] + e), load_f32(keys[2] + e),
         load_f32(keys[3] + e));
  if (e < dk)
    step(e, load_partial(keys[0] + e, dk - e), load_partial(keys[1] + e, dk - e),
         load_partial(keys[2] + e, dk - e), load_partial(keys[3] + e, dk - e));
  const hn::FixedTag<float, 4> d4;
#pragma GCC unroll 4
  for (int r = 0; r < NR; ++r)
    hn::StoreU(
        hn::Mul(sums_of_lanes(acc[r][0], acc[r][1], acc[r][2], acc[r][3]), hn::Set(d4, scale)), d4,
        s + r * kBlockKeys);
}

/// Asks for the lines of a row of n elements.
template <class T>
HWY_INLINE void prefetch_row(const T *row, int64_t n) {
  for (int64_t e = 0; e < n; e += 64 / static_cast<int64_t>(sizeof(T)))
    __builtin_prefetch(row + e, 0, 2);
}

/// s[row][j] for all rows and the block's keys; up to 3 more scores than keys are written.
template <class T>
inline void score_rows(const Call &c, const Rows &rows, const Keys<T> &block) {
  for (int64_t j = 0; j < block.count; j += 4) {
    const T *keys[4];
    for (int64_t a = 0; a < 4; ++a)
      keys[a] = block.k + min64(j + a, block.count - 1) * block.k_stride;
    // Values are needed right after: their way from memory overlaps with the scores.
    for (int64_t a = j; block.prefetch && a < min64(j + 4, block.count); ++a)
      prefetch_row(block.v + a * block.v_stride, c.dv);
    int64_t r = 0;
    const auto rows_of = [&](auto nr) HWY_ATTR {
      constexpr int kCount = decltype(nr)::kValue;
      for (; r + kCount <= c.rows; r += kCount)
        score_quad<T, kCount>(rows.q + r * rows.q_stride, rows.q_stride, keys, c.dk, c.scale,
                              rows.s + r * kBlockKeys + j);
    };
    rows_of(Count<kScoreRows>());
    if constexpr (kScoreRows > 2) rows_of(Count<2>());
    rows_of(Count<1>());
  }
}

/// Softcap, ALiBi, mask and visibility of one row's scores against the keys of a block.
inline void adjust_row(const Call &c, int64_t b, int64_t h, int64_t i, int64_t keys, int64_t first,
                       int64_t count, float *bias, float *s) {
  const DF df;
  const DI di;
  const auto each = [&](auto f) HWY_ATTR {
    for (int64_t j = 0; j < count; j += kLanes) hn::StoreU(f(hn::LoadU(df, s + j), j), df, s + j);
  };
  // Lanes behind the last key hold leftovers: hidden at the end.
  for (int64_t j = count; j < round_up64(count, kLanes); ++j) s[j] = 0;
  if (c.softcap > 0) {
    const VF cap = hn::Set(df, c.softcap), inverse = hn::Set(df, 1.0f / c.softcap);
    each([&](VF x, int64_t) HWY_ATTR { return hn::Mul(cap, tanh_f32(hn::Mul(x, inverse))); });
  }
  if (c.alibi != nullptr) {
    const VF slope = hn::Set(df, *vector_element<const float>(*c.alibi, h));
    const auto start = static_cast<int32_t>(first - i - position_offset(c, keys));
    const auto keep = hn::Set(di, static_cast<int32_t>(max64(min64(c.keep - first, count), 0)));
    const auto gap = hn::Set(di, static_cast<int32_t>(c.gap));
    each([&](VF x, int64_t j) HWY_ATTR {
      const auto dropped =
          hn::IfThenElseZero(hn::Lt(hn::Iota(di, static_cast<int32_t>(j)), keep), gap);
      const auto distance = hn::Sub(hn::Iota(di, start + static_cast<int32_t>(j)), dropped);
      return hn::MulAdd(slope, hn::ConvertTo(df, distance), x);
    });
  }
  const VF hidden = hn::Set(df, -__builtin_inff());
  if (c.mask != nullptr) {
    with_mask_type(*c.mask, [&]<class M>(const M *) {
      const int64_t step = c.mask->strides[3];
      widen_mask(element<const M>(*c.mask, b, h, i) + first * step, step, count, bias);
    });
    for (int64_t j = count; j < round_up64(count, kLanes); ++j) bias[j] = 0;
    each([&](VF x, int64_t j) HWY_ATTR {
      const VF y = hn::LoadU(df, bias + j);
      return hn::IfThenElse(hn::Eq(y, hidden), hidden, hn::Add(x, y));
    });
  }
  const Range range = visible(c, keys, i);
  const int64_t low = range.low - first, high = min64(range.high - first, count - 1);
  if (low > 0 || high + 1 < round_up64(count, kLanes)) {
    const auto least = hn::Set(di, static_cast<int32_t>(max64(low, -1)));
    const auto most = hn::Set(di, static_cast<int32_t>(max64(high, -1)));
    const auto keep = hn::Set(di, static_cast<int32_t>(max64(min64(c.keep - first, count), 0)));
    each([&](VF x, int64_t j) HWY_ATTR {
      const auto at = hn::Iota(di, static_cast<int32_t>(j));
      const auto before = hn::AndNot(hn::Lt(at, keep), hn::Lt(at, least));
      const auto outside = hn::Or(before, hn::Gt(at, most));
      return hn::IfThenElse(hn::RebindMask(df, outside), hidden, x);
    });
  }
}

/// Scores become exp(score - max). result[0] and [1] are the row's max and sum; the answer is what
/// older sums shrink by.
inline float softmax_row(float *s, int64_t count, float *result) {
  const DF df;
  VF m = hn::Set(df, result[0]);
  for (int64_t j = 0; j < count; j += kLanes) m = hn::Max(m, hn::LoadU(df, s + j));
  const float max = hn::GetLane(hn::MaxOfLanes(df, m));
  const VF base = hn::Set(df, max == -__builtin_inff() ? 0.0f : max);
  const float alpha = hn::GetLane(exp_nonpositive(hn::Sub(hn::Set(df, result[0]), base)));
  VF sum = hn::Zero(df);
  for (int64_t j = 0; j < count; j += kLanes) {
    const VF e = exp_nonpositive(hn::Sub(hn::LoadU(df, s + j), base));
    hn::StoreU(e, df, s + j);
    sum = hn::Add(sum, e);
  }
  result[0] = max;
  result[1] = result[1] * alpha + hn::GetLane(hn::SumOfLanes(df, sum));
  return alpha;
}

/// o[r] = o[r] * alpha[r] + sum_j s[r][j] v[j] for NR rows and NC vectors of columns from `column`.
template <class T, int NR, int NC, bool kPartial>
HWY_INLINE void value_tile(const Rows &rows, const Keys<T> &block, int64_t row, int64_t column,
                           int64_t columns, float *o, int64_t o_stride) {
  const DF df;
  VF acc[NR][NC];
#pragma GCC unroll 4
  for (int r = 0; r < NR; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < NC; ++n)
      acc[r][n] = hn::Mul(hn::LoadU(df, o + (row + r) * o_stride + column + n * kLanes),
                          hn::Set(df, rows.alpha[row + r]));
  const float *s = rows.s + row * kBlockKeys;
  const T *v = block.v + column;
  for (int64_t j = 0; j < block.count; ++j, v += block.v_stride) {
    VF x[NC];
#pragma GCC unroll 4
    for (int n = 0; n < NC; ++n)
      x[n] = kPartial ? load_partial(v, columns - column) : load_f32(v + n * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < NR; ++r) {
      const VF w = hn::Set(df, s[r * kBlockKeys + j]);
#pragma GCC unroll 4
      for (int n = 0; n < NC; ++n) acc[r][n] = hn::MulAdd(w, x[n], acc[r][n]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < NR; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < NC; ++n)
      hn::StoreU(acc[r][n], df, o + (row + r) * o_stride + column + n * kLanes);
}

/// o [rows][o_stride] of all rows; its rows are padded to whole vectors.
template <class T>
inline void add_values(const Call &c, const Rows &rows, const Keys<T> &block, float *o,
                       int64_t o_stride) {
  int64_t column = 0;
  const auto columns_of = [&](auto nc, auto partial) HWY_ATTR {
    constexpr int kVectors = decltype(nc)::kValue;
    constexpr bool kPartial = decltype(partial)::kValue != 0;
    int64_t r = 0;
    for (; r + 4 <= c.rows; r += 4)
      value_tile<T, 4, kVectors, kPartial>(rows, block, r, column, c.dv, o, o_stride);
    for (; r < c.rows; ++r)
      value_tile<T, 1, kVectors, kPartial>(rows, block, r, column, c.dv, o, o_stride);
    column += kVectors * kLanes;
  };
  while (column + kValueVectors * kLanes <= c.dv) columns_of(Count<kValueVectors>(), Count<0>());
  while (column + kLanes <= c.dv) columns_of(Count<1>(), Count<0>());
  if (column < c.dv) columns_of(Count<1>(), Count<1>());
}

}  // namespace attention
}  // namespace SY_ISA
}  // namespace switchyard::cpu
