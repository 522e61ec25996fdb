// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A panel of points on vector lanes, as the filter's scores take it. Part of the kernel sources
/// (needs SY_ISA).

#include "kmeans_frame.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

using Points = hn::CappedTag<float, 16>;  // one point a lane
constexpr int64_t kLanes = hn::MaxLanes(Points());
constexpr int64_t kVectors = 3;                // vectors of points in a panel
constexpr int64_t kPanel = kVectors * kLanes;  // points in a panel
constexpr int64_t kGroup = kWide ? 8 : 4;      // centroids scored at once

struct PanelRows {
  const float *row[kPanel];
  alignas(64) float best[kPanel], norm[kPanel], threshold[kPanel];
  alignas(64) float rest[kPanel];  // least score of the centroids that were not compared
  float second[kPanel];            // least D* of those that were, but for the label's
  int32_t label[kPanel];
};

/// What a score is off by at most, times what kmeans_bound allows for evaluating it.
HWY_INLINE hn::Vec<Points> score_error(const KMeansBound &bound, hn::Vec<Points> norm) {
  const Points lanes;
  const auto root = hn::Sqrt(hn::Add(norm, hn::Set(lanes, bound.tiny)));
  return hn::Add(hn::Mul(root, hn::Set(lanes, bound.eg)), hn::Set(lanes, bound.eh));
}

/// score_limit in lanes, in the same order.
HWY_INLINE hn::Vec<Points> score_limits(const KMeansBound &bound, hn::Vec<Points> distance,
                                        hn::Vec<Points> norm) {
  const Points lanes;
  const auto above = hn::Add(hn::Mul(distance, hn::Set(lanes, bound.a)), score_error(bound, norm));
  return hn::Sub(above, hn::Mul(norm, hn::Set(lanes, bound.b)));
}

/// A vector of `block(0)`, `block(1)`, ..., four elements each.
template <class D, class Block>
HWY_INLINE auto join_blocks(D lanes, const Block &block) {
  const hn::CappedTag<float, 8> eight;
  const auto low = hn::Combine(eight, block(1), block(0));
  if constexpr (hn::MaxLanes(D()) == 16)
    return hn::Combine(lanes, hn::Combine(eight, block(3), block(2)), low);
  else
    return low;
}

/// Transposes the rows into the panel [d][kPanel], shifted by mu, 4 x 4 elements at a time, and
/// measures them.
HWY_INLINE void pack_panel(const KMeansCall &k, const float *mu, PanelRows &rows, float *panel) {
  const Points lanes;
  const hn::CappedTag<float, 4> four;
  for (int64_t strip = 0; strip < kPanel; strip += kLanes) {
    const float *const *row = rows.row + strip;
    float *out = panel + strip;
    auto n0 = hn::Zero(lanes), n1 = n0, n2 = n0, n3 = n0;
    for (int64_t m = 0; m < k.d; m += 4) {
      const size_t left = static_cast<size_t>(k.d - m);
      // Block b of vector q: four elements of row 4 b + q.
      const auto load = [&](int64_t q) HWY_ATTR {
        const auto block = [&](int64_t b) HWY_ATTR {
          const float *p = row[4 * b + q] + m;
          return left >= 4 ? hn::LoadU(four, p) : hn::MaskedLoad(hn::FirstN(four, left), four, p);
        };
        return join_blocks(lanes, block);
      };
      const auto v0 = load(0), v1 = load(1), v2 = load(2), v3 = load(3);
      const auto a = hn::InterleaveLower(lanes, v0, v2), b = hn::InterleaveLower(lanes, v1, v3);
      const auto c = hn::InterleaveUpper(lanes, v0, v2), d = hn::InterleaveUpper(lanes, v1, v3);
      const auto put = [&](int64_t i, auto v, auto &norm) HWY_ATTR {
        if (m + i >= k.d) return;
        const auto shifted = hn::Sub(v, hn::Set(lanes, mu[m + i]));
        norm = hn::MulAdd(shifted, shifted, norm);
        hn::Store(shifted, lanes, out + (m + i) * kPanel);
      };
      put(0, hn::InterleaveLower(lanes, a, b), n0);
      put(1, hn::InterleaveUpper(lanes, a, b), n1);
      put(2, hn::InterleaveLower(lanes, c, d), n2);
      put(3, hn::InterleaveUpper(lanes, c, d), n3);
    }
    hn::Store(hn::Add(hn::Add(n0, n1), hn::Add(n2, n3)), lanes, rows.norm + strip);
  }
}

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
