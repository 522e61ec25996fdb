// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Seeds by boxes of sorted rows, for few columns: a candidate whose least D* to a box (bounds as
/// in kmeans_blocks.hpp: no margin is needed) is not below the largest distance of its points
/// changes nothing there. Part of the kernel sources (needs SY_ISA).

#include "kmeans_blocks.hpp"
#include "kmeans_seed.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

constexpr int64_t kBoxGroup = 16;  // boxes that are bounded at once

struct SeedBoxes {
  SortedRows sorted;
  SortScratch *scratch;  // [threads]
  float *edges;          // [groups of boxes][2][D][kBoxGroup]: lows, highs
  float *most;           // [boxes]: largest distance of a box's points, -1 in padding boxes
  float *nearest;        // [boxes][kSmallBox], -1 in padding
  float *weights;        // [boxes][kSmallBox], or null
  float candidate[kMostTrials][kMostBlockColumns];

  static int64_t boxes_of(int64_t rows) {
    return ceil_of(ceil_of(rows, kSmallBox), kBoxGroup) * kBoxGroup;
  }
  /// Segments are whole groups of boxes, but for the last.
  static int64_t unit_rows(const SeedCall &s) {
    return ceil_of(segment_rows(s.rows.n), kSmallBox * kBoxGroup) * kSmallBox * kBoxGroup;
  }
  static int64_t units(const SeedCall &s) { return ceil_of(s.rows.n, unit_rows(s)); }

  static void carve(Carver &carver, const SeedCall &s, uint32_t threads, SeedBoxes &b) {
    const auto boxes = static_cast<uint64_t>(boxes_of(s.rows.n));
    b.sorted = carve_sorted(carver, s.rows.n, unit_rows(s), s.rows.d);
    b.scratch = carver.take<SortScratch>(threads);
    for (uint32_t t = 0; t < threads; ++t) {
      const SortScratch one = carve_sort_scratch(carver, min_of(s.rows.n, unit_rows(s)));
      if (b.scratch != nullptr) b.scratch[t] = one;
    }
    b.edges = carver.take<float>(boxes * 2 * static_cast<uint64_t>(s.rows.d));
    b.most = carver.take<float>(boxes);
    b.nearest = carver.take<float>(boxes * kSmallBox);
    b.weights = carver.take<float>(s.rows.weights != nullptr ? boxes * kSmallBox : 0);
    if (s.rows.weights == nullptr) b.weights = nullptr;
  }

  template <class F>
  static void with_columns(int64_t d, const F &fn) {
    switch (d) {
      case 1:
        return fn.template operator()<1>();
      case 2:
        return fn.template operator()<2>();
      case 3:
        return fn.template operator()<3>();
      case 4:
        return fn.template operator()<4>();
      case 5:
        return fn.template operator()<5>();
      case 6:
        return fn.template operator()<6>();
      case 7:
        return fn.template operator()<7>();
      default:
        return fn.template operator()<8>();
    }
  }

  void start(const Context &ctx, const SeedCall &s, uint32_t threads) {
    int64_t next = 0;
    auto task = [&](uint64_t t) {
      for (;;) {
        const int64_t u = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
        if (u >= units(s)) return;
        with_columns(s.rows.d, [&]<int D>() { sort_unit<D>(s, u, scratch[t]); });
      }
    };
    for_each(ctx, threads, threads, task);
  }

  template <int D>
  void sort_unit(const SeedCall &s, int64_t unit, const SortScratch &room) {
    const int64_t begin = unit * unit_rows(s), end = min_of(s.rows.n, begin + unit_rows(s));
    const SortedRows mine = segment_of(sorted, begin, D);
    sort_segment<D>(s.rows, begin, end, mine, room);
    for (int64_t b = begin / kSmallBox; b < boxes_of(end); ++b) {
      const bool real = b * kSmallBox < end;
      float *edge = edges + b / kBoxGroup * kBoxGroup * 2 * D + b % kBoxGroup;
      for (int m = 0; m < 2 * D; ++m)
        edge[m * kBoxGroup] = real ? sorted.boxes[b * 2 * D + m] : 0.0f;
      most[b] = real ? 1.0f : -1.0f;
      for (int64_t p = 0; p < kSmallBox; ++p) {
        const bool row = b * kSmallBox + p < end;
        nearest[b * kSmallBox + p] = row ? 1.0f : -1.0f;
        if (weights != nullptr)
          weights[b * kSmallBox + p] =
              row ? s.rows.weights[begin + sorted.order[b * kSmallBox + p]] : 0.0f;
      }
    }
  }

  void candidates(const Context &, const SeedCall &s, const int64_t *rows, int count, int64_t,
                  uint32_t) {
    for (int c = 0; c < count; ++c)
      for (int64_t m = 0; m < s.rows.d; ++m) candidate[c][m] = s.rows.row(rows[c])[m];
  }

  /// fn(box) for each box of the unit that the candidate may change.
  template <int D, class F>
  HWY_INLINE void for_near_boxes(int64_t begin, int64_t end, const float *c, bool all,
                                 const F &fn) const {
    const Lanes lanes;
    constexpr int64_t kStep = hn::MaxLanes(Lanes());
    for (int64_t b = begin / kSmallBox; b < boxes_of(end); b += kStep) {
      const float *edge = edges + b / kBoxGroup * kBoxGroup * 2 * D + b % kBoxGroup;
      hn::Vec<Lanes> near[D];
#pragma GCC unroll 8
      for (int m = 0; m < D; ++m) {
        const auto point = hn::Set(lanes, c[m]);
        const auto below = hn::Sub(hn::Load(lanes, edge + m * kBoxGroup), point);
        const auto above = hn::Sub(point, hn::Load(lanes, edge + (D + m) * kBoxGroup));
        const auto gap = hn::Max(hn::Max(below, above), hn::Zero(lanes));
        near[m] = hn::Mul(gap, gap);
      }
      const auto largest = hn::Load(lanes, most + b);
      auto hit = hn::Lt(add_squares<D>(near), largest);
      if (all) hit = hn::Ge(largest, hn::Zero(lanes));
      uint64_t hits = 0;
      hn::StoreMaskBits(lanes, hit, reinterpret_cast<uint8_t *>(&hits));
      for (; hits != 0; hits &= hits - 1) fn(b + __builtin_ctzll(hits));
    }
  }

  template <int D>
  static HWY_INLINE auto distance_of(const float *columns, int64_t p, const float *c) {
    const Lanes lanes;
    hn::Vec<Lanes> square[D];
#pragma GCC unroll 8
    for (int m = 0; m < D; ++m) {
      const auto t = hn::Sub(hn::Load(lanes, columns + m * kSmallBox + p), hn::Set(lanes, c[m]));
      square[m] = hn::Mul(t, t);
    }
    return hn::Min(add_squares<D>(square), hn::Set(lanes, kFarthest));
  }

  /// What the chances of a box's points fall by.
  template <int D>
  HWY_INLINE uint64_t box_gain(const Seeding &z, int64_t box, const float *c) const {
    const Lanes lanes;
    const Doubles f64;
    const hn::Rebind<float, Doubles> f32;
    const hn::RebindToSigned<Doubles> i64;
    constexpr int64_t kStep = hn::MaxLanes(Lanes());
    constexpr int64_t kHalf = hn::MaxLanes(Doubles());
    const auto factor = hn::Set(f64, z.scale);
    auto sum = hn::Zero(i64);
    for (int64_t p = 0; p < kSmallBox; p += kStep) {
      const auto distance = distance_of<D>(sorted.columns + box * kSmallBox * D, p, c);
      const auto old = hn::Load(lanes, nearest + box * kSmallBox + p);
      const auto nearer = hn::Lt(distance, old);
      if (hn::AllFalse(lanes, nearer)) continue;
      // Where nothing changes both chances are those of zero.
      alignas(64) float before[kStep], after[kStep];
      hn::Store(hn::IfThenElseZero(nearer, old), lanes, before);
      hn::Store(hn::IfThenElseZero(nearer, distance), lanes, after);
      for (int64_t h = 0; h < kStep; h += kHalf) {
        auto from = hn::PromoteTo(f64, hn::Load(f32, before + h));
        auto to = hn::PromoteTo(f64, hn::Load(f32, after + h));
        if (weights != nullptr) {
          const auto w = hn::PromoteTo(f64, hn::Load(f32, weights + box * kSmallBox + p + h));
          from = hn::Mul(w, from);
          to = hn::Mul(w, to);
        }
        sum = hn::Add(sum, hn::Sub(whole(hn::Mul(from, factor)), whole(hn::Mul(to, factor))));
      }
    }
    return add_lanes(i64, sum);
  }

  template <int D>
  HWY_NOINLINE void unit_gains(const SeedCall &s, const Seeding &z, int64_t unit, int count,
                               uint64_t *gain) const {
    const int64_t begin = unit * unit_rows(s), end = min_of(z.n, begin + unit_rows(s));
    for (int c = 0; c < count; ++c)
      for_near_boxes<D>(begin, end, candidate[c], false,
                        [&](int64_t b) HWY_ATTR { gain[c] += box_gain<D>(z, b, candidate[c]); });
  }

  template <int D>
  HWY_NOINLINE void accept_unit(const SeedCall &s, Seeding &z, int64_t unit, int which,
                                bool first) const {
    const Lanes lanes;
    constexpr int64_t kStep = hn::MaxLanes(Lanes());
    const int64_t begin = unit * unit_rows(s), end = min_of(z.n, begin + unit_rows(s));
    const auto update = [&](int64_t b) HWY_ATTR {
      auto largest = hn::Set(lanes, -1.0f);
      for (int64_t p = 0; p < kSmallBox; p += kStep) {
        float *mine = nearest + b * kSmallBox + p;
        const auto distance =
            distance_of<D>(sorted.columns + b * kSmallBox * D, p, candidate[which]);
        const auto old = hn::Load(lanes, mine);
        const auto valid = hn::Ge(old, hn::Zero(lanes));
        const auto changed = first ? valid : hn::And(valid, hn::Lt(distance, old));
        const auto now = hn::IfThenElse(changed, distance, old);
        largest = hn::Max(largest, now);
        hn::Store(now, lanes, mine);
        uint64_t bits = 0;
        hn::StoreMaskBits(lanes, changed, reinterpret_cast<uint8_t *>(&bits));
        for (; bits != 0; bits &= bits - 1) {
          const int64_t at = p + __builtin_ctzll(bits);
          const int64_t i = begin + sorted.order[b * kSmallBox + at];
          z.nearest[i] = nearest[b * kSmallBox + at];
          z.dirty[i / kSeedBlock] = 1;
        }
      }
      most[b] = hn::GetLane(hn::MaxOfLanes(lanes, largest));
    };
    for_near_boxes<D>(begin, end, candidate[which], first, update);
  }

  void gains(const SeedCall &s, const Seeding &z, int64_t unit, int count, uint64_t *gain) const {
    with_columns(s.rows.d, [&]<int D>() { unit_gains<D>(s, z, unit, count, gain); });
  }
  void accept(const SeedCall &s, Seeding &z, int64_t unit, int which, int64_t step) const {
    with_columns(s.rows.d, [&]<int D>() { accept_unit<D>(s, z, unit, which, step == 0); });
  }
};

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
