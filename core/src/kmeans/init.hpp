// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Where a fit starts: rows drawn as first centroids.

#include "kmeans/input.hpp"
#include "kmeans/poller.hpp"

namespace switchyard::kmeans {

/// k distinct rows, uniformly (rows of weight zero only when there are too few others).
void random_rows(const Input &in, std::int64_t k, std::uint64_t seed, std::uint32_t run,
                 float *centroids);

/// Greedy k-means++: the rows that kmeans.seed draws.
Status plus_plus(Runner &runner, const Input &in, std::int64_t k, std::uint64_t seed,
                 std::uint32_t run, Poller &poller, float *centroids);

}  // namespace switchyard::kmeans
