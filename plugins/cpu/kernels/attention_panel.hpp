// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A panel's life before and after its tiles: queries in, mask tiles, merged parts, output rows
/// (needs SY_ISA).

#include "attention_keys.hpp"
#include "attention_mask.hpp"
#include "attention_products.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace attention {

inline constexpr int kPanelRows = kMaxVectors * kLanes;

/// Floats of one panel's results: max, sum and o_t, in this order.
inline int64_t part_floats(const Call &c) {
  return (2 + round_up64(c.dv, kTileHeight)) * kPanelRows;
}

/// Words of a query or key of bf16, with the zeros that AMX needs behind them.
inline int64_t tile_words(const Call &c) { return round_up64((c.dk + 1) / 2, kTileWords); }

inline void take_panel(const Call &c, Arena &arena, Panel &p) {
  p.q_t = arena.take<float>(max64(c.dk, tile_words(c)) * kPanelRows);
  p.max = arena.take<float>(part_floats(c));
  p.slope = arena.take<float>(kPanelRows);
  p.low = arena.take<int32_t>(kPanelRows);
  p.high = arena.take<int32_t>(kPanelRows);
  p.position = arena.take<int32_t>(kPanelRows);
}

inline void place_results(Panel &p, float *results) {
  p.max = results;
  p.sum = results + kPanelRows;
  p.o_t = results + 2 * kPanelRows;
}

/// Which rows the panel holds and what they see.
inline void describe_panel(const Call &c, int64_t b, int64_t head, int64_t first_row, Panel &p) {
  const int64_t keys = key_count(c, b), offset = position_offset(c, keys);
  p.first_row = first_row;
  p.rows = static_cast<int32_t>(min64(kPanelRows, c.rows - first_row));
  p.vectors = static_cast<int32_t>(ceil_div64(p.rows, kLanes));
  p.key_begin = p.window_begin = p.common_end = INT32_MAX;
  p.key_end = p.common_begin = 0;
  for (int32_t r = 0; r < p.vectors * kLanes; ++r) {
    if (r >= p.rows) {
      p.low[r] = 0;
      p.high[r] = INT32_MAX;
      p.position[r] = 0;
      p.slope[r] = 0;
      continue;
    }
    const int64_t row = first_row + r, i = row / c.group;
    const Range range = visible(c, keys, i);
    p.low[r] = range.low;
    p.high[r] = range.high;
    p.position[r] = static_cast<int32_t>(i + offset);
    p.slope[r] = c.alibi == nullptr
                     ? 0.0f
                     : *vector_element<const float>(*c.alibi, head * c.group + row % c.group);
    if (sees_any(c, range)) {
      const int32_t begin = first_seen(c, range), end = end_seen(c, range);
      if (begin < p.key_begin) p.key_begin = begin;
      if (end > p.key_end) p.key_end = end;
      if (range.low < p.window_begin) p.window_begin = range.low;
    }
    if (range.low > p.common_begin) p.common_begin = range.low;
    if (range.high + 1 < p.common_end) p.common_end = range.high + 1;
  }
  if (p.key_end == 0) p.key_begin = 0;
}

/// Reads and transposes the queries, as f32 or as pairs of bf16; empties the results.
template <class T, Way kWay>
inline void start_panel(const Call &c, int64_t b, int64_t head, float *rows, Panel &p) {
  constexpr bool kPairs = kWay != Way::widen;
  const int64_t width = p.vectors * kLanes, words = kPairs ? (c.dk + 1) / 2 : c.dk;
  for (int32_t r = 0; r < p.rows; ++r) {
    const int64_t row = p.first_row + r;
    const T *from = element<const T>(*c.q, b, head * c.group + row % c.group, row / c.group);
    if constexpr (kPairs)
      copy_pairs(from, c.q->strides[3], c.dk, reinterpret_cast<char *>(rows + r * words));
    else
      widen_row(from, c.q->strides[3], c.dk, rows + r * words);
  }
  memset(rows + p.rows * words, 0, static_cast<size_t>((width - p.rows) * words) * sizeof(float));
  transpose(rows, words, width, words, p.q_t, width);
  if constexpr (kWay == Way::amx)
    memset(p.q_t + words * width, 0,
           static_cast<size_t>((tile_words(c) - words) * width) * sizeof(float));
  memset(p.o_t, 0, static_cast<size_t>(round_up64(c.dv, kTileHeight) * width) * sizeof(float));
  for (int64_t r = 0; r < width; ++r) {
    p.max[r] = -__builtin_inff();
    p.sum[r] = 0;
  }
}

/// Looks at the mask for `count` keys of a panel: kHidden, kPlain, or kMixed with `bias` filled in.
template <class M>
inline uint32_t mask_tile(const Call &c, const Panel &p, int64_t b, int64_t head, int32_t first,
                          int32_t count, float *bias) {
  const sy_tensor &mask = *c.mask;
  const int64_t step = mask.strides[3], width = p.vectors * kLanes;
  const bool shared = mask.strides[1] == 0;  // one run serves all heads of a position
  const auto run_of = [&](int64_t row) {
    return element<const M>(mask, b, head * c.group + row % c.group, row / c.group) + first * step;
  };
  const auto run_rows = [&](int32_t r) {  // lanes from r on that share a run
    if (!shared) return int32_t{1};
    const int64_t left = c.group - (p.first_row + r) % c.group;
    return static_cast<int32_t>(min64(left, p.rows - r));
  };
  uint32_t kind = 0;
  for (int32_t r = 0; r < p.rows && kind != kMixed; r += run_rows(r))
    kind |= classify_run(run_of(p.first_row + r), step, count);
  if (kind != kMixed) return kind;
  float values[kTileKeys];
  for (int32_t r = 0; r < p.rows;) {
    const int32_t lanes = run_rows(r);
    widen_mask(run_of(p.first_row + r), step, count, values);
    for (int32_t j = 0; j < count; ++j)
      for (int32_t e = 0; e < lanes; ++e) bias[j * width + r + e] = values[j];
    r += lanes;
  }
  for (int32_t j = 0; j < count; ++j)
    for (int64_t r = p.rows; r < width; ++r) bias[j * width + r] = 0;
  return kMixed;
}

/// Combines the parts of a panel computed over consecutive runs of keys, in their order.
inline void merge_parts(const Call &c, const float *parts, int64_t stride, int64_t count,
                        Panel &p) {
  const DF df;
  const int64_t width = p.vectors * kLanes;
  const VF hidden = hn::Set(df, -__builtin_inff());
  memset(p.o_t, 0, static_cast<size_t>(c.dv * width) * sizeof(float));
  for (int64_t r = 0; r < width; r += kLanes) {
    VF max = hidden, sum = hn::Zero(df);
    for (int64_t i = 0; i < count; ++i) max = hn::Max(max, hn::LoadU(df, parts + i * stride + r));
    const VF base = hn::IfThenZeroElse(hn::Eq(max, hidden), max);
    for (int64_t i = 0; i < count; ++i) {
      const float *part = parts + i * stride;
      const VF part_sum = hn::LoadU(df, part + kPanelRows + r);
      const auto nothing = hn::Eq(part_sum, hn::Zero(df));  // its output may be 0 * NaN
      const VF weight =
          hn::IfThenZeroElse(nothing, exp_nonpositive(hn::Sub(hn::LoadU(df, part + r), base)));
      sum = hn::MulAdd(part_sum, weight, sum);
      const float *from = part + 2 * kPanelRows + r;
      float *to = p.o_t + r;
      for (int64_t d = 0; d < c.dv; ++d) {
        const VF o = hn::IfThenZeroElse(nothing, hn::LoadU(df, from + d * width));
        hn::StoreU(hn::MulAdd(o, weight, hn::LoadU(df, to + d * width)), df, to + d * width);
      }
    }
    hn::StoreU(max, df, p.max + r);
    hn::StoreU(sum, df, p.sum + r);
  }
}

/// What a row's summed values are multiplied by, and its log-sum-exp.
struct Closing {
  float factor, lse;
};

inline Closing close_row(float max, float sum, const float *sink) {
  if (sum == 0) return {0.0f, sink != nullptr ? *sink : -__builtin_inff()};
  if (sink == nullptr) return {1.0f / sum, max + logf(sum)};
  const float top = *sink > max ? *sink : max;
  const float shrink = expf(max - top);
  const float total = sum * shrink + expf(*sink - top);
  return {shrink / total, top + logf(total)};
}

/// Divides by the sums (sinks join here), writes the rows of o and lse.
template <class T>
inline void finish_panel(const Call &c, int64_t b, int64_t head, float *rows, Panel &p) {
  const DF df;
  const int64_t width = p.vectors * kLanes;
  float factors[kPanelRows];
  for (int32_t r = 0; r < width; ++r) {
    const int64_t row = p.first_row + r, h = head * c.group + row % c.group;
    const bool real = r < p.rows;
    const float *sink =
        real && c.sinks != nullptr ? vector_element<const float>(*c.sinks, h) : nullptr;
    const Closing closing = close_row(p.max[r], p.sum[r], sink);
    factors[r] = closing.factor;
    if (real && c.lse != nullptr) *(element<float>(*c.lse, b, h, row / c.group)) = closing.lse;
  }
  for (int64_t r = 0; r < width; r += kLanes) {
    const VF factor = hn::LoadU(df, factors + r);
    const auto nothing = hn::Eq(hn::LoadU(df, p.sum + r), hn::Zero(df));
    for (int64_t d = 0; d < c.dv; ++d) {
      float *o = p.o_t + d * width + r;
      hn::StoreU(hn::IfThenZeroElse(nothing, hn::Mul(hn::LoadU(df, o), factor)), df, o);
    }
  }
  transpose(p.o_t, width, c.dv, p.rows, rows, c.dv);
  for (int32_t r = 0; r < p.rows; ++r) {
    const int64_t row = p.first_row + r;
    store_row(rows + r * c.dv, c.dv,
              element<T>(*c.o, b, head * c.group + row % c.group, row / c.group), c.o->strides[3]);
  }
}

}  // namespace attention
}  // namespace SY_ISA
}  // namespace switchyard::cpu
