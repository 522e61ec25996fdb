// SPDX-License-Identifier: Apache-2.0
#pragma once
/// One dispatched kmeans.step and what it writes.

#include "base/poller.hpp"
#include "kmeans/tally.hpp"
#include "kmeans/update.hpp"

namespace switchyard::kmeans {

struct StepOutputs {
  Tensor labels, sums, counts, totals, partials, changed, distances;

  Status allocate(std::int64_t n, std::int64_t d, std::int64_t k);
  StepArrays arrays(bool weighted);
  double inertia() const;  ///< the partials, ascending
};

/// How a step finds labels: by the canonical distance, or by 8-bit codes (SY_KMEANS_INT8).
enum class Labels { exact, int8 };

/// `previous` (labels) and `states` may be absent.
Status run_step(Runner &runner, const Input &in, const TensorView &centroids,
                const TensorView &previous, StepOutputs &out, Runner::States *states,
                Poller &poller, Tally &tally, Labels by);

/// For each cluster the row of lowest D*, then lowest number; -1 where there is none. i64 [k].
Result<Tensor> closest_rows(const StepOutputs &out, std::int64_t k);

/// Mini-batch k-means (batch.cpp); `given` as in fit.
Result<KMeansResult> mini_batch(Runner &runner, const Input &in, const KMeansOptions &options,
                                const TensorView &given);

}  // namespace switchyard::kmeans
