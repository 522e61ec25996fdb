// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the kernels of k-means are told. Shared by host and device.

#include <cstdint>

namespace switchyard::cuda {

/// Rows and centroids in 16 bits, in a frame shifted by `mu`, padded with zeros to `depth` columns.
/// With few columns each value is the sum of two of 16 bits, laid out so that the matrix product
/// adds the three larger of their four products: row (high, high, low), centroid (high, low, high).
struct KMeansArguments {
  const float *x, *centroids, *weights;
  const std::int32_t *shifts, *previous, *old_labels;
  std::int64_t n, d, k, stride;
  std::int64_t depth, padded_k;
  float *mu;                     ///< [d]
  std::uint16_t *rows;           ///< [n][depth]
  float *row_rest, *row_length;  ///< [n] |X - x^| and |x^|, rounded up
  float *row_low;                ///< [n] |low part|
  std::uint16_t *columns;        ///< [padded_k][depth] of -c^
  float *halves;                 ///< [padded_k] |C|^2 / 2, infinite behind k
  std::uint32_t *largest;        ///< bits of the largest |C - c^|, |C|, |c^| and |low part|
  std::int32_t *choice;          ///< [n] the only survivor, -1 - slot of a list, or kAllCentroids
  std::int32_t *lists;           ///< [list_room][kListed] survivors, -1 where there is none
  std::int32_t *list_count;
  std::int32_t list_room;
  std::int32_t split;     ///< two parts a value
  float sum_error;        ///< relative error of a score's sum
  float half_kappa;       ///< of the canonical distance, docs/kmeans.md
  float row_slack, tiny;  ///< relative error of a row's lengths; what underflow loses
  std::int32_t *labels;
  float *distances;
  double *partials;
  std::int64_t *sums, *counts, *totals, *changed;
  const double *scales;  ///< [d] 2^shift
  double weight_scale;
};

inline constexpr std::int32_t kAllCentroids = -0x7FFFFFFF - 1;
inline constexpr int kListed = 8;
inline constexpr int kFilterThreads = 128, kFilterRows = 128, kFilterColumns = 64,
                     kFilterDepth = 64;
/// Elements between rows of a tile in shared memory: eight rows meet no bank twice.
inline constexpr int kFilterPitch = kFilterDepth + 8;
/// Up to so many pieces of kFilterDepth a block's rows stay in shared memory.
inline constexpr std::int64_t kResidentPieces = 4;
inline constexpr int kRankThreads = 256, kInertiaRows = 8192;

}  // namespace switchyard::cuda
