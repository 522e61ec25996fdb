// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The two products of a tile of keys with a panel of queries, by any of the ways (needs SY_ISA).

#include "attention_tile.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace attention {

template <int NV>
inline void add_scores(const Call &c, const Panel &p, const Tile &t, const PairTiles *pairs) {
  constexpr int kWidth = NV * kLanes;
  for (int32_t j = 0; j < t.count; j += kBlock) {
    const char *keys[kBlock];  // past the end: the last key again, its scores are not used
    for (int32_t a = 0; a < kBlock; ++a)
      keys[a] = t.k + (j + a < t.count ? j + a : t.count - 1) * t.k_bytes;
    float *s = t.s + j * kWidth;
    if (pairs != nullptr)
      pairs->score[NV - 1](reinterpret_cast<const uint32_t *>(p.q_t), keys, (c.dk + 1) / 2, c.scale,
                           s);
    else
      score_block<NV>(p.q_t, keys, c.dk, c.scale, s);
  }
}

template <int NV>
inline void add_values(const Call &c, const Panel &p, const Tile &t) {
  constexpr int kWidth = NV * kLanes;
  int64_t d = 0;
  for (; d + kBlock <= c.dv; d += kBlock)
    value_block<kBlock, NV>(t.s, t.count, t.v + d, t.v_stride, t.alpha, p.o_t + d * kWidth);
  for (; d < c.dv; ++d)
    value_block<1, NV>(t.s, t.count, t.v + d, t.v_stride, t.alpha, p.o_t + d * kWidth);
}

template <int NV>
inline void add_value_pairs(const Call &c, const Panel &p, const Tile &t, const PairTiles *pairs) {
  constexpr int kWidth = NV * kLanes;
  pack_weights<NV>(t);
  const auto *weights = reinterpret_cast<const uint32_t *>(t.s);
  const auto *v = reinterpret_cast<const uint32_t *>(t.v);
  const int32_t count = (t.count + 1) / 2;
  int64_t d = 0;
  for (; d + kBlock <= c.dv; d += kBlock)
    pairs->value[NV - 1](weights, count, v + d, t.v_stride, t.alpha, p.o_t + d * kWidth);
  for (; d < c.dv; ++d)
    pairs->value_one[NV - 1](weights, count, v + d, t.v_stride, t.alpha, p.o_t + d * kWidth);
}

/// Scores by AMX: 16 keys against 16 rows at a time. Queries, in pairs across the lanes, and rows
/// of keys as they lie are what its tiles want.
template <int NV>
inline void add_scores_amx(const Call &c, const Panel &p, const Tile &t) {
  const DF df;
  constexpr int kWidth = NV * kLanes;
  constexpr int64_t kRow = kWidth * static_cast<int64_t>(sizeof(float)), kStep = 4 * kTileWords;
  const auto multiply = [&](const char *keys, int64_t key_bytes, int64_t blocks, float *s) {
    tile_products()->pairs[NV - 1]({.a = keys,
                                    .a_row = key_bytes,
                                    .a_step = kStep,
                                    .a_block = kTileHeight * key_bytes,
                                    .b = p.q_t,
                                    .b_row = kRow,
                                    .b_step = kTileWords * kRow,
                                    .c = s,
                                    .c_row = kRow,
                                    .blocks = blocks,
                                    .steps = ceil_div64(c.dk, 2 * kTileWords),
                                    .add = false});
  };
  const int64_t whole =
      t.last_keys != nullptr ? t.count / kTileHeight : ceil_div64(t.count, kTileHeight);
  multiply(t.k, t.k_bytes, whole, t.s);
  const int64_t done = whole * kTileHeight;
  if (done < t.count) {
    const int64_t bytes = 2 * c.dk;
    for (int64_t j = done; j < t.count; ++j)
      memcpy(t.last_keys + (j - done) * bytes, t.k + j * t.k_bytes, static_cast<size_t>(bytes));
    multiply(t.last_keys, bytes, 1, t.s + done * kWidth);
  }
  const VF scale = hn::Set(df, c.scale);
  each_score<NV>(t, [&](VF x, int32_t, int) { return hn::Mul(x, scale); });
}

/// o_t *= alpha, mostly 1: maxima seldom grow after a row's first tiles.
template <int NV>
inline void shrink_output(const Call &c, const Panel &p, const Tile &t) {
  const DF df;
  constexpr int kWidth = NV * kLanes;
  VF alpha[NV];
  bool same = true;
  for (int n = 0; n < NV; ++n) {
    alpha[n] = hn::LoadU(df, t.alpha + n * kLanes);
    same = same && hn::AllTrue(df, hn::Eq(alpha[n], hn::Set(df, 1.0f)));
  }
  if (same) return;
  for (int64_t d = 0; d < c.dv; ++d)
    for (int n = 0; n < NV; ++n) {
      float *o = p.o_t + d * kWidth + n * kLanes;
      hn::StoreU(hn::Mul(hn::LoadU(df, o), alpha[n]), df, o);
    }
}

/// Values by AMX: 16 columns against 16 rows at a time.
template <int NV>
inline void add_values_amx(const Call &c, const Panel &p, const Tile &t) {
  constexpr int kWidth = NV * kLanes;
  constexpr int64_t kRow = kWidth * static_cast<int64_t>(sizeof(float));
  shrink_output<NV>(c, p, t);
  pack_weights<NV>(t);
  auto *weights = reinterpret_cast<uint32_t *>(t.s);
  const int64_t pairs = (t.count + 1) / 2, steps = ceil_div64(pairs, kTileWords);
  memset(weights + pairs * kWidth, 0,
         static_cast<size_t>((steps * kTileWords - pairs) * kWidth) * sizeof(uint32_t));
  tile_products()->pairs[NV - 1](
      {.a = t.v,
       .a_row = t.v_stride * static_cast<int64_t>(sizeof(float)),
       .a_step = 4 * kTileWords,
       .a_block = kTileHeight * t.v_stride * static_cast<int64_t>(sizeof(float)),
       .b = weights,
       .b_row = kRow,
       .b_step = kTileWords * kRow,
       .c = p.o_t,
       .c_row = kRow,
       .blocks = ceil_div64(c.dv, kTileHeight),
       .steps = steps,
       .add = true});
}

/// Adds a tile's keys to a panel of NV vectors.
template <Way kWay, int NV>
inline void add_tile(const Call &c, const Panel &p, const Tile &t) {
  if constexpr (kWay == Way::amx)
    add_scores_amx<NV>(c, p, t);
  else
    add_scores<NV>(c, p, t, kWay == Way::pairs ? pair_tiles() : nullptr);
  adjust_scores<NV>(c, p, t);
  softmax_tile<NV>(p, t);
  if constexpr (kWay == Way::amx)
    add_values_amx<NV>(c, p, t);
  else if constexpr (kWay == Way::pairs)
    add_value_pairs<NV>(c, p, t, pair_tiles());
  else
    add_values<NV>(c, p, t);
}

}  // namespace attention
}  // namespace SY_ISA
}  // namespace switchyard::cpu
