// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Rows with few columns, sorted along a Hilbert curve within segments of consecutive rows, so that
/// results go back to their places without leaving the cache. Any order is correct; a good one
/// makes small boxes. Part of the kernel sources (needs SY_ISA).

#include <string.h>

#include <hwy/highway.h>

#include "kmeans_call.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kMostBlockColumns = 8;
constexpr int64_t kSmallBox = 64;   // points that share a list of centroids
constexpr int64_t kMiddleBox = 4;   // small boxes in a middle one
constexpr int64_t kLargeBox = 32;   // small boxes in a large one
constexpr int64_t kRadixBits = 11;  // two passes: keys of 22 bits
constexpr int64_t kBuckets = int64_t{1} << kRadixBits;

/// Rows of a segment: at most 65,536, so that 16 bits number them; a multiple of the inertia block
/// or, of small inputs, fewer.
inline int64_t segment_rows(int64_t n) {
  const int64_t share = n / 16;
  if (share >= 65536) return 65536;
  if (share >= SY_KMEANS_INERTIA_BLOCK)
    return share / SY_KMEANS_INERTIA_BLOCK * SY_KMEANS_INERTIA_BLOCK;
  return share <= 1024 ? 1024 : (share + 255) / 256 * 256;
}

/// Segments one after the other, each padded to whole small boxes with copies of its last point.
struct SortedRows {
  float *columns;   // [small boxes][D][kSmallBox]
  float *boxes;     // [small boxes][2][D]
  uint16_t *order;  // [small boxes][kSmallBox]: row within the segment
  uint8_t *built;   // [segments]
};

struct SortScratch {
  uint32_t *keys;        // [2][padded rows]
  uint16_t *places;      // [2][padded rows]
  uint32_t *histograms;  // [2][kBuckets]
};

/// For `rows` rows in segments of `segment`.
inline SortedRows carve_sorted(Carver &carver, int64_t rows, int64_t segment, int64_t d) {
  const int64_t segments = ceil_of(rows, segment);
  const auto boxes = static_cast<uint64_t>(segments * ceil_of(segment, kSmallBox));
  const auto columns = static_cast<uint64_t>(d);
  SortedRows s;
  s.columns = carver.take<float>(boxes * columns * kSmallBox);
  s.boxes = carver.take<float>(boxes * columns * 2);
  s.order = carver.take<uint16_t>(boxes * kSmallBox);
  s.built = carver.take<uint8_t>(static_cast<uint64_t>(segments));
  return s;
}

inline int64_t padded_rows(int64_t rows) { return ceil_of(rows, kSmallBox) * kSmallBox; }

inline SortScratch carve_sort_scratch(Carver &carver, int64_t rows) {
  SortScratch s;
  s.keys = carver.take<uint32_t>(2 * static_cast<uint64_t>(padded_rows(rows)));
  s.places = carver.take<uint16_t>(2 * static_cast<uint64_t>(padded_rows(rows)));
  s.histograms = carver.take<uint32_t>(2 * kBuckets);
  return s;
}

/// The part of the segment whose first row is `begin`; all segments but the last are whole boxes.
inline SortedRows segment_of(const SortedRows &all, int64_t begin, int64_t d) {
  return {all.columns + begin * d, all.boxes + begin / kSmallBox * 2 * d, all.order + begin,
          nullptr};
}

using Cells = hn::CappedTag<uint32_t, 16>;

/// Places on the Hilbert curve of a vector of points, from their cells of kBits bits a column:
/// J. Skilling, "Programming the Hilbert curve" (2004).
template <int D, int kBits, class V>
HWY_INLINE V hilbert_key(V *cell) {
  const Cells lanes;
  const V one = hn::Set(lanes, 1u), none = hn::Zero(lanes);
  for (int bit = kBits - 1; bit > 0; --bit) {
    const V lower = hn::Set(lanes, (1u << bit) - 1);
    for (int m = 0; m < D; ++m) {
      // Where the bit is set, the lower bits of column 0 are inverted; else they change places.
      const V clear = hn::Sub(hn::And(hn::ShiftRightSame(cell[m], bit), one), one);
      const V swap = hn::And(hn::Xor(cell[0], cell[m]), hn::And(lower, clear));
      cell[m] = hn::Xor(cell[m], swap);
      cell[0] = hn::Xor(cell[0], hn::Or(swap, hn::AndNot(clear, lower)));
    }
  }
  for (int m = 1; m < D; ++m) cell[m] = hn::Xor(cell[m], cell[m - 1]);
  V gray = none;
  for (int bit = kBits - 1; bit > 0; --bit) {
    const V clear = hn::Sub(hn::And(hn::ShiftRightSame(cell[D - 1], bit), one), one);
    gray = hn::Xor(gray, hn::AndNot(clear, hn::Set(lanes, (1u << bit) - 1)));
  }
  for (int m = 0; m < D; ++m) cell[m] = hn::Xor(cell[m], gray);
  V key = none;
  for (int bit = kBits - 1; bit >= 0; --bit)
    for (int m = 0; m < D; ++m)
      key = hn::Or(hn::ShiftLeft<1>(key), hn::And(hn::ShiftRightSame(cell[m], bit), one));
  return key;
}

constexpr int cell_bits(int d) {
  return d == 1 ? 22 : d == 2 ? 11 : d == 3 ? 7 : d == 4 ? 5 : d == 5 ? 4 : d <= 7 ? 3 : 2;
}

template <int D>
HWY_NOINLINE void sort_segment(const KMeansCall &k, int64_t begin, int64_t end,
                               const SortedRows &out, const SortScratch &scratch) {
  const int64_t rows = end - begin;
  constexpr int kBits = cell_bits(D);
  float low[D], high[D], scale[D];
  for (int m = 0; m < D; ++m) low[m] = high[m] = k.row(begin)[m];
  for (int64_t i = begin; i < end; ++i)
    for (int m = 0; m < D; ++m) {
      const float v = k.row(i)[m];
      low[m] = v < low[m] ? v : low[m];
      high[m] = high[m] < v ? v : high[m];
    }
  constexpr float kTop = static_cast<float>((1 << kBits) - 1);
  for (int m = 0; m < D; ++m) {
    const float range = high[m] - low[m];
    // Columns too narrow or too wide for the division end up in one cell.
    const bool usable = range > 0x1p-100f && range < 0x1p100f;
    scale[m] = usable ? kTop / range : 0.0f;
    low[m] = usable ? low[m] : 0.0f;
  }
  uint32_t *first = scratch.histograms, *second = first + kBuckets;
  memset(first, 0, 2 * kBuckets * sizeof(uint32_t));
  uint32_t *keys = scratch.keys, *keys2 = keys + padded_rows(rows);
  uint16_t *places = scratch.places, *places2 = places + padded_rows(rows);
  const Cells cells;
  const hn::RebindToFloat<Cells> floats;
  const hn::RebindToSigned<Cells> integers;
  constexpr int64_t kStep = hn::MaxLanes(Cells());
  for (int64_t i = 0; i < rows; i += kStep) {
    alignas(64) float values[D][kStep];
    const int64_t count = min_of(kStep, rows - i);
    for (int64_t p = 0; p < kStep; ++p) {
      const float *row = k.row(begin + i + (p < count ? p : 0));
      for (int m = 0; m < D; ++m) values[m][p] = row[m];
    }
    hn::Vec<Cells> cell[D];
    for (int m = 0; m < D; ++m) {
      // An unusable column's product may overflow or be NaN; the limits make some cell of it.
      const auto v = hn::Mul(hn::Sub(hn::Load(floats, values[m]), hn::Set(floats, low[m])),
                             hn::Set(floats, scale[m]));
      const auto inside = hn::Max(hn::Min(v, hn::Set(floats, kTop)), hn::Zero(floats));
      cell[m] = hn::BitCast(cells, hn::ConvertTo(integers, inside));
    }
    hn::StoreU(hilbert_key<D, kBits>(cell), cells, keys + i);
    for (int64_t p = 0; p < count; ++p) {
      ++first[keys[i + p] & (kBuckets - 1)];
      ++second[keys[i + p] >> kRadixBits];
    }
  }
  uint32_t a = 0, b = 0;
  for (int64_t c = 0; c < kBuckets; ++c) {
    const uint32_t in_first = first[c], in_second = second[c];
    first[c] = a;
    second[c] = b;
    a += in_first;
    b += in_second;
  }
  for (int64_t i = 0; i < rows; ++i) {
    const uint32_t at = first[keys[i] & (kBuckets - 1)]++;
    keys2[at] = keys[i];
    places2[at] = static_cast<uint16_t>(i);
  }
  for (int64_t i = 0; i < rows; ++i) places[second[keys2[i] >> kRadixBits]++] = places2[i];

  for (int64_t box = 0; box * kSmallBox < rows; ++box) {
    float *columns = out.columns + box * kSmallBox * D, *edge = out.boxes + box * 2 * D;
    uint16_t *order = out.order + box * kSmallBox;
    for (int64_t p = 0; p < kSmallBox; ++p) {
      order[p] = places[min_of(box * kSmallBox + p, rows - 1)];
      const float *row = k.row(begin + order[p]);
      for (int m = 0; m < D; ++m) columns[m * kSmallBox + p] = row[m];
    }
    for (int m = 0; m < D; ++m) {
      auto least = hn::Load(floats, columns + m * kSmallBox), most = least;
      for (int64_t p = kStep; p < kSmallBox; p += kStep) {
        const auto v = hn::Load(floats, columns + m * kSmallBox + p);
        least = hn::Min(least, v);
        most = hn::Max(most, v);
      }
      edge[m] = hn::GetLane(hn::MinOfLanes(floats, least));
      edge[D + m] = hn::GetLane(hn::MaxOfLanes(floats, most));
    }
  }
}

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
