// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Few columns: rows are sorted along a Hilbert curve and cut into boxes; only centroids that can
/// be nearest to some point of a box are compared, points on lanes, by canonical distance.
///
/// Which centroids can: D* is built of rounded operations that are monotone in each |x[m] - c[m]|.
/// So D* evaluated at the box's nearest and farthest coordinates bounds the D* of every point in
/// it, roundings, underflow and overflow included. A centroid whose lower bound exceeds some other
/// centroid's upper bound loses everywhere in the box; no margin is needed.
/// Part of the kernel sources (needs SY_ISA).

#include "kmeans_pass.hpp"
#include "kmeans_sort.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

/// Centroids that may matter to a box: columns [D][room], and which they are.
struct CentroidList {
  float *column;  // [D][room]
  int32_t *index;
  float *nearest;  // [room]: lower bounds, scratch of narrowing into this list
  int64_t count, room;
};

/// A box: [D] lows, then [D] highs.
struct Box {
  float edge[2 * kMostBlockColumns];
};

/// a[0] of the accumulators' tree for D <= 8 squares: halves are added, 4, 2, 1.
template <int D, class V>
HWY_INLINE V add_squares(V *a) {
#pragma GCC unroll 3
  for (int half = 4; half > 0; half /= 2)
#pragma GCC unroll 4
    for (int i = 0; i < half; ++i)
      if (i + half < D) a[i] = hn::Add(a[i], a[i + half]);
  return a[0];
}

/// Centroids of `from` that no other rules out in the box, in the same order.
template <int D>
HWY_NOINLINE void narrow(const CentroidList &from, const Box &box, CentroidList &to) {
  const Lanes lanes;
  const hn::RebindToSigned<Lanes> integers;
  const auto step = static_cast<int64_t>(hn::MaxLanes(Lanes()));
  using V = hn::Vec<Lanes>;
  V least = hn::Set(lanes, __builtin_inff());
  for (int64_t j = 0; j < from.count; j += step) {
    V near[D], far[D];
#pragma GCC unroll 8
    for (int m = 0; m < D; ++m) {
      const V c = hn::LoadU(lanes, from.column + m * from.room + j);
      const V above = hn::Sub(c, hn::Set(lanes, box.edge[D + m]));
      const V below = hn::Sub(hn::Set(lanes, box.edge[m]), c);
      V n = hn::Max(hn::Max(above, below), hn::Zero(lanes));
      // The farther edge: c - low or high - c.
      V f = hn::Max(hn::Sub(c, hn::Set(lanes, box.edge[m])),
                    hn::Sub(hn::Set(lanes, box.edge[D + m]), c));
      near[m] = hn::Mul(n, n);
      far[m] = hn::Mul(f, f);
    }
    hn::Store(add_squares<D>(near), lanes, to.nearest + j);
    const auto valid = hn::FirstN(lanes, static_cast<size_t>(from.count - j));
    least = hn::Min(least, hn::IfThenElse(valid, add_squares<D>(far), least));
  }
  const V limit = hn::MinOfLanes(lanes, least);
  int64_t count = 0;
  for (int64_t j = 0; j < from.count; j += step) {
    auto stay = hn::Le(hn::Load(lanes, to.nearest + j), limit);
    stay = hn::And(stay, hn::FirstN(lanes, static_cast<size_t>(from.count - j)));
    if (hn::AllFalse(lanes, stay)) continue;
      // Compressed in registers: some processors are very slow at compressing into memory.
#pragma GCC unroll 8
    for (int m = 0; m < D; ++m)
      hn::StoreU(hn::Compress(hn::LoadU(lanes, from.column + m * from.room + j), stay), lanes,
                 to.column + m * to.room + count);
    hn::StoreU(hn::Compress(hn::LoadU(integers, from.index + j), hn::RebindMask(integers, stay)),
               integers, to.index + count);
    count += static_cast<int64_t>(hn::CountTrue(lanes, stay));
  }
  to.count = count;
}

/// The nearest of the list for each point of a small box; ties go to the first of the list.
template <int D>
HWY_NOINLINE void nearest_in_list(const CentroidList &list, const float *HWY_RESTRICT points,
                                  int32_t *HWY_RESTRICT labels, float *HWY_RESTRICT distances) {
  const Lanes lanes;
  const hn::RebindToSigned<Lanes> integers;
  constexpr int64_t kStep = hn::MaxLanes(Lanes());
  constexpr int kVectors = kWide ? (D <= 4 ? 4 : 2) : (D <= 3 ? 2 : 1);
  using V = hn::Vec<Lanes>;
  using I = hn::Vec<decltype(integers)>;
  for (int64_t p = 0; p < kSmallBox; p += kVectors * kStep) {
    V x[kVectors][D], best[kVectors];
    I label[kVectors];
    const auto distance = [&](int v, int64_t j) HWY_ATTR {
      V square[D];
#pragma GCC unroll 8
      for (int m = 0; m < D; ++m) {
        const V t = hn::Sub(x[v][m], hn::Set(lanes, list.column[m * list.room + j]));
        square[m] = hn::Mul(t, t);
      }
      return add_squares<D>(square);
    };
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 8
      for (int m = 0; m < D; ++m) x[v][m] = hn::Load(lanes, points + m * kSmallBox + p + v * kStep);
      best[v] = distance(v, 0);
      label[v] = hn::Set(integers, list.index[0]);
    }
    for (int64_t j = 1; j < list.count; ++j) {
      const I index = hn::Set(integers, list.index[j]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const V d = distance(v, j);
        const auto nearer = hn::Lt(d, best[v]);
        best[v] = hn::Min(d, best[v]);
        label[v] = hn::IfThenElse(hn::RebindMask(integers, nearer), index, label[v]);
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      hn::Store(best[v], lanes, distances + p + v * kStep);
      hn::Store(label[v], integers, labels + p + v * kStep);
    }
  }
}

struct BlocksMethod {
  struct Task {
    CentroidList level[3];  // of large, middle and small boxes
    SortedRows sorted;      // of one segment, where no state keeps them
    SortScratch scratch;
  };

  CentroidList all;
  SortedRows kept;  // the state's, or null

  static int64_t unit(const KMeansCall &k) { return segment_rows(k.n); }
  static constexpr bool kFixedUnits = true;
  static constexpr bool kUsesDistances = false;

  static CentroidList carve_list(Carver &carver, const KMeansCall &k) {
    CentroidList list{nullptr, nullptr, nullptr, 0, (k.k + 31) & ~int64_t{15}};
    const auto room = static_cast<uint64_t>(list.room);
    list.column = carver.take<float>(room * static_cast<uint64_t>(k.d));
    list.index = carver.take<int32_t>(room);
    list.nearest = carver.take<float>(room);
    return list;
  }
  static void carve_shared(Carver &carver, const KMeansCall &k, BlocksMethod &b) {
    b.all = carve_list(carver, k);
  }
  static void carve_task(Carver &carver, const KMeansCall &k, Task &task) {
    const int64_t segment = min_of(k.n, segment_rows(k.n));
    for (CentroidList &list : task.level) list = carve_list(carver, k);
    task.sorted = carve_sorted(carver, segment, segment, k.d);
    task.scratch = carve_sort_scratch(carver, segment);
  }
  /// The sorted rows of all segments, built as the first pass meets them.
  struct State {
    SortedRows sorted;
  };
  static void carve_state(Carver &carver, const KMeansCall &k, State &state) {
    state.sorted = carve_sorted(carver, k.n, segment_rows(k.n), k.d);
  }
  static void start_state(const KMeansCall &k, State &state) {
    memset(state.sorted.built, 0, static_cast<size_t>(ceil_of(k.n, segment_rows(k.n))));
  }

  /// The Pass gives the state even where its labels are not valid yet.
  void attach(State *state) { kept = state != nullptr ? state->sorted : SortedRows{}; }
  void setup(const Context &, const KMeansCall &k, const KMeansState *, uint32_t) {
    all.count = k.k;
    for (int64_t j = 0; j < all.room; ++j) {
      all.index[j] = static_cast<int32_t>(j);
      for (int64_t m = 0; m < k.d; ++m)
        all.column[m * all.room + j] = j < k.k ? k.centroid(j)[m] : 0.0f;
    }
  }

  template <int D>
  void assign_segment(const KMeansCall &k, Task &task, int64_t begin, int64_t end, int32_t *labels,
                      float *distances) const {
    const int64_t segment = begin / segment_rows(k.n);
    SortedRows rows = task.sorted;
    if (kept.order != nullptr) rows = segment_of(kept, begin, k.d);
    if (kept.order == nullptr || kept.built[segment] == 0) {
      sort_segment<D>(k, begin, end, rows, task.scratch);
      if (kept.order != nullptr) kept.built[segment] = 1;
    }
    const int64_t small = ceil_of(end - begin, kSmallBox);
    for (int64_t large = 0; large < small; large += kLargeBox) {
      const int64_t large_end = min_of(small, large + kLargeBox);
      narrow<D>(all, join_boxes<D>(rows.boxes, large, large_end), task.level[0]);
      for (int64_t middle = large; middle < large_end; middle += kMiddleBox) {
        const int64_t middle_end = min_of(large_end, middle + kMiddleBox);
        narrow<D>(task.level[0], join_boxes<D>(rows.boxes, middle, middle_end), task.level[1]);
        for (int64_t b = middle; b < middle_end; ++b) {
          const CentroidList *list = &task.level[1];
          if (list->count > 4) {
            narrow<D>(*list, join_boxes<D>(rows.boxes, b, b + 1), task.level[2]);
            list = &task.level[2];
          }
          alignas(64) int32_t label[kSmallBox];
          alignas(64) float distance[kSmallBox];
          nearest_in_list<D>(*list, rows.columns + b * kSmallBox * D, label, distance);
          const uint16_t *order = rows.order + b * kSmallBox;
          for (int64_t p = 0; p < kSmallBox; ++p) {
            labels[order[p]] = label[p];
            distances[order[p]] = distance[p];
          }
        }
      }
    }
  }

  void assign(const KMeansCall &k, Task &task, int64_t begin, int64_t end, const int32_t *,
              int32_t *labels, float *distances) const {
    switch (k.d) {
      case 1:
        return assign_segment<1>(k, task, begin, end, labels, distances);
      case 2:
        return assign_segment<2>(k, task, begin, end, labels, distances);
      case 3:
        return assign_segment<3>(k, task, begin, end, labels, distances);
      case 4:
        return assign_segment<4>(k, task, begin, end, labels, distances);
      case 5:
        return assign_segment<5>(k, task, begin, end, labels, distances);
      case 6:
        return assign_segment<6>(k, task, begin, end, labels, distances);
      case 7:
        return assign_segment<7>(k, task, begin, end, labels, distances);
      default:
        return assign_segment<8>(k, task, begin, end, labels, distances);
    }
  }

  template <int D>
  static Box join_boxes(const float *boxes, int64_t begin, int64_t end) {
    Box all;
    for (int m = 0; m < 2 * D; ++m) all.edge[m] = boxes[begin * 2 * D + m];
    for (int64_t b = begin + 1; b < end; ++b)
      for (int m = 0; m < D; ++m) {
        const float low = boxes[b * 2 * D + m], high = boxes[b * 2 * D + D + m];
        all.edge[m] = low < all.edge[m] ? low : all.edge[m];
        all.edge[D + m] = high > all.edge[D + m] ? high : all.edge[D + m];
      }
    return all;
  }
};

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
