// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The filter's scores in f32: a register-blocked matrix product whose output stays in registers.
/// Part of the kernel sources (needs SY_ISA).

#include "kmeans_panel.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

struct FloatScores {
  struct Task {};
  struct Scope {
    explicit Scope(int64_t) {}
  };

  float *packed;  // [groups][1 + d][kGroup]: half norms, then shifted coordinates

  /// Roundings on a path through a score, as kmeans_bound counts them.
  static int64_t roundings(int64_t d) { return d + 1; }
  static void carve_shared(Carver &carver, const KMeansCall &k, uint64_t groups, FloatScores &s) {
    s.packed = carver.take<float>(groups * static_cast<uint64_t>((k.d + 1) * kGroup));
  }
  static void carve_task(Carver &, const KMeansCall &, Task &) {}

  /// Packs the centroids order[0..kGroup-1], -1 = none; returns their largest |c - mu|^2.
  double pack_group(const KMeansCall &k, const float *mu, const int32_t *order, int64_t g) const {
    float *out = packed + g * (k.d + 1) * kGroup;
    double largest = 0;
    for (int64_t r = 0; r < kGroup; ++r) {
      const int64_t j = order[r];
      if (j < 0) {  // padding never passes the threshold
        out[r] = __builtin_inff();
        for (int64_t m = 0; m < k.d; ++m) out[(1 + m) * kGroup + r] = 0;
        continue;
      }
      const double square = shift_centroid(k.centroid(j), mu, k.d, out + kGroup + r, kGroup);
      out[r] = static_cast<float>(0.5 * square);
      largest = square > largest ? square : largest;
    }
    return largest;
  }
  void take_panel(const KMeansCall &, const float *, const PanelRows &, const KMeansBound &,
                  const Task &) const {}

  /// Scores the panel against the first groups; `filter` looks at kGroup x kVectors of them at
  /// once.
  template <bool kKeep, class Filter>
  HWY_INLINE void score_panel(const KMeansCall &k, const float *panel, PanelRows &rows,
                              const Task &, int64_t group_count, const Filter &filter) const {
    const Points lanes;
    using V = hn::Vec<Points>;
    const V slack[kVectors] = {hn::Zero(lanes), hn::Zero(lanes), hn::Zero(lanes)};
    const float *HWY_RESTRICT group = packed;
    for (int64_t g = 0; g < group_count; ++g, group += (k.d + 1) * kGroup) {
      V s[kGroup][kVectors];
#pragma GCC unroll 8
      for (int64_t r = 0; r < kGroup; ++r) {
        s[r][0] = hn::Set(lanes, group[r]);
        s[r][1] = s[r][0];
        s[r][2] = s[r][0];
      }
      const float *HWY_RESTRICT x = panel;
      const float *HWY_RESTRICT c = group + kGroup;
      for (int64_t m = 0; m < k.d; ++m, x += kPanel, c += kGroup) {
        const V x0 = hn::Load(lanes, x), x1 = hn::Load(lanes, x + kLanes),
                x2 = hn::Load(lanes, x + 2 * kLanes);
#pragma GCC unroll 8
        for (int64_t r = 0; r < kGroup; ++r) {
          const V b = hn::Set(lanes, c[r]);
          s[r][0] = hn::NegMulAdd(b, x0, s[r][0]);
          s[r][1] = hn::NegMulAdd(b, x1, s[r][1]);
          s[r][2] = hn::NegMulAdd(b, x2, s[r][2]);
        }
      }
      filter.template look<kKeep, false>(k, rows, g, s, slack);
    }
  }
};

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
