// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What rows of attention see, and how their sums become outputs. For kernels.

#include "attention_arguments.hpp"
#include "quant_values.hpp"

namespace switchyard::cuda::device {

constexpr float kLog2E = 1.44269504f;
constexpr float kMinusInfinity = -__builtin_huge_valf();

/// Where a block of threads works.
struct Range {
  int batch, key_head, row_tile, split;
  std::int64_t keys;         ///< of this sequence
  std::int64_t first, last;  ///< keys of this block's rows and split; none if last < first
};

struct RowView {
  std::int64_t position;     ///< on the keys' axis
  std::int64_t first, last;  ///< visible keys; none if last < first
  std::int64_t query;
  int head;
  bool inside;
  float alibi;
};

SY_DEVICE std::int64_t least_of(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
SY_DEVICE std::int64_t most_of(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

SY_DEVICE RowView view_of(const AttentionArguments &a, const Range &range, std::int64_t row) {
  RowView v;
  v.inside = row < a.rows;
  const std::int64_t r = v.inside ? row : a.rows - 1;
  v.query = r / a.group;
  v.head = static_cast<int>(range.key_head * a.group + r % a.group);
  constexpr int kTopLeft = 1, kNone = 0;
  v.position = a.causal == kTopLeft ? v.query : v.query + range.keys - a.queries;
  v.first = a.window_left >= 0 ? most_of(0, v.position - a.window_left) : 0;
  v.last = range.keys - 1;
  if (a.causal != kNone) v.last = least_of(v.last, v.position);
  if (a.window_right >= 0) v.last = least_of(v.last, v.position + a.window_right);
  v.alibi = a.alibi != nullptr ? a.alibi[v.head * a.alibi_stride] : 0.0f;
  return v;
}

/// The heaviest causal rows come first; splits of a row tile are neighbours.
template <int rows, int keys>
SY_DEVICE Range range_of(const AttentionArguments &a) {
  Range r;
  r.batch = block_z();
  r.key_head = block_y();
  r.split = static_cast<int>(block() % a.splits);
  r.row_tile = a.row_tiles - 1 - static_cast<int>(block() / a.splits);
  r.keys = a.lengths != nullptr ? a.lengths[r.batch * a.lengths_stride] : a.keys;
  const std::int64_t row0 = static_cast<std::int64_t>(r.row_tile) * rows;
  // Positions grow with the row, and so do both ends of what is visible.
  const std::int64_t first = view_of(a, r, row0).first;
  const std::int64_t last = view_of(a, r, least_of(row0 + rows, a.rows) - 1).last;
  const std::int64_t tile0 = first / keys, tiles = last < first ? 0 : last / keys - tile0 + 1;
  const std::int64_t share = (tiles + a.splits - 1) / a.splits;
  const std::int64_t begin = least_of(share * r.split, tiles);
  const std::int64_t end = least_of(begin + share, tiles);
  r.first = (tile0 + begin) * keys;
  r.last = (tile0 + end) * keys - 1;
  return r;
}

SY_DEVICE float mask_at(const AttentionArguments &a, int batch, const RowView &v, std::int64_t j) {
  const std::int64_t at = batch * a.mask_strides[0] + v.head * a.mask_strides[1] +
                          v.query * a.mask_strides[2] + j * a.mask_strides[3];
  if (a.mask_type == MaskType::boolean) return a.mask[at] != 0 ? 0.0f : kMinusInfinity;
  return load_value(a.mask, at,
                    a.mask_type == MaskType::f32   ? ValueType::f32
                    : a.mask_type == MaskType::f16 ? ValueType::f16
                                                   : ValueType::bf16);
}

/// The score of a product q k: in natural units, or the product itself where `plain`.
SY_DEVICE float score_of(const AttentionArguments &a, int batch, const RowView &v, std::int64_t j,
                         float product) {
  if (j < v.first || j > v.last || !v.inside) return kMinusInfinity;
  if (a.plain) return product;
  const float mask = a.mask_type != MaskType::none ? mask_at(a, batch, v, j) : 0.0f;
  if (mask == kMinusInfinity) return mask;
  float t = product * a.scale;
  if (a.softcap > 0) t = a.softcap * tanh_accurate(t / a.softcap);
  t += v.alibi * static_cast<float>(j - v.position);
  return t + mask;
}

/// A row's result so far: its maximum (natural units) and denominator. What its sums are to be
/// multiplied with, the sink being joined; the log of the denominator in `lse`.
SY_DEVICE float finish_row(const AttentionArguments &a, const RowView &v, float most, float sum,
                           float &lse) {
  const bool nothing = sum == 0.0f;
  if (a.sinks == nullptr) {
    lse = nothing ? kMinusInfinity : most + log_accurate(sum);
    return nothing ? 0.0f : 1.0f / sum;
  }
  const float sink = a.sinks[v.head * a.sinks_stride];
  if (nothing) {
    lse = sink;
    return 0.0f;
  }
  const float nan = as_float(0x7FC00000u);
  if (!(sink < -kMinusInfinity) || !(most < -kMinusInfinity)) {
    lse = nan;
    return nan;
  }
  const float top = larger(sink, most);
  const float weight = exp_accurate(most - top);
  const float all = sum * weight + exp_accurate(sink - top);
  lse = top + log_accurate(all);
  return weight / all;
}

SY_DEVICE std::int64_t output_row(const AttentionArguments &a, int batch, const RowView &v) {
  return batch * a.o_strides[0] + v.head * a.o_strides[1] + v.query * a.o_strides[2];
}
SY_DEVICE void store_lse(const AttentionArguments &a, int batch, const RowView &v, float lse) {
  if (a.lse != nullptr)
    a.lse[batch * a.lse_strides[0] + v.head * a.lse_strides[1] + v.query * a.lse_strides[2]] = lse;
}
/// Of a row in the arrays of shares.
SY_DEVICE std::int64_t part_row(const AttentionArguments &a, int split, int batch, int key_head,
                                std::int64_t row) {
  return ((static_cast<std::int64_t>(split) * a.batch + batch) * a.key_heads + key_head) * a.rows +
         row;
}

/// Shares of a row joined in their order: a block of threads a row.
SY_DEVICE void merge_parts(const AttentionArguments &a, ValueType type) {
  Range range{block_z(), block_y(), 0, 0, 0, 0, 0};
  range.keys = a.lengths != nullptr ? a.lengths[range.batch * a.lengths_stride] : a.keys;
  const std::int64_t row = block();
  const RowView view = view_of(a, range, row);
  float most = kMinusInfinity, sum = 0.0f;
  bool nan = false;
  for (int s = 0; s < a.splits; ++s) {
    const std::int64_t at = part_row(a, s, range.batch, range.key_head, row);
    const float m = a.part_scales[2 * at], l = a.part_scales[2 * at + 1];
    nan = nan || !(l < -kMinusInfinity);
    most = larger(m, most);
  }
  const float base = most == kMinusInfinity ? 0.0f : most;
  for (int s = 0; s < a.splits; ++s) {
    const std::int64_t at = part_row(a, s, range.batch, range.key_head, row);
    const float l = a.part_scales[2 * at + 1];
    if (l != 0.0f) sum += l * exp_accurate(a.part_scales[2 * at] - base);
  }
  if (nan) sum = as_float(0x7FC00000u);
  float lse = 0;
  const float weight = finish_row(a, view, most, sum, lse);
  for (int e = thread(); e < a.dv; e += threads()) {
    float o = 0;
    for (int s = 0; s < a.splits; ++s) {
      const std::int64_t at = part_row(a, s, range.batch, range.key_head, row);
      if (a.part_scales[2 * at + 1] != 0.0f)
        o += a.part_sums[at * a.dv + e] * exp_accurate(a.part_scales[2 * at] - base);
    }
    store_value(a.o, output_row(a, range.batch, view) + e * a.o_strides[3], type, o * weight);
  }
  if (thread() == 0) store_lse(a, range.batch, view, lse);
}

/// Element e of row (b, h, i); 0 behind the row's end.
SY_DEVICE std::int64_t element_row(const std::int64_t (&strides)[4], int b, int h, std::int64_t i) {
  return b * strides[0] + h * strides[1] + i * strides[2];
}

}  // namespace switchyard::cuda::device
