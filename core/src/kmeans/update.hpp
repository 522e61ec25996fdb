// SPDX-License-Identifier: Apache-2.0
#pragma once
/// From a step's sums to the next centroids.

#include "kmeans/input.hpp"

namespace switchyard::kmeans {

/// What kmeans.step wrote; all of it may be changed by relocation.
struct StepArrays {
  std::int32_t *labels = nullptr;    // [n]
  const float *distances = nullptr;  // [n], to the centroids the step was given
  std::int64_t *sums = nullptr;      // [k, d]
  std::int64_t *counts = nullptr;    // [k]
  std::int64_t *totals = nullptr;    // [k], weighted only
};

/// Gives each empty cluster, in ascending order, the row farthest from its centroid (lowest index
/// on ties) whose cluster has another row, whose distance is not zero and, weighted, whose weight
/// counts. Returns how many rows moved.
std::int64_t relocate_empty(const Input &in, std::int64_t k, const StepArrays &step);

/// next[j] = RN32(RN64(sum) 2^-shift / count); clusters without rows (or weight) keep their
/// centroid. Returns how many clusters are empty.
std::int64_t update_centroids(Runner &runner, const Input &in, std::int64_t k,
                              const StepArrays &step, const float *old, float *next);

/// Sum over j of D*(next[j], old[j]), ascending.
double centroid_shift(Runner &runner, std::int64_t k, std::int64_t d, const float *next,
                      const float *old);

/// D* of switchyard/ops/kmeans.h.
float distance(const float *x, const float *c, std::int64_t d) noexcept;

}  // namespace switchyard::kmeans
