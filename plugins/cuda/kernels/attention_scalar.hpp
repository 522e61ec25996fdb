// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Attention of f32 tensors: 64 rows against 32 keys at a time, a thread four rows by two keys and
/// then four rows by every 16th column. For kernels.

#include "attention_rows.hpp"

namespace switchyard::cuda::device {

template <int depth, class F>
SY_DEVICE void load_floats(float *tile, int count, const char *from, std::int64_t stride, int width,
                           bool fast, F row_of) {
  const auto *source = reinterpret_cast<const float *>(from);
  for (int e = thread(); e < count * (depth / 4); e += threads()) {
    const int r = e / (depth / 4), c = e % (depth / 4) * 4;
    const std::int64_t row = row_of(r);
    float *to = tile + r * (depth + 4) + c;
    if (fast) {
      const bool inside = row >= 0 && c < width;
      *reinterpret_cast<Vector *>(to) =
          inside ? *reinterpret_cast<const Vector *>(source + row + c) : Vector{0, 0, 0, 0};
      continue;
    }
    SY_UNROLL
    for (int i = 0; i < 4; ++i)
      to[i] = row >= 0 && c + i < width ? source[row + (c + i) * stride] : 0.0f;
  }
}

SY_DEVICE void read_four(const float *p, float (&out)[4]) {
  const Vector v = *reinterpret_cast<const Vector *>(p);
  out[0] = as_float(v.x), out[1] = as_float(v.y), out[2] = as_float(v.z), out[3] = as_float(v.w);
}

template <int depth>
SY_DEVICE void attention_scalar(const AttentionArguments &a) {
  constexpr int pitch = depth + 4, p_pitch = kScalarKeys + 4, columns = depth / 64;
  const Range range = range_of<kScalarRows, kScalarKeys>(a);
  auto *const q_tile = reinterpret_cast<float *>(shared());
  float *const k_tile = q_tile + kScalarRows * pitch;
  float *const v_tile = k_tile + kScalarKeys * pitch;
  float *const p_tile = v_tile + kScalarKeys * pitch;
  const int tx = thread() % 16, ty = thread() / 16;
  const std::int64_t row0 = static_cast<std::int64_t>(range.row_tile) * kScalarRows;
  load_floats<depth>(q_tile, kScalarRows, a.q, a.q_strides[3], a.dk, a.q_fast != 0, [&](int r) {
    const std::int64_t row = row0 + r;
    if (row >= a.rows) return std::int64_t{-1};
    return element_row(a.q_strides, range.batch,
                       static_cast<int>(range.key_head * a.group + row % a.group), row / a.group);
  });
  RowView view[4];
  float most[4], total[4], sums[4][columns][4];
  SY_UNROLL
  for (int r = 0; r < 4; ++r) {
    view[r] = view_of(a, range, row0 + 4 * ty + r);
    most[r] = kMinusInfinity;
    total[r] = 0.0f;
    SY_UNROLL
    for (int c = 0; c < columns; ++c) {
      SY_UNROLL
      for (int e = 0; e < 4; ++e) sums[r][c][e] = 0.0f;
    }
  }
  for (std::int64_t first = range.first; first <= range.last; first += kScalarKeys) {
    sync_block();
    const auto row_of = [&](const std::int64_t(&strides)[4]) {
      return [&](int r) {
        return first + r < range.keys ? element_row(strides, range.batch, range.key_head, first + r)
                                      : std::int64_t{-1};
      };
    };
    load_floats<depth>(k_tile, kScalarKeys, a.k, a.k_strides[3], a.dk, a.k_fast != 0,
                       row_of(a.k_strides));
    load_floats<depth>(v_tile, kScalarKeys, a.v, a.v_strides[3], a.dv, a.v_fast != 0,
                       row_of(a.v_strides));
    sync_block();
    float scores[4][2] = {};
    SY_NO_UNROLL
    for (int c = 0; c < depth; c += 4) {
      float y[2][4];
      SY_UNROLL
      for (int j = 0; j < 2; ++j) read_four(k_tile + (tx + 16 * j) * pitch + c, y[j]);
      SY_UNROLL
      for (int r = 0; r < 4; ++r) {
        float x[4];
        read_four(q_tile + (4 * ty + r) * pitch + c, x);
        SY_UNROLL
        for (int j = 0; j < 2; ++j) {
          SY_UNROLL
          for (int e = 0; e < 4; ++e) scores[r][j] = fused(x[e], y[j][e], scores[r][j]);
        }
      }
    }
    SY_UNROLL
    for (int r = 0; r < 4; ++r) {
      float top = most[r];
      SY_UNROLL
      for (int j = 0; j < 2; ++j) {
        float &s = scores[r][j];
        s = score_of(a, range.batch, view[r], first + tx + 16 * j, s);
        if (a.plain && s != kMinusInfinity) s *= a.scale;
        top = larger(s, top);
      }
      SY_UNROLL
      for (int m = 8; m >= 1; m /= 2) top = larger(shuffle_xor(top, m), top);
      const float base = top == kMinusInfinity ? 0.0f : top;
      const float shrink = exp_accurate(most[r] - base);
      most[r] = top;
      total[r] *= shrink;
      SY_UNROLL
      for (int c = 0; c < columns; ++c) {
        SY_UNROLL
        for (int e = 0; e < 4; ++e) sums[r][c][e] *= shrink;
      }
      SY_UNROLL
      for (int j = 0; j < 2; ++j) {
        const float p = exp_accurate(scores[r][j] - base);
        total[r] += p;
        p_tile[(4 * ty + r) * p_pitch + tx + 16 * j] = p;
      }
    }
    sync_warp();  // a row's probabilities come from its own half of a warp
    SY_NO_UNROLL
    for (int j = 0; j < kScalarKeys; ++j) {
      float p[4];
      SY_UNROLL
      for (int r = 0; r < 4; ++r) p[r] = p_tile[(4 * ty + r) * p_pitch + j];
      SY_UNROLL
      for (int c = 0; c < columns; ++c) {
        float y[4];
        read_four(v_tile + j * pitch + 64 * c + 4 * tx, y);
        SY_UNROLL
        for (int r = 0; r < 4; ++r) {
          SY_UNROLL
          for (int e = 0; e < 4; ++e) sums[r][c][e] = fused(p[r], y[e], sums[r][c][e]);
        }
      }
    }
    sync_warp();
  }
  SY_UNROLL
  for (int r = 0; r < 4; ++r) {
    SY_UNROLL
    for (int m = 8; m >= 1; m /= 2) total[r] += shuffle_xor(total[r], m);
    const std::int64_t row = row0 + 4 * ty + r;
    if (row >= a.rows) continue;
    float lse = 0, weight = 1.0f;
    const std::int64_t at = part_row(a, range.split, range.batch, range.key_head, row);
    const std::int64_t out = output_row(a, range.batch, view[r]);
    if (a.splits == 1) weight = finish_row(a, view[r], most[r], total[r], lse);
    SY_UNROLL
    for (int c = 0; c < columns; ++c) {
      SY_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int column = 64 * c + 4 * tx + e;
        const float o = weight == 0.0f ? 0.0f : sums[r][c][e] * weight;
        if (column >= a.dv) continue;
        if (a.splits > 1)
          a.part_sums[at * a.dv + column] = o;
        else
          store_value(a.o, out + column * a.o_strides[3], ValueType::f32, o);
      }
    }
    if (tx != 0) continue;
    if (a.splits > 1) {
      a.part_scales[2 * at] = most[r];
      a.part_scales[2 * at + 1] = total[r];
    } else {
      store_lse(a, range.batch, view[r], lse);
    }
  }
}

}  // namespace switchyard::cuda::device
