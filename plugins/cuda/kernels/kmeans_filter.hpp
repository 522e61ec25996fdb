// SPDX-License-Identifier: Apache-2.0
#pragma once
/// k-means: which centroids can be a row's nearest. Scores |C|^2/2 - <X, C> by tensor cores in 16
/// bits; a bound of their error (docs/kmeans.md) leaves hardly more than one centroid a row. For
/// kernels.

#include "kmeans_arguments.hpp"
#include "quant_values.hpp"

namespace switchyard::cuda::device {

/// The sum over 16 lanes, in all of them. The order is that of the canonical distance.
template <class T>
SY_DEVICE T sum_of_16(T v) {
  SY_UNROLL
  for (int m = 8; m >= 1; m /= 2) v += shuffle_xor(v, m);
  return v;
}

/// mu = the mean of the centroids: near the data, so that an offset costs no digits. Any is right.
SY_DEVICE void kmeans_origin(const KMeansArguments &a) {
  const std::int64_t m = block() * threads() + thread();
  if (m >= a.d) return;
  double sum = 0;
  for (std::int64_t j = 0; j < a.k; ++j) sum += static_cast<double>(a.centroids[j * a.d + m]);
  a.mu[m] = static_cast<float>(sum / static_cast<double>(a.k));
}

/// A value's two parts.
struct Parts {
  std::uint16_t high, low;
  float rest;  ///< what they lack
};
SY_DEVICE Parts parts_of(float v, bool split) {
  Parts p;
  p.high = float_to_bf16(v);
  const float left = v - bf16_to_float(p.high);  // exact
  p.low = split ? float_to_bf16(left) : static_cast<std::uint16_t>(0);
  p.rest = left - bf16_to_float(p.low);
  return p;
}

/// Rows in 16 bits and the lengths that the bound needs: 16 lanes a row.
SY_DEVICE void kmeans_rows(const KMeansArguments &a) {
  const std::int64_t i = (block() * threads() + thread()) / 16;
  const bool inside = i < a.n;
  const float *x = a.x + (inside ? i : 0) * a.stride;
  std::uint16_t *out = a.rows + (inside ? i : 0) * a.depth;
  const std::int64_t used = a.split ? 3 * a.d : a.d;
  float rest = 0, length = 0, low = 0;
  for (std::int64_t m = thread() % 16; inside && m < a.d; m += 16) {
    const Parts p = parts_of(x[m] - a.mu[m], a.split != 0);
    const float h = bf16_to_float(p.high), l = bf16_to_float(p.low);
    rest += p.rest * p.rest;
    length += h * h;
    low += l * l;
    out[m] = p.high;
    if (a.split) {
      out[a.d + m] = p.high;
      out[2 * a.d + m] = p.low;
    }
  }
  for (std::int64_t m = used + thread() % 16; inside && m < a.depth; m += 16) out[m] = 0;
  rest = sum_of_16(rest);
  length = sum_of_16(length);
  low = sum_of_16(low);
  if (!inside || thread() % 16 != 0) return;
  const float up = 1.0f + a.row_slack;
  const float l = root(low) * up + a.tiny, v = root(length) * up + a.tiny + l;
  // The subtraction of mu rounded once.
  const float r = root(rest) * up + a.tiny;
  a.row_rest[i] = v < 0x1p60f ? r + (v + r) * 0x1p-23f : as_float(kInfinity);
  a.row_length[i] = v;
  a.row_low[i] = l;
}

SY_DEVICE float rounded_up(double v) { return static_cast<float>(v * (1 + 0x1p-20)); }

/// Centroids, negated, likewise: 16 lanes a centroid.
SY_DEVICE void kmeans_columns(const KMeansArguments &a) {
  const std::int64_t j = (block() * threads() + thread()) / 16;
  const bool inside = j < a.k, room = j < a.padded_k;
  const float *c = a.centroids + (inside ? j : 0) * a.d;
  std::uint16_t *out = a.columns + (room ? j : 0) * a.depth;
  double rest = 0, square = 0, length = 0, low = 0;
  for (std::int64_t m = thread() % 16; m < a.d; m += 16) {
    const Parts p = parts_of(inside ? c[m] - a.mu[m] : 0.0f, a.split != 0);
    const double exact = inside ? static_cast<double>(c[m]) - static_cast<double>(a.mu[m]) : 0.0;
    const auto h = static_cast<double>(bf16_to_float(p.high)),
               l = static_cast<double>(bf16_to_float(p.low));
    rest += (exact - h - l) * (exact - h - l);
    square += exact * exact;
    length += h * h;
    low += l * l;
    if (!room) continue;
    const auto high = static_cast<std::uint16_t>(p.high ^ 0x8000u);
    out[m] = high;
    if (a.split) {
      out[a.d + m] = static_cast<std::uint16_t>(p.low ^ 0x8000u);
      out[2 * a.d + m] = high;
    }
  }
  const std::int64_t used = a.split ? 3 * a.d : a.d;
  for (std::int64_t m = used + thread() % 16; room && m < a.depth; m += 16) out[m] = 0;
  rest = sum_of_16(rest);
  square = sum_of_16(square);
  length = sum_of_16(length);
  low = sum_of_16(low);
  if (!room || thread() % 16 != 0) return;
  a.halves[j] = inside ? static_cast<float>(square * 0.5) : as_float(kInfinity);
  if (!inside) return;
  const float l = rounded_up(sqrt(low));
  atomic_max(a.largest, as_bits(rounded_up(sqrt(rest)) + a.tiny));
  atomic_max(a.largest + 1, as_bits(rounded_up(sqrt(square)) + a.tiny));
  atomic_max(a.largest + 2, as_bits(rounded_up(sqrt(length)) + l + a.tiny));
  atomic_max(a.largest + 3, as_bits(l));
}

/// What is known of a row's scores: the two least of this thread's columns, and the least of the
/// others that passed the gate.
struct Least {
  float score[3];
  std::int32_t index[2];
  float gate;  ///< a score above it can be no survivor
};

/// A row's bound.
struct RowBound {
  float error2;  ///< twice the bound of a score's error
  float square;  ///< |X|^2, rounded up
  float half_kappa;

  /// No centroid whose score is above this can be nearest, `least` being some centroid's score.
  SY_DEVICE float limit(float least) const {
    const float reach = square + 2.0f * least + error2;
    const float margin = error2 + half_kappa * larger(reach, 0.0f);
    return least + margin * (1.0f + 0x1p-8f) + magnitude(least) * 0x1p-20f;
  }
};

SY_DEVICE void insert(Least &l, const RowBound &bound, float s, std::int32_t j) {
  if (!(s <= l.gate)) return;
  if (s < l.score[1]) {
    l.score[2] = l.score[1];
    if (s < l.score[0]) {
      l.score[1] = l.score[0];
      l.index[1] = l.index[0];
      l.score[0] = s;
      l.index[0] = j;
      l.gate = bound.limit(s);
    } else {
      l.score[1] = s;
      l.index[1] = j;
    }
  } else {
    l.score[2] = smaller(l.score[2], s);
  }
}

SY_DEVICE RowBound row_bound(const KMeansArguments &a, std::int64_t i) {
  const float rho = as_float(a.largest[0]), G = as_float(a.largest[1]), g = as_float(a.largest[2]);
  const float l = as_float(a.largest[3]);
  const float r = a.row_rest[i], v = a.row_length[i];
  const float H = 0.5f * G * G;
  const float error =
      r * G + v * rho + a.row_low[i] * l + a.sum_error * (v * g + H) + 0x1p-23f * H + a.tiny;
  // What cannot be bounded leaves every centroid.
  const bool usable = v < 0x1p60f && G < 0x1p60f;
  return {usable ? error * (2.0f * (1.0f + 0x1p-8f)) : as_float(kInfinity), (v + r) * (v + r),
          a.half_kappa};
}

/// One row of a quad of threads: the survivors of all four.
SY_DEVICE void write_choice(const KMeansArguments &a, std::int64_t i, bool inside, const Least &l,
                            const RowBound &bound) {
  float least = l.score[0];
  least = smaller(least, shuffle_xor(least, 1));
  least = smaller(least, shuffle_xor(least, 2));
  const float limit = bound.limit(least);
  const bool usable = finite(limit);
  std::int32_t mine[2];
  int count = 0;
  SY_UNROLL
  for (int e = 0; e < 2; ++e) {
    mine[e] = usable && l.score[e] <= limit ? l.index[e] : -1;
    count += mine[e] >= 0;
  }
  int all = (!usable || l.score[2] <= limit) ? 1000 : count;
  all += shuffle_xor(all, 1);
  all += shuffle_xor(all, 2);
  std::int32_t only = mine[0] > mine[1] ? mine[0] : mine[1];
  std::int32_t other = shuffle_xor(only, 1);
  only = only > other ? only : other;
  other = shuffle_xor(only, 2);
  only = only > other ? only : other;
  const int quarter = thread() % 4;
  std::int32_t slot = -1;
  if (inside && quarter == 0 && all > 1 && all < 1000) slot = atomic_add(a.list_count, 1);
  slot = shuffle(slot, (thread() & 31) - quarter);
  if (!inside) return;
  const bool listed = slot >= 0 && slot < a.list_room;
  if (listed) {
    a.lists[static_cast<std::int64_t>(slot) * kListed + 2 * quarter] = mine[0];
    a.lists[static_cast<std::int64_t>(slot) * kListed + 2 * quarter + 1] = mine[1];
  }
  if (quarter == 0) a.choice[i] = all == 1 ? only : listed ? -1 - slot : kAllCentroids;
}

/// 128 rows against all centroids, 64 at a time; a warp takes 32 rows. Scores never leave the
/// registers.
SY_DEVICE void kmeans_filter(const KMeansArguments &a) {
  const std::int64_t pieces = (a.depth + kFilterDepth - 1) / kFilterDepth;
  const std::int64_t steps = pieces * (a.padded_k / kFilterColumns);
  const bool resident = pieces <= kResidentPieces;
  const int row_slots = resident ? static_cast<int>(pieces) : 2;
  auto *const row_tiles = reinterpret_cast<std::uint16_t *>(shared());
  std::uint16_t *const column_tiles = row_tiles + row_slots * kFilterRows * kFilterPitch;
  const std::int64_t first = block() * kFilterRows;
  const int lane = thread() & 31, warp = thread() / 32;

  const auto load = [&](std::int64_t step) {
    const std::int64_t piece = step % pieces, tile = step / pieces;
    const auto part = [&](std::uint16_t *to, const std::uint16_t *from, std::int64_t row0,
                          std::int64_t rows, int count) {
      for (int e = thread(); e < count * (kFilterDepth / 8); e += kFilterThreads) {
        const int r = e / (kFilterDepth / 8), c = e % (kFilterDepth / 8) * 8;
        const std::int64_t column = piece * kFilterDepth + c;
        const bool inside = row0 + r < rows && column < a.depth;
        copy_async(to + r * kFilterPitch + c, inside ? from + (row0 + r) * a.depth + column : from,
                   inside ? 16 : 0);
      }
    };
    if (!resident || tile == 0)
      part(row_tiles + (resident ? piece : step % 2) * kFilterRows * kFilterPitch, a.rows, first,
           a.n, kFilterRows);
    part(column_tiles + step % 2 * kFilterColumns * kFilterPitch, a.columns, tile * kFilterColumns,
         a.padded_k, kFilterColumns);
    copy_commit();
  };

  Least least[4];
  RowBound bound[4];
  SY_UNROLL
  for (int r = 0; r < 4; ++r) {
    const std::int64_t i = first + 32 * warp + 8 * r + lane / 4;
    const float infinite = as_float(kInfinity);
    bound[r] = row_bound(a, i < a.n ? i : 0);
    least[r] = {{infinite, infinite, infinite}, {-1, -1}, infinite};
  }

  load(0);
  float scores[2][8][4];
  for (std::int64_t step = 0; step < steps; ++step) {
    const std::int64_t piece = step % pieces, tile = step / pieces;
    if (step + 1 < steps)
      load(step + 1);
    else
      copy_commit();
    copy_wait<1>();
    sync_block();
    if (piece == 0) {
      SY_UNROLL
      for (int t = 0; t < 8; ++t) {
        SY_UNROLL
        for (int e = 0; e < 2; ++e) {
          const float half = a.halves[tile * kFilterColumns + 8 * t + 2 * (lane % 4) + e];
          SY_UNROLL
          for (int r = 0; r < 2; ++r) scores[r][t][e] = scores[r][t][2 + e] = half;
        }
      }
    }
    const std::uint16_t *rows =
        row_tiles + (resident ? piece : step % 2) * kFilterRows * kFilterPitch;
    const std::uint16_t *columns = column_tiles + step % 2 * kFilterColumns * kFilterPitch;
    const std::int64_t left = a.depth - piece * kFilterDepth;
    const int depth = left < kFilterDepth ? static_cast<int>(left) : kFilterDepth;
    for (int k = 0; k < depth; k += 16) {
      std::uint32_t x[2][4];
      SY_UNROLL
      for (int r = 0; r < 2; ++r)
        ldmatrix(x[r], rows + (32 * warp + 16 * r + lane % 16) * kFilterPitch + k + lane / 16 * 8);
      SY_UNROLL
      for (int t = 0; t < 8; t += 2) {
        std::uint32_t c[4];
        ldmatrix(
            c, columns + (8 * t + lane % 8 + lane / 16 * 8) * kFilterPitch + k + lane / 8 % 2 * 8);
        SY_UNROLL
        for (int r = 0; r < 2; ++r) {
          mma(Bf16(), scores[r][t], x[r], c[0], c[1]);
          mma(Bf16(), scores[r][t + 1], x[r], c[2], c[3]);
        }
      }
    }
    if (piece == pieces - 1) {
      SY_UNROLL
      for (int t = 0; t < 8; ++t) {
        SY_UNROLL
        for (int e = 0; e < 2; ++e) {
          const auto j =
              static_cast<std::int32_t>(tile * kFilterColumns + 8 * t + 2 * (lane % 4) + e);
          SY_UNROLL
          for (int r = 0; r < 4; ++r)
            insert(least[r], bound[r], scores[r / 2][t][r % 2 * 2 + e], j);
        }
      }
    }
    sync_block();
  }
  SY_UNROLL
  for (int r = 0; r < 4; ++r) {
    const std::int64_t i = first + 32 * warp + 8 * r + lane / 4;
    write_choice(a, i, i < a.n, least[r], bound[r]);
  }
}

}  // namespace switchyard::cuda::device
