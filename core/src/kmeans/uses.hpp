// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What people use k-means for: distances to centroids, product codebooks, choosing k.

#include <switchyard/engine.hpp>

#include "dispatcher/runner.hpp"

namespace switchyard::kmeans {

/// As Engine::kmeans_transform, kmeans_product and kmeans_sweep.
Result<Tensor> transform(Runner &runner, const TensorView &x, const TensorView &centroids,
                         RunInfo *info);
Result<ProductResult> product(Runner &runner, const TensorView &x, std::int64_t groups,
                              const KMeansOptions &options);
Result<SweepResult> sweep(Runner &runner, const TensorView &x, const std::vector<std::int64_t> &ks,
                          const KMeansOptions &options, std::int64_t sample);

}  // namespace switchyard::kmeans
