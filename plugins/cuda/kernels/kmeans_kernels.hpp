// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The kernels of k-means: filter, canonical distances of what it leaves, inertia, sums.

#include "kmeans_filter.hpp"

namespace switchyard::cuda::device {

/// D*(x, c) by 16 lanes, each an accumulator; the result in all of them.
SY_DEVICE float canonical_distance(const float *x, const float *c, std::int64_t d) {
  float sum = 0;
  for (std::int64_t m = thread() % 16; m < d; m += 16) {
    const float t = x[m] - c[m];
    sum = fused(t, t, sum);
  }
  return sum_of_16(sum);
}

/// Labels and distances: 16 lanes a row, over its survivors.
SY_DEVICE void kmeans_rank(const KMeansArguments &a) {
  const std::int64_t at = (block() * threads() + thread()) / 16;
  const bool inside = at < a.n;
  const std::int64_t i = inside ? at : a.n - 1;
  const std::int32_t choice = a.choice == nullptr ? kAllCentroids : a.choice[i];
  const std::int64_t count = choice == kAllCentroids ? a.k : choice >= 0 ? 1 : kListed;
  std::int32_t label = -1;
  float best = 0;
  for (std::int64_t e = 0; any_of(e < count); ++e) {
    std::int64_t j = choice >= 0 ? choice : e;
    if (choice < 0 && choice != kAllCentroids && e < count)
      j = a.lists[static_cast<std::int64_t>(-1 - choice) * kListed + e];
    const bool real = e < count && j >= 0;
    const float distance =
        canonical_distance(a.x + i * a.stride, a.centroids + (real ? j : 0) * a.d, a.d);
    // Survivors come in any order.
    if (real && (label < 0 || distance < best || (distance == best && j < label))) {
      best = distance;
      label = static_cast<std::int32_t>(j);
    }
  }
  if (!inside || thread() % 16 != 0) return;
  a.labels[i] = label;
  a.distances[i] = best;
}

/// Partial sums of the inertia: a block of threads for 8,192 rows, eight of which add.
SY_DEVICE void kmeans_inertia(const KMeansArguments &a) {
  auto *terms = reinterpret_cast<float *>(shared());
  const std::int64_t first = block() * kInertiaRows;
  const std::int64_t left = a.n - first;
  const int n = left < kInertiaRows ? static_cast<int>(left) : kInertiaRows;
  for (int i = thread(); i < n; i += threads()) terms[i] = a.distances[first + i];
  sync_block();
  double sum = 0;
  if (thread() < 8)
    for (int i = thread(); i < n; i += 8) {
      const auto D = static_cast<double>(terms[i]);
      sum += a.weights == nullptr ? D : static_cast<double>(a.weights[first + i]) * D;
    }
  SY_UNROLL
  for (int m = 4; m >= 1; m /= 2) sum += shuffle_xor(sum, m);
  if (thread() == 0) a.partials[block()] = sum;
}

SY_DEVICE std::int64_t fixed_point(double v) { return static_cast<std::int64_t>(even(v)); }

/// Sums, counts and weights of rows whose label is not the one they were last added under (-1:
/// never): a warp for 32 rows. Integers, so that the order does not matter.
SY_DEVICE void kmeans_sums(const KMeansArguments &a) {
  const std::int64_t first = (block() * threads() + thread()) / 32 * 32;
  const int lane = thread() & 31;
  const std::int64_t mine = first + lane;
  const bool inside = mine < a.n;
  const std::int32_t label = inside ? a.labels[mine] : 0;
  const std::int32_t old = inside ? (a.old_labels != nullptr ? a.old_labels[mine] : -1) : 0;
  const bool differs = inside && label != old;
  int changed = inside && a.previous != nullptr && a.previous[mine] != label;
  SY_UNROLL
  for (int m = 1; m < 32; m *= 2) changed += shuffle_xor(changed, m);
  if (lane == 0 && changed != 0) atomic_add(a.changed, std::int64_t{changed});
  const double weight = inside && a.weights != nullptr ? static_cast<double>(a.weights[mine]) : 1.0;
  if (differs) {
    atomic_add(a.counts + label, std::int64_t{1});
    if (old >= 0) atomic_add(a.counts + old, std::int64_t{-1});
    if (a.totals != nullptr) {
      const std::int64_t w = fixed_point(weight * a.weight_scale);
      atomic_add(a.totals + label, w);
      if (old >= 0) atomic_add(a.totals + old, -w);
    }
  }
  if (!any_of(differs)) return;
  for (int r = 0; r < 32; ++r) {
    if (shuffle(static_cast<int>(differs), r) == 0) continue;
    const std::int64_t to = shuffle(label, r), from = shuffle(old, r);
    const double w = shuffle(weight, r);
    const float *x = a.x + (first + r) * a.stride;
    for (std::int64_t m = lane; m < a.d; m += 32) {
      const std::int64_t q = fixed_point(w * static_cast<double>(x[m]) * a.scales[m]);
      atomic_add(a.sums + to * a.d + m, q);
      if (from >= 0) atomic_add(a.sums + from * a.d + m, -q);
    }
  }
}

SY_KERNEL(kmeans_origin_kernel, KMeansArguments, kRankThreads, 1) { kmeans_origin(a); }
SY_KERNEL(kmeans_rows_kernel, KMeansArguments, kRankThreads, 4) { kmeans_rows(a); }
SY_KERNEL(kmeans_columns_kernel, KMeansArguments, kRankThreads, 1) { kmeans_columns(a); }
SY_KERNEL(kmeans_filter_kernel, KMeansArguments, kFilterThreads, 2) { kmeans_filter(a); }
SY_KERNEL(kmeans_rank_kernel, KMeansArguments, kRankThreads, 4) { kmeans_rank(a); }
SY_KERNEL(kmeans_inertia_kernel, KMeansArguments, kRankThreads, 4) { kmeans_inertia(a); }
SY_KERNEL(kmeans_sums_kernel, KMeansArguments, kRankThreads, 4) { kmeans_sums(a); }

}  // namespace switchyard::cuda::device
