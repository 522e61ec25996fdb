// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Where a fit starts: rows drawn as first centroids.

#include "base/poller.hpp"
#include "kmeans/input.hpp"

namespace switchyard::kmeans {

/// The centroids that options.init asks for; `given` is used for "given".
Status first_centroids(Runner &runner, const Input &in, const KMeansOptions &options,
                       const TensorView &given, std::uint32_t run, Poller &poller,
                       float *centroids);

/// k distinct rows, uniformly (rows of weight zero only when there are too few others).
void random_rows(const Input &in, std::int64_t k, std::uint64_t seed, std::uint32_t run,
                 float *centroids);

/// k distinct numbers below n, uniformly.
std::vector<std::int64_t> random_numbers(std::int64_t n, std::int64_t k, std::uint64_t seed,
                                         std::uint32_t run);

/// Greedy k-means++: the rows that kmeans.seed draws.
Status plus_plus(Runner &runner, const Input &in, std::int64_t k, std::uint64_t seed,
                 std::uint32_t run, Poller &poller, float *centroids);

/// k-means|| (Bahmani et al., 2012): five rounds in which each row is drawn with probability
/// 2 k chance / total (chances as in kmeans.seed), independently of the others; then k-means++
/// among the rows drawn, weighted with the rows nearest to each. The first row is k-means++'s. If
/// fewer than k rows were drawn: plus_plus.
Status parallel_draws(Runner &runner, const Input &in, std::int64_t k, std::uint64_t seed,
                      std::uint32_t run, Poller &poller, float *centroids);

}  // namespace switchyard::kmeans
