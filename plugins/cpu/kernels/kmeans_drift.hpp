// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Lower bounds kept between iterations (Hamerly, 2010, with roundings): of the distance from a row
/// to every centroid but its own. When centroids move, a bound falls by the largest move. A row
/// whose own centroid is certainly nearer than what is left keeps its label. The few centroids that
/// move most are compared with all rows, so that bounds fall by the other, smaller moves only.
/// Part of the kernel sources (needs SY_ISA).
///
/// Distances are true ones, not squared; theta, eta and tiny are those of kmeans_bound.hpp.

#include "kmeans_panel.hpp"
#include "kmeans_pass.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

struct DriftBound {
  float certain;     ///< D* enlarged so that it stays below (1 - theta) l^2 - eta
  float root_down;   ///< sqrt(D*) shrunk to at most the true distance
  float negligible;  ///< D* below this say nothing of true distances

  static DriftBound of(int64_t d, const KMeansBound &bound) {
    const double roundings = static_cast<double>((d + 15) / 16) + 6;
    const double theta = roundings * 0x1p-24 / (1 - roundings * 0x1p-24);
    return {static_cast<float>(1 + 2 * theta + 0x1p-19), static_cast<float>(1 - theta - 0x1p-20),
            bound.tiny * 0x1p20f};
  }

  using V = hn::Vec<Points>;
  using Mask = hn::Mask<Points>;

  /// D*(x, own) < D*(x, c) for every c at least `lower` away.
  Mask keeps(V own, V lower) const {
    const Points lanes;
    const V far = hn::Add(hn::Mul(own, hn::Set(lanes, certain)), hn::Set(lanes, negligible));
    return hn::And(hn::Gt(lower, hn::Zero(lanes)), hn::Lt(far, hn::Mul(lower, lower)));
  }
  /// At most the true distance, from D*.
  V below(V distance) const {
    const Points lanes;
    return hn::IfThenElseZero(hn::Gt(distance, hn::Set(lanes, negligible)),
                              hn::Mul(hn::Sqrt(distance), hn::Set(lanes, root_down)));
  }
  /// At most the distance to every centroid whose score is at least `score`. The score is off by
  /// at most E = sqrt(N + tiny) eg + eh, N by its own bound; l^2 >= N + 2 (score - E).
  static V from_score(const KMeansBound &bound, V score, V norm) {
    const Points lanes;
    const V error = score_error(bound, norm);
    const V half = hn::Sub(hn::Add(score, hn::Mul(norm, hn::Set(lanes, bound.b))), error);
    return hn::IfThenElseZero(hn::Gt(half, hn::Zero(lanes)),
                              hn::Mul(hn::Sqrt(hn::Add(half, half)), hn::Set(lanes, 1 - 0x1p-20f)));
  }
  /// A bound after a move by at most `move`.
  static V moved(V lower, V move) {
    const Points lanes;
    const V left = hn::Sub(lower, move);
    return hn::IfThenElseZero(hn::Gt(left, hn::Zero(lanes)),
                              hn::Mul(left, hn::Set(lanes, 1 - 0x1p-22f)));
  }
};

/// |to - from|, rounded up.
inline float drift_of(const float *from, const float *to, int64_t d) {
  double square = 0;
  for (int64_t m = 0; m < d; ++m) {
    const double t = static_cast<double>(to[m]) - static_cast<double>(from[m]);
    square += t * t;
  }
  return static_cast<float>(__builtin_sqrt(square) * (1 + 0x1p-20));
}

/// Sorts numbers by drift, largest first, equal ones ascending (heap sort: smallest to the end).
inline void sort_by_drift(int32_t *order, int64_t count, const float *drift) {
  const auto before = [&](int32_t a, int32_t b) {
    return drift[a] != drift[b] ? drift[a] > drift[b] : a < b;
  };
  const auto sift = [&](int64_t root, int64_t end) {
    const int32_t item = order[root];
    for (int64_t child; (child = 2 * root + 1) < end; root = child) {
      if (child + 1 < end && before(order[child], order[child + 1])) ++child;
      if (!before(item, order[child])) break;
      order[root] = order[child];
      order[child] = item;
    }
  };
  for (int64_t i = count / 2; i-- > 0;) sift(i, count);
  for (int64_t end = count; end-- > 1;) {
    const int32_t item = order[0];
    order[0] = order[end];
    order[end] = item;
    sift(0, end);
  }
}

/// How many groups of centroids, in order of their drift, to compare with all rows: sampled rows
/// tell what share fails its bound for each choice. `drift_after[g]` is the largest drift from
/// group g on; [groups] of it is 0.
template <class Slack>
int64_t best_cut(int64_t groups, const float *drift_after, int64_t rows, const Slack &slack) {
  constexpr int64_t kSamples = 512;
  float sample[kSamples];
  const int64_t samples = min_of(kSamples, rows);
  for (int64_t s = 0; s < samples; ++s) sample[s] = slack(s * rows / samples);
  const int64_t step = groups <= 48 ? 1 : groups / 48;
  int64_t best = groups;
  double least = 1;
  for (int64_t g = 0; g < groups; g += step) {
    int64_t failing = 0;
    for (int64_t s = 0; s < samples; ++s) failing += !(sample[s] > drift_after[g]);
    const double share = static_cast<double>(g) / static_cast<double>(groups);
    // A row of either list costs its packing too, about one group's worth.
    const double cost =
        share + static_cast<double>(failing) / static_cast<double>(samples) * (1 - share);
    if (cost < least) {
      least = cost;
      best = g;
    }
  }
  return best;
}

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
