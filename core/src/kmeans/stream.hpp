// SPDX-License-Identifier: Apache-2.0
#pragma once
/// k-means over files that are larger than memory.

#include <switchyard/engine.hpp>

#include "dispatcher/runner.hpp"

namespace switchyard::kmeans {

/// As Engine::kmeans_file.
Result<KMeansResult> fit_file(Runner &runner, const std::string &path, const KMeansOptions &options,
                              const std::string &labels, std::uint64_t memory);
/// As Engine::kmeans_assign_file.
Result<double> assign_file(Runner &runner, const std::string &path, const TensorView &centroids,
                           const std::string &labels, const Progress &progress,
                           std::uint64_t memory);

}  // namespace switchyard::kmeans
