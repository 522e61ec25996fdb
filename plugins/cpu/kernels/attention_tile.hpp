// SPDX-License-Identifier: Apache-2.0
#pragma once
/// One tile of flash attention with the queries in vector lanes (needs SY_ISA).
///
/// A panel is NV vectors of query rows. Scores are kept transposed, s[key][row], so that a key's
/// row is a broadcast scalar against the panel's queries, the maximum and the sum over keys are
/// vertical, and the output o_t[d][row] grows by broadcast values: no horizontal operation, and
/// keys and values are read where they lie.

#include "attention_pairs.hpp"
#include "attention_simd.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace attention {

/// Keys (or output columns) per register tile. With 3 vectors of rows: 24 accumulators of 32
/// registers, or 12 of 16.
inline constexpr int kBlock = kLanes >= 16 ? 8 : 4;
inline constexpr int kMaxVectors = 3;
inline constexpr int kTileKeys = 96;
static_assert(kTileKeys % kBlock == 0);

/// Up to kMaxVectors * kLanes query rows in flight. Arrays over rows are `width` long.
struct Panel {
  float *q_t;    ///< [dk][width]; or [ceil(dk / 2)][width] pairs of bf16, zeros to whole steps
  float *o_t;    ///< [dv][width], sum of exp(t - max) * v; room for whole blocks of 16
  float *max;    ///< largest score so far
  float *sum;    ///< of exp(t - max)
  float *slope;  ///< ALiBi; unset without
  int32_t *low, *high;  ///< the keys each row sees
  int32_t *position;    ///< of the query on the keys' axis; for ALiBi
  int64_t first_row;
  int32_t rows;                      ///< real ones; the lanes behind them compute, but nobody looks
  int32_t vectors;                   ///< width / kLanes
  int32_t key_begin, key_end;        ///< all keys that any row sees
  int32_t window_begin;              ///< the first of them that is not a kept one
  int32_t common_begin, common_end;  ///< keys that every row sees
};

/// Keys first..first+count-1 with their values; pointers are to key `first`.
struct Tile {
  const char *k;   ///< rows of f32; or of bf16, an even number of them, by AMX 32 or zeros
  const float *v;  ///< or words: the same element of two keys; by AMX [dv][v_stride], 16 or zeros
  int64_t k_bytes, v_stride;
  int32_t first, count;
  char *last_keys;    ///< room for 16 rows where keys past `count` cannot be read; or NULL
  const float *bias;  ///< [count][width] to be added, -inf = hidden; NULL = none
  float *s;           ///< [kTileKeys][width] scratch
  float *alpha;       ///< [width] scratch
};

/// s[a][row] = scale * sum_e k[a][e] * q_t[e][row] for kBlock keys. Not inlined, so that no
/// constant of the caller takes one of the registers that the accumulators need.
template <int NV>
HWY_NOINLINE void score_block(const float *HWY_RESTRICT q_t, const char *const *rows, int64_t dk,
                              float scale, float *HWY_RESTRICT s) {
  const DF df;
  const float *keys[kBlock];
  for (int a = 0; a < kBlock; ++a) keys[a] = reinterpret_cast<const float *>(rows[a]);
  constexpr int kWidth = NV * kLanes;
  VF acc[kBlock][NV];
#pragma GCC unroll 8
  for (int a = 0; a < kBlock; ++a)
#pragma GCC unroll 3
    for (int n = 0; n < NV; ++n) acc[a][n] = hn::Zero(df);
  for (int64_t e = 0; e < dk; ++e) {
    VF q[NV];
#pragma GCC unroll 3
    for (int n = 0; n < NV; ++n) q[n] = hn::LoadU(df, q_t + e * kWidth + n * kLanes);
#pragma GCC unroll 8
    for (int a = 0; a < kBlock; ++a) {
      const VF k = hn::Set(df, keys[a][e]);
#pragma GCC unroll 3
      for (int n = 0; n < NV; ++n) acc[a][n] = hn::MulAdd(k, q[n], acc[a][n]);
    }
  }
  const VF c = hn::Set(df, scale);
#pragma GCC unroll 8
  for (int a = 0; a < kBlock; ++a)
#pragma GCC unroll 3
    for (int n = 0; n < NV; ++n) hn::StoreU(hn::Mul(acc[a][n], c), df, s + a * kWidth + n * kLanes);
}

/// o_t[a][row] = o_t[a][row] * alpha[row] + sum_j v[j][a] * p[j][row] for ND columns of v.
template <int ND, int NV>
HWY_NOINLINE void value_block(const float *HWY_RESTRICT p, int32_t count,
                              const float *HWY_RESTRICT v, int64_t v_stride, const float *alpha,
                              float *HWY_RESTRICT o_t) {
  const DF df;
  constexpr int kWidth = NV * kLanes;
  VF acc[ND][NV];
#pragma GCC unroll 8
  for (int a = 0; a < ND; ++a)
#pragma GCC unroll 3
    for (int n = 0; n < NV; ++n)
      acc[a][n] =
          hn::Mul(hn::LoadU(df, o_t + a * kWidth + n * kLanes), hn::LoadU(df, alpha + n * kLanes));
  for (int32_t j = 0; j < count; ++j) {
    VF w[NV];
#pragma GCC unroll 3
    for (int n = 0; n < NV; ++n) w[n] = hn::LoadU(df, p + n * kLanes);
#pragma GCC unroll 8
    for (int a = 0; a < ND; ++a) {
      const VF x = hn::Set(df, v[a]);
#pragma GCC unroll 3
      for (int n = 0; n < NV; ++n) acc[a][n] = hn::MulAdd(x, w[n], acc[a][n]);
    }
    p += kWidth;
    v += v_stride;
  }
#pragma GCC unroll 8
  for (int a = 0; a < ND; ++a)
#pragma GCC unroll 3
    for (int n = 0; n < NV; ++n) hn::StoreU(acc[a][n], df, o_t + a * kWidth + n * kLanes);
}

/// Applies f(score vector, key, n) to the tile's scores.
template <int NV, class F>
HWY_INLINE void each_score(const Tile &t, F f) {
  const DF df;
  for (int32_t j = 0; j < t.count; ++j)
    for (int n = 0; n < NV; ++n) {
      float *s = t.s + (j * NV + n) * kLanes;
      hn::StoreU(f(hn::LoadU(df, s), j, n), df, s);
    }
}

/// What happens to scores between the dot product and the softmax, in the operation's order.
template <int NV>
inline void adjust_scores(const Call &c, const Panel &p, const Tile &t) {
  const DF df;
  const DI di;
  if (c.softcap > 0) {
    const VF cap = hn::Set(df, c.softcap), inverse = hn::Set(df, 1.0f / c.softcap);
    each_score<NV>(t,
                   [&](VF x, int32_t, int) { return hn::Mul(cap, tanh_f32(hn::Mul(x, inverse))); });
  }
  if (c.alibi != nullptr)
    each_score<NV>(t, [&](VF x, int32_t j, int n) {
      auto at = hn::LoadU(di, p.position + n * kLanes);
      if (t.first + j < c.keep) at = hn::Add(at, hn::Set(di, static_cast<int32_t>(c.gap)));
      const VF distance = hn::ConvertTo(df, hn::Sub(hn::Set(di, t.first + j), at));
      return hn::MulAdd(hn::LoadU(df, p.slope + n * kLanes), distance, x);
    });
  const VF hidden = hn::Set(df, -__builtin_inff());
  if (t.bias != nullptr)
    each_score<NV>(t, [&](VF x, int32_t j, int n) {
      const VF bias = hn::LoadU(df, t.bias + (j * NV + n) * kLanes);
      return hn::IfThenElse(hn::Eq(bias, hidden), hidden, hn::Add(x, bias));
    });
  if (t.first < p.common_begin || t.first + t.count > p.common_end)
    each_score<NV>(t, [&](VF x, int32_t j, int n) {
      const auto key = hn::Set(di, t.first + j);
      const auto after = hn::Gt(key, hn::LoadU(di, p.high + n * kLanes));
      if (t.first + j < c.keep) return hn::IfThenElse(hn::RebindMask(df, after), hidden, x);
      const auto before = hn::Lt(key, hn::LoadU(di, p.low + n * kLanes));
      return hn::IfThenElse(hn::RebindMask(df, hn::Or(before, after)), hidden, x);
    });
}

/// Scores become exp(score - max); updates max and sum; alpha = what older sums shrink by.
template <int NV>
inline void softmax_tile(const Panel &p, const Tile &t) {
  const DF df;
  constexpr int kWidth = NV * kLanes;
  const VF hidden = hn::Set(df, -__builtin_inff());
  for (int n = 0; n < NV; ++n) {
    float *s = t.s + n * kLanes;
    const VF old = hn::LoadU(df, p.max + n * kLanes);
    VF m0 = old, m1 = old;
    int32_t j = 0;
    for (; j + 2 <= t.count; j += 2) {
      m0 = hn::Max(m0, hn::LoadU(df, s + j * kWidth));
      m1 = hn::Max(m1, hn::LoadU(df, s + (j + 1) * kWidth));
    }
    if (j < t.count) m0 = hn::Max(m0, hn::LoadU(df, s + j * kWidth));
    const VF m = hn::Max(m0, m1);
    hn::StoreU(m, df, p.max + n * kLanes);
    // Rows that have seen nothing yet: -inf - -inf would be NaN.
    const VF base = hn::IfThenZeroElse(hn::Eq(m, hidden), m);
    const VF alpha = exp_nonpositive(hn::Sub(old, base));
    hn::StoreU(alpha, df, t.alpha + n * kLanes);
    VF sum0 = hn::Zero(df), sum1 = hn::Zero(df);
    for (j = 0; j + 2 <= t.count; j += 2) {
      const VF e0 = exp_nonpositive(hn::Sub(hn::LoadU(df, s + j * kWidth), base));
      const VF e1 = exp_nonpositive(hn::Sub(hn::LoadU(df, s + (j + 1) * kWidth), base));
      hn::StoreU(e0, df, s + j * kWidth);
      hn::StoreU(e1, df, s + (j + 1) * kWidth);
      sum0 = hn::Add(sum0, e0);
      sum1 = hn::Add(sum1, e1);
    }
    if (j < t.count) {
      const VF e0 = exp_nonpositive(hn::Sub(hn::LoadU(df, s + j * kWidth), base));
      hn::StoreU(e0, df, s + j * kWidth);
      sum0 = hn::Add(sum0, e0);
    }
    const VF sum = hn::MulAdd(hn::LoadU(df, p.sum + n * kLanes), alpha, hn::Add(sum0, sum1));
    hn::StoreU(sum, df, p.sum + n * kLanes);
  }
}

/// The weights of a tile, rounded to bf16, in pairs of keys; over the scores. Weights are not
/// negative: adding half a unit rounds them, and a NaN that this might spoil stays one in the sum.
template <int NV>
inline void pack_weights(const Tile &t) {
  const DF df;
  const hn::RebindToUnsigned<DF> du;
  constexpr int kWidth = NV * kLanes;
  const auto half = hn::Set(du, 0x8000u), upper = hn::Set(du, 0xFFFF0000u);
  auto *pairs = reinterpret_cast<uint32_t *>(t.s);
  for (int32_t j = 0; j < t.count; j += 2)
    for (int n = 0; n < NV; ++n) {
      const float *s = t.s + j * kWidth + n * kLanes;
      const auto a = hn::Add(hn::BitCast(du, hn::LoadU(df, s)), half);
      const VF next = j + 1 < t.count ? hn::LoadU(df, s + kWidth) : hn::Zero(df);
      const auto b = hn::And(hn::Add(hn::BitCast(du, next), half), upper);
      hn::StoreU(hn::Or(hn::ShiftRight<16>(a), b), du, pairs + j / 2 * kWidth + n * kLanes);
    }
}

}  // namespace attention
}  // namespace SY_ISA
}  // namespace switchyard::cpu
