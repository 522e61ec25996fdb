// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The shifted frame in which scores are computed. Part of the kernel sources (needs SY_ISA).

#include "kmeans_bound.hpp"
#include "kmeans_call.hpp"
#include "parallel.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

/// fn(i) for each i < count of `values` values each, about 8,192 values at a time.
template <class Fn>
inline void for_batches(const Context &ctx, int64_t count, int64_t values, uint32_t threads,
                        const Fn &fn) {
  const int64_t batch = 1 + 8192 / values;
  auto run = [&](uint64_t index) {
    const int64_t begin = static_cast<int64_t>(index) * batch;
    for (int64_t i = begin; i < min_of(count, begin + batch); ++i) fn(i);
  };
  for_each(ctx, static_cast<uint64_t>(ceil_of(count, batch)), threads, run);
}

/// mu[m], the mean of the centroids: near the mean of the data, so that subtracting it removes
/// offsets that would blow up the bound. Any vector is correct.
inline void frame_origin(const Context &ctx, const KMeansCall &k, uint32_t threads, float *mu) {
  constexpr int64_t kColumns = 64;
  auto mean = [&](uint64_t index) {
    const int64_t begin = static_cast<int64_t>(index) * kColumns;
    const int64_t end = min_of(k.d, begin + kColumns);
    double sum[kColumns] = {};
    for (int64_t j = 0; j < k.k; ++j)
      for (int64_t m = begin; m < end; ++m) sum[m - begin] += static_cast<double>(k.centroid(j)[m]);
    for (int64_t m = begin; m < end; ++m)
      mu[m] = static_cast<float>(sum[m - begin] / static_cast<double>(k.k));
  };
  for_each(ctx, static_cast<uint64_t>(ceil_of(k.d, kColumns)), threads, mean);
}

/// Writes c - mu, `step` floats apart, and returns |c - mu|^2.
inline double shift_centroid(const float *c, const float *mu, int64_t d, float *out, int64_t step) {
  double square = 0;
  for (int64_t m = 0; m < d; ++m) {
    const double t = static_cast<double>(c[m]) - static_cast<double>(mu[m]);
    square += t * t;
    out[m * step] = c[m] - mu[m];
  }
  return square;
}

/// The bound for centroids whose largest |c - mu|^2, as shift_centroid adds it up, is `square`.
inline KMeansBound frame_bound(int64_t d, double square, int64_t roundings) {
  return kmeans_bound(d, __builtin_sqrt(square) * (1 + 0x1p-28), roundings);
}

/// No centroid with a larger score is as near to the row as `distance`; `norm` as in KMeansBound.
inline float score_limit(const KMeansBound &bound, float distance, float norm) {
  // In the order in which kmeans_bound allows for the roundings.
  const float near = __builtin_sqrtf(norm + bound.tiny) * bound.eg + bound.eh;
  return (distance * bound.a + near) - norm * bound.b;
}

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
