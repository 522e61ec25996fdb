// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The filter's scores from 8-bit integers: many more multiply-adds than of f32, at the price of a
/// wider margin. `Products` says how codes are laid out and multiplied (kmeans_score_vnni.hpp,
/// kmeans_tiles.hpp). Part of the kernel sources (needs SY_ISA, 512-bit vectors).
///
/// x' = x - mu is rounded to s q with one scale s for each row, c' to t p with one scale t for each
/// group. With e = x' - s q and f = c' - t p,
///   |<x', c'> - s t <q, p>| <= |e| |c'| + |s q| |f|
/// by Cauchy-Schwarz. The lengths of what was lost are computed, not estimated. <q, p> is exact;
/// s t <q, p> has three roundings, relative to at most |s q| |t p| <= 4 |x'| |c'|, since each
/// element loses at most itself: no more than kmeans_bound allows for 16 roundings.

#include <string.h>

#include "kmeans_panel.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

/// The products of a group with a panel.
using GroupSums = hn::Vec<hn::RebindToSigned<Points>>[kGroup][kVectors];

template <class Products>
struct Int8Scores {
  struct Task {
    uint32_t *codes;              // [words][kPanel]: four q + kOffset
    float *scale, *lost, *reach;  // [kPanel]: s, at least |e|, at least |s q|
    int32_t *sums;                // room for products, where they cannot stay in registers
  };

  int32_t *codes;  // of p, as Products lays them out
  float *half;     // [groups][kGroup]: half norms
  int32_t *start;  // [groups][kGroup]: -kOffset times the sum of p, which undoes the offset of q
  float *scale, *lost, *reach;  // [groups]: t, at least |f|, at least |c'|

  static constexpr int64_t kMostColumns = 16384;  // sums stay below 2^31
  static constexpr float kLeast = 0x1p-100f;      // smaller numbers are lost whole
  static constexpr float kUp = 1 + 0x1p-20f;

  static int64_t roundings(int64_t d) { return d + 1 < 16 ? 16 : d + 1; }
  using Scope = typename Products::Scope;
  static int64_t words_of(int64_t d) { return Products::words_of(ceil_of(d, 4)); }
  static void carve_shared(Carver &carver, const KMeansCall &k, uint64_t groups, Int8Scores &s) {
    s.codes = carver.take<int32_t>(Products::code_words(groups, words_of(k.d)));
    s.half = carver.take<float>(groups * kGroup);
    s.start = carver.take<int32_t>(groups * kGroup);
    s.scale = carver.take<float>(groups);
    s.lost = carver.take<float>(groups);
    s.reach = carver.take<float>(groups);
  }
  static void carve_task(Carver &carver, const KMeansCall &k, Task &task) {
    task.codes = carver.take<uint32_t>(static_cast<uint64_t>(words_of(k.d) * kPanel));
    task.scale = carver.take<float>(kPanel);
    task.lost = carver.take<float>(kPanel);
    task.reach = carver.take<float>(kPanel);
    task.sums = carver.take<int32_t>(Products::kSums);
  }

  /// Packs the centroids order[0..kGroup-1], -1 = none; returns their largest |c - mu|^2.
  double pack_group(const KMeansCall &k, const float *mu, const int32_t *order, int64_t g) const {
    float most = 0;
    double largest = 0, largest_lost = 0;
    for (int64_t r = 0; r < kGroup; ++r) {
      half[g * kGroup + r] = __builtin_inff();  // padding never passes the threshold
      if (order[r] < 0) continue;
      const float *c = k.centroid(order[r]);
      double square = 0;
      for (int64_t m = 0; m < k.d; ++m) {
        const double t = static_cast<double>(c[m]) - static_cast<double>(mu[m]);
        square += t * t;
        const float size = __builtin_fabsf(c[m] - mu[m]);
        most = size > most ? size : most;
      }
      half[g * kGroup + r] = static_cast<float>(0.5 * square);
      largest = square > largest ? square : largest;
    }
    const float step = most > kLeast ? most / 127 : 0, inverse = most > kLeast ? 127 / most : 0;
    const int64_t words = words_of(k.d);
    Products::clear_group(codes, g, words);
    for (int64_t r = 0; r < kGroup; ++r) {
      start[g * kGroup + r] = 0;
      if (order[r] < 0) continue;
      const float *c = k.centroid(order[r]);
      int32_t sum = 0;
      double square = 0;
      for (int64_t m = 0; m < k.d; m += 4) {
        int8_t four[4] = {};
        for (int64_t i = 0; i < 4 && m + i < k.d; ++i) {
          const float t = c[m + i] - mu[m + i];
          const auto p = static_cast<int32_t>(
              min_of(127, -min_of(127, -static_cast<int64_t>(__builtin_lrintf(t * inverse)))));
          const double f = static_cast<double>(t) - static_cast<double>(step) * p;
          square += f * f;
          sum += p;
          four[i] = static_cast<int8_t>(p);
        }
        memcpy(codes + Products::word_at(g, r, m / 4, words), four, sizeof four);
      }
      start[g * kGroup + r] = -Products::kOffset * sum;
      largest_lost = square > largest_lost ? square : largest_lost;
    }
    scale[g] = step;
    lost[g] = static_cast<float>(__builtin_sqrt(largest_lost)) * kUp;
    reach[g] = static_cast<float>(__builtin_sqrt(largest)) * kUp;
    return largest;
  }

  /// Rounds a panel to integers and measures what that loses.
  void take_panel(const KMeansCall &k, const float *panel, const PanelRows &rows,
                  const KMeansBound &bound, const Task &task) const {
    const Points lanes;
    const hn::RebindToSigned<Points> integers;
    const hn::RebindToUnsigned<Points> words;
    // Squares are added up in chains of d.
    const auto grow = hn::Set(lanes, 1 + static_cast<float>(k.d + 16) * 0x1p-23f);
    const auto tiny = hn::Set(lanes, bound.tiny);
    for (int64_t at = 0; at < kPanel; at += kLanes) {
      const float *x = panel + at;
      auto most = hn::Zero(lanes);
      for (int64_t m = 0; m < k.d; ++m)
        most = hn::Max(most, hn::Abs(hn::Load(lanes, x + m * kPanel)));
      const auto usable = hn::Gt(most, hn::Set(lanes, kLeast));
      const auto step = hn::IfThenElseZero(usable, hn::Div(most, hn::Set(lanes, 127.0f)));
      const auto inverse = hn::IfThenElseZero(usable, hn::Div(hn::Set(lanes, 127.0f), most));
      auto square = hn::Zero(lanes);
      for (int64_t b = 0; b < words_of(k.d); ++b) {
        auto code = hn::Zero(words);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          auto q = hn::Zero(integers);
          if (4 * b + i < k.d) {
            const auto v = hn::Load(lanes, x + (4 * b + i) * kPanel);
            q = hn::NearestInt(hn::Mul(v, inverse));
            const auto e = hn::NegMulAdd(step, hn::ConvertTo(lanes, q), v);
            square = hn::MulAdd(e, e, square);
          }
          const auto offset = hn::Set(integers, Products::kOffset);
          const auto byte = hn::And(hn::BitCast(words, hn::Add(q, offset)), hn::Set(words, 255u));
          code = hn::Or(code, hn::ShiftLeftSame(byte, 8 * i));
        }
        hn::Store(code, words, task.codes + b * kPanel + at);
      }
      const auto gone = hn::Mul(hn::Sqrt(hn::Add(square, tiny)), grow);
      const auto norm = hn::Load(lanes, rows.norm + at);
      hn::Store(step, lanes, task.scale + at);
      hn::Store(gone, lanes, task.lost + at);
      hn::Store(hn::MulAdd(hn::Sqrt(hn::Add(norm, tiny)), grow, gone), lanes, task.reach + at);
    }
  }

  /// Scores the panel against the first groups; `filter` looks at kGroup x kVectors of them at
  /// once.
  template <bool kKeep, class Filter>
  HWY_INLINE void score_panel(const KMeansCall &k, const float *, PanelRows &rows, const Task &task,
                              int64_t group_count, const Filter &filter) const {
    const auto take = [&](int64_t g, const GroupSums &sums)
                          HWY_ATTR { take_sums<kKeep>(k, rows, task, g, sums, filter); };
    Products::each_group(codes, start, task.codes, task.sums, words_of(k.d), group_count, take);
  }

  template <bool kKeep, class Filter>
  HWY_INLINE void take_sums(const KMeansCall &k, PanelRows &rows, const Task &task, int64_t g,
                            const GroupSums &sums, const Filter &filter) const {
    const Points lanes;
    using V = hn::Vec<Points>;
    V s[kGroup][kVectors], slack[kVectors];
    const V step = hn::Set(lanes, scale[g]), far = hn::Set(lanes, reach[g]),
            gone = hn::Set(lanes, lost[g] * kUp);
#pragma GCC unroll 3
    for (int64_t v = 0; v < kVectors; ++v) {
      const V factor = hn::Mul(hn::Load(lanes, task.scale + v * kLanes), step);
      slack[v] =
          hn::MulAdd(hn::Mul(hn::Load(lanes, task.lost + v * kLanes), far), hn::Set(lanes, kUp),
                     hn::Mul(hn::Load(lanes, task.reach + v * kLanes), gone));
#pragma GCC unroll 8
      for (int64_t r = 0; r < kGroup; ++r)
        s[r][v] = hn::NegMulAdd(hn::ConvertTo(lanes, sums[r][v]), factor,
                                hn::Set(lanes, half[g * kGroup + r]));
    }
    filter.template look<kKeep, true>(k, rows, g, s, slack);
  }
};

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
