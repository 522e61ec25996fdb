// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Attention of 16-bit tensors on tensor cores: blocks of rows walk over tiles of keys, scores and
/// probabilities stay in registers, the next tile is copied while one is worked on. For kernels.

#include "attention_rows.hpp"

namespace switchyard::cuda::device {

template <class T>
struct TypeOf;
template <>
struct TypeOf<Bf16> {
  static constexpr ValueType value = ValueType::bf16;
};
template <>
struct TypeOf<F16> {
  static constexpr ValueType value = ValueType::f16;
};

/// `count` rows into a tile of `depth` columns, zeros behind their ends; row_of(r) says where row r
/// begins, or -1. Whole pieces are copied in the background.
template <int depth, class F>
SY_DEVICE void load_rows(std::uint16_t *tile, int count, const char *from, std::int64_t stride,
                         int width, bool fast, F row_of) {
  constexpr int pitch = depth + 8;
  const auto *source = reinterpret_cast<const std::uint16_t *>(from);
  for (int e = thread(); e < count * (depth / 8); e += threads()) {
    const int r = e / (depth / 8), c = e % (depth / 8) * 8;
    const std::int64_t row = row_of(r);
    std::uint16_t *to = tile + r * pitch + c;
    if (fast) {
      const bool inside = row >= 0 && c < width;
      copy_async(to, inside ? source + row + c : source, inside ? 16 : 0);
      continue;
    }
    SY_UNROLL
    for (int i = 0; i < 8; ++i)
      to[i] = row >= 0 && c + i < width ? source[row + (c + i) * stride]
                                        : static_cast<std::uint16_t>(0);
  }
}

template <class T, int depth, int warps>
SY_DEVICE void attention_tensor(const AttentionArguments &a) {
  constexpr int rows = 16 * warps, keys = kTileKeys<depth>, pitch = depth + 8;
  const Range range = range_of<rows, keys>(a);
  auto *const q_tile = reinterpret_cast<std::uint16_t *>(shared());
  std::uint16_t *const k_tiles = q_tile + rows * pitch;
  std::uint16_t *const v_tiles = k_tiles + 2 * keys * pitch;
  const int lane = thread() & 31, warp = thread() / 32;
  const std::int64_t row0 = static_cast<std::int64_t>(range.row_tile) * rows;

  load_rows<depth>(q_tile, rows, a.q, a.q_strides[3], a.dk, a.q_fast != 0, [&](int r) {
    const std::int64_t row = row0 + r;
    if (row >= a.rows) return std::int64_t{-1};
    return element_row(a.q_strides, range.batch,
                       static_cast<int>(range.key_head * a.group + row % a.group), row / a.group);
  });
  const auto load = [&](std::int64_t first, int slot) {
    const auto row_of = [&](const std::int64_t(&strides)[4]) {
      return [&, first](int r) {
        return first + r < range.keys ? element_row(strides, range.batch, range.key_head, first + r)
                                      : std::int64_t{-1};
      };
    };
    load_rows<depth>(k_tiles + slot * keys * pitch, keys, a.k, a.k_strides[3], a.dk, a.k_fast != 0,
                     row_of(a.k_strides));
    load_rows<depth>(v_tiles + slot * keys * pitch, keys, a.v, a.v_strides[3], a.dv, a.v_fast != 0,
                     row_of(a.v_strides));
    copy_commit();
  };

  RowView view[2];
  SY_UNROLL
  for (int h = 0; h < 2; ++h) view[h] = view_of(a, range, row0 + 16 * warp + lane / 4 + 8 * h);
  // Tiles between these need no comparison of positions.
  const std::int64_t clear_first = view_of(a, range, least_of(row0 + rows, a.rows) - 1).first;
  const std::int64_t clear_last = row0 + rows <= a.rows ? view_of(a, range, row0).last : -1;
  const float factor = a.plain ? a.scale * kLog2E : kLog2E;

  float sums[depth / 8][4];
  SY_UNROLL
  for (int t = 0; t < depth / 8; ++t) {
    SY_UNROLL
    for (int e = 0; e < 4; ++e) sums[t][e] = 0.0f;
  }
  float most[2] = {kMinusInfinity, kMinusInfinity}, total[2] = {0.0f, 0.0f};

  int slot = 0;
  if (range.first <= range.last) load(range.first, 0);
  for (std::int64_t first = range.first; first <= range.last; first += keys, slot ^= 1) {
    if (first + keys <= range.last)
      load(first + keys, slot ^ 1);
    else
      copy_commit();
    copy_wait<1>();
    sync_block();

    float scores[keys / 8][4];
    SY_UNROLL
    for (int t = 0; t < keys / 8; ++t) {
      SY_UNROLL
      for (int e = 0; e < 4; ++e) scores[t][e] = 0.0f;
    }
    const std::uint16_t *k_tile = k_tiles + slot * keys * pitch;
    SY_UNROLL
    for (int c = 0; c < depth; c += 16) {
      std::uint32_t x[4];
      ldmatrix(x, q_tile + (16 * warp + lane % 16) * pitch + c + lane / 16 * 8);
      SY_UNROLL
      for (int t = 0; t < keys / 8; t += 2) {
        std::uint32_t y[4];
        ldmatrix(y, k_tile + (8 * t + lane % 8 + lane / 16 * 8) * pitch + c + lane / 8 % 2 * 8);
        mma(T(), scores[t], x, y[0], y[1]);
        mma(T(), scores[t + 1], x, y[2], y[3]);
      }
    }

    if (!a.plain || first < clear_first || first + keys - 1 > clear_last) {
      SY_UNROLL
      for (int t = 0; t < keys / 8; ++t) {
        SY_UNROLL
        for (int e = 0; e < 4; ++e)
          scores[t][e] = score_of(a, range.batch, view[e / 2],
                                  first + 8 * t + 2 * (lane % 4) + e % 2, scores[t][e]);
      }
    }
    SY_UNROLL
    for (int h = 0; h < 2; ++h) {
      float top = most[h];
      SY_UNROLL
      for (int t = 0; t < keys / 8; ++t)
        top = larger(larger(scores[t][2 * h], scores[t][2 * h + 1]), top);
      top = larger(shuffle_xor(top, 1), top);
      top = larger(shuffle_xor(top, 2), top);
      const float base = top == kMinusInfinity ? 0.0f : top;
      const float shrink = exp2_fast((most[h] - base) * factor);
      const float shift = -base * factor;
      most[h] = top;
      total[h] *= shrink;
      SY_UNROLL
      for (int t = 0; t < depth / 8; ++t) {
        sums[t][2 * h] *= shrink;
        sums[t][2 * h + 1] *= shrink;
      }
      SY_UNROLL
      for (int t = 0; t < keys / 8; ++t) {
        SY_UNROLL
        for (int e = 2 * h; e < 2 * h + 2; ++e) {
          // Products of a lowest finite mask must not become infinite.
          const float p = a.plain ? exp2_fast(fused(scores[t][e], factor, shift))
                                  : exp2_fast((scores[t][e] - base) * factor);
          scores[t][e] = p;
          total[h] += p;
        }
      }
    }

    const std::uint16_t *v_tile = v_tiles + slot * keys * pitch;
    SY_UNROLL
    for (int j = 0; j < keys; j += 16) {
      const int t = j / 8;
      const std::uint32_t p[4] = {pack(T(), scores[t][0], scores[t][1]),
                                  pack(T(), scores[t][2], scores[t][3]),
                                  pack(T(), scores[t + 1][0], scores[t + 1][1]),
                                  pack(T(), scores[t + 1][2], scores[t + 1][3])};
      SY_UNROLL
      for (int c = 0; c < depth / 8; c += 2) {
        std::uint32_t y[4];
        ldmatrix_transposed(
            y, v_tile + (j + lane % 8 + lane / 8 % 2 * 8) * pitch + 8 * c + lane / 16 * 8);
        mma(T(), sums[c], p, y[0], y[1]);
        mma(T(), sums[c + 1], p, y[2], y[3]);
      }
    }
    sync_block();
  }
  copy_wait<0>();

  SY_UNROLL
  for (int h = 0; h < 2; ++h) {
    total[h] += shuffle_xor(total[h], 1);
    total[h] += shuffle_xor(total[h], 2);
    const std::int64_t row = row0 + 16 * warp + lane / 4 + 8 * h;
    if (row >= a.rows) continue;
    const float top = a.plain && most[h] != kMinusInfinity ? most[h] * a.scale : most[h];
    if (a.splits > 1) {
      const std::int64_t at = part_row(a, range.split, range.batch, range.key_head, row);
      SY_UNROLL
      for (int t = 0; t < depth / 8; ++t) {
        SY_UNROLL
        for (int e = 0; e < 2; ++e) {
          const int column = 8 * t + 2 * (lane % 4) + e;
          if (column < a.dv) a.part_sums[at * a.dv + column] = sums[t][2 * h + e];
        }
      }
      if (lane % 4 == 0) {
        a.part_scales[2 * at] = top;
        a.part_scales[2 * at + 1] = total[h];
      }
      continue;
    }
    float lse = 0;
    const float weight = finish_row(a, view[h], top, total[h], lse);
    const std::int64_t out = output_row(a, range.batch, view[h]);
    SY_UNROLL
    for (int t = 0; t < depth / 8; ++t) {
      SY_UNROLL
      for (int e = 0; e < 2; ++e) {
        const int column = 8 * t + 2 * (lane % 4) + e;
        // A row that saw nothing may have met values that are not finite, with weight 0.
        const float o = weight == 0.0f ? 0.0f : sums[t][2 * h + e] * weight;
        if (column < a.dv) store_value(a.o, out + column * a.o_strides[3], TypeOf<T>::value, o);
      }
    }
    if (lane % 4 == 0) store_lse(a, range.batch, view[h], lse);
  }
}

}  // namespace switchyard::cuda::device
