// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The filter's scores from 8-bit integers: four times the multiply-adds of f32, at the price of a
/// wider margin. Highway has no word for the dot products of AVX-512 VNNI; the caller has asked for
/// the feature. Part of the kernel sources (needs SY_ISA, 512-bit vectors).
///
/// x' = x - mu is rounded to s q with one scale s for each row, c' to t p with one scale t for each
/// group. With e = x' - s q and f = c' - t p,
///   |<x', c'> - s t <q, p>| <= |e| |c'| + |s q| |f|
/// by Cauchy-Schwarz. The lengths of what was lost are computed, not estimated. <q, p> is exact;
/// s t <q, p> has three roundings, relative to at most |s q| |t p| <= 4 |x'| |c'|, since each
/// element loses at most itself: no more than kmeans_bound allows for 16 roundings.

#include "kmeans_panel.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

struct Int8Scores {
  struct Task {
    uint32_t *codes;              // [blocks][kPanel]: four q + 128
    float *scale, *lost, *reach;  // [kPanel]: s, at least |e|, at least |s q|
  };

  int32_t *codes;  // [groups][blocks][kGroup]: four p
  float *half;     // [groups][kGroup]: half norms
  int32_t *start;  // [groups][kGroup]: -128 times the sum of p, which undoes the offset of q
  float *scale, *lost, *reach;  // [groups]: t, at least |f|, at least |c'|

  static constexpr int64_t kMostColumns = 16384;  // sums stay below 2^31
  static constexpr float kLeast = 0x1p-100f;      // smaller numbers are lost whole
  static constexpr float kUp = 1 + 0x1p-20f;

  static int64_t roundings(int64_t d) { return d + 1 < 16 ? 16 : d + 1; }
  static int64_t blocks_of(int64_t d) { return ceil_of(d, 4); }
  static void carve_shared(Carver &carver, const KMeansCall &k, uint64_t groups, Int8Scores &s) {
    s.codes = carver.take<int32_t>(groups * static_cast<uint64_t>(blocks_of(k.d) * kGroup));
    s.half = carver.take<float>(groups * kGroup);
    s.start = carver.take<int32_t>(groups * kGroup);
    s.scale = carver.take<float>(groups);
    s.lost = carver.take<float>(groups);
    s.reach = carver.take<float>(groups);
  }
  static void carve_task(Carver &carver, const KMeansCall &k, Task &task) {
    task.codes = carver.take<uint32_t>(static_cast<uint64_t>(blocks_of(k.d) * kPanel));
    task.scale = carver.take<float>(kPanel);
    task.lost = carver.take<float>(kPanel);
    task.reach = carver.take<float>(kPanel);
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
    int32_t *out = codes + g * blocks_of(k.d) * kGroup;
    memset(out, 0, static_cast<size_t>(blocks_of(k.d) * kGroup) * sizeof(int32_t));
    auto *bytes = reinterpret_cast<int8_t *>(out);
    for (int64_t r = 0; r < kGroup; ++r) {
      start[g * kGroup + r] = 0;
      if (order[r] < 0) continue;
      const float *c = k.centroid(order[r]);
      int32_t sum = 0;
      double square = 0;
      for (int64_t m = 0; m < k.d; ++m) {
        const float t = c[m] - mu[m];
        const auto p = static_cast<int32_t>(
            min_of(127, -min_of(127, -static_cast<int64_t>(__builtin_lrintf(t * inverse)))));
        const double f = static_cast<double>(t) - static_cast<double>(step) * p;
        square += f * f;
        sum += p;
        bytes[(m / 4 * kGroup + r) * 4 + m % 4] = static_cast<int8_t>(p);
      }
      start[g * kGroup + r] = -128 * sum;
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
      for (int64_t b = 0; b < blocks_of(k.d); ++b) {
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
          const auto byte =
              hn::And(hn::BitCast(words, hn::Add(q, hn::Set(integers, 128))), hn::Set(words, 255u));
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
    const Points lanes;
    using V = hn::Vec<Points>;
    const int64_t blocks = blocks_of(k.d);
    const int32_t *HWY_RESTRICT c = codes;
    for (int64_t g = 0; g < group_count; ++g) {
      const int32_t *first = start + g * kGroup;
      // By name: as an array they would be kept in memory too.
      Sums a(first[0]), b(first[1]), d(first[2]), e(first[3]), f(first[4]), h(first[5]),
          i(first[6]), j(first[7]);
      const uint32_t *HWY_RESTRICT x = task.codes;
      for (int64_t block = 0; block < blocks; ++block, x += kPanel, c += kGroup) {
        const I x0 = load(x), x1 = load(x + kLanes), x2 = load(x + 2 * kLanes);
        a.add(x0, x1, x2, c[0]);
        b.add(x0, x1, x2, c[1]);
        d.add(x0, x1, x2, c[2]);
        e.add(x0, x1, x2, c[3]);
        f.add(x0, x1, x2, c[4]);
        h.add(x0, x1, x2, c[5]);
        i.add(x0, x1, x2, c[6]);
        j.add(x0, x1, x2, c[7]);
      }
      const I sums[kGroup][kVectors] = {{a.at0, a.at1, a.at2}, {b.at0, b.at1, b.at2},
                                        {d.at0, d.at1, d.at2}, {e.at0, e.at1, e.at2},
                                        {f.at0, f.at1, f.at2}, {h.at0, h.at1, h.at2},
                                        {i.at0, i.at1, i.at2}, {j.at0, j.at1, j.at2}};
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
  }

 private:
  using I = hn::Vec<hn::RebindToSigned<Points>>;
  static HWY_INLINE I load(const uint32_t *x) {
    return hn::BitCast(hn::RebindToSigned<Points>(), hn::Load(hn::RebindToUnsigned<Points>(), x));
  }
  /// One centroid against a panel.
  struct Sums {
    I at0, at1, at2;
    HWY_INLINE explicit Sums(int32_t first)
        : at0(hn::Set(hn::RebindToSigned<Points>(), first)), at1(at0), at2(at0) {}
    HWY_INLINE void add(I x0, I x1, I x2, int32_t four) {
      const I p = hn::Set(hn::RebindToSigned<Points>(), four);
      dot(at0, x0, p);
      dot(at1, x1, p);
      dot(at2, x2, p);
    }
    /// Adds four products of an unsigned and a signed byte to each lane. As text, because the rest
    /// of the file is built for processors without the instruction.
    static HWY_INLINE void dot(I &sum, I x, I p) {
      asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(x.raw), "v"(p.raw));
    }
  };
};

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
