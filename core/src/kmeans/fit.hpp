// SPDX-License-Identifier: Apache-2.0
#pragma once
/// k-means: the loop around the dispatched primitives, the same for every backend (docs/kmeans.md).

#include <switchyard/engine.hpp>

#include "dispatcher/runner.hpp"

namespace switchyard::kmeans {

/// Clusters the rows of x (f32, f16 or bf16, [n, d], any strides). Rows that are not runs of
/// adjacent f32 are copied once. The callback of `options` may be called from any thread, one at a
/// time; when it asks to stop, the result is that of the last completed iteration, or the error
/// `cancelled` before the first.
/// Errors: invalid_argument (k > n, ...), shape, dtype, nonfinite, unsupported (n_init with
/// batches, ...), and what the backends report.
Result<KMeansResult> fit(Runner &runner, const TensorView &x, const KMeansOptions &options);

/// The options that do not depend on the data but for its number of rows.
Status check_options(const KMeansOptions &options, std::int64_t n);

/// Labels, i32 [n]: for each row of x the lowest-numbered nearest centroid.
Result<Tensor> assign(Runner &runner, const TensorView &x, const TensorView &centroids,
                      RunInfo *info);

}  // namespace switchyard::kmeans
