// SPDX-License-Identifier: Apache-2.0
#include "kmeans/step.hpp"

#include <switchyard/ops/kmeans.h>

#include "base/checked.hpp"

namespace switchyard::kmeans {

Status StepOutputs::allocate(std::int64_t n, std::int64_t d, std::int64_t k) {
  const std::array rows{n}, clusters{k}, one{std::int64_t{1}},
      blocks{ceil_div(n, SY_KMEANS_INERTIA_BLOCK)};
  const std::array cells{k, d};
  struct Item {
    Tensor *tensor;
    DType dtype;
    std::span<const std::int64_t> shape;
  };
  const Item items[] = {{&labels, dtypes::i32, rows},     {&distances, dtypes::f32, rows},
                        {&sums, dtypes::i64, cells},      {&counts, dtypes::i64, clusters},
                        {&totals, dtypes::i64, clusters}, {&partials, dtypes::f64, blocks},
                        {&changed, dtypes::i64, one}};
  for (const Item &i : items) {
    auto t = Tensor::empty(i.dtype, i.shape);
    if (!t) return tl::unexpected(t.error());
    *i.tensor = std::move(*t);
  }
  return {};
}

StepArrays StepOutputs::arrays(bool weighted) {
  return {labels.data<std::int32_t>(), distances.data<float>(), sums.data<std::int64_t>(),
          counts.data<std::int64_t>(), weighted ? totals.data<std::int64_t>() : nullptr};
}

double StepOutputs::inertia() const {
  double sum = 0;
  for (std::int64_t b = 0; b < partials.elements(); ++b) sum += partials.data<double>()[b];
  return sum;
}

Status run_step(Runner &runner, const Input &in, const TensorView &centroids,
                const TensorView &previous, StepOutputs &out, Runner::States *states,
                Poller &poller, Tally &tally, Labels by) {
  CallFrame frame(SY_KMEANS_STEP_INPUTS, SY_KMEANS_STEP_OUTPUTS);
  frame.input(SY_KMEANS_IN_X, in.x);
  frame.input(SY_KMEANS_IN_CENTROIDS, centroids);
  frame.input(SY_KMEANS_IN_WEIGHTS, in.weights);
  frame.input(SY_KMEANS_IN_SHIFTS, in.shifts);
  if (previous.present()) frame.input(SY_KMEANS_IN_PREVIOUS_LABELS, previous);
  frame.output(SY_KMEANS_STEP_OUT_LABELS, out.labels);
  frame.output(SY_KMEANS_STEP_OUT_SUMS, out.sums);
  frame.output(SY_KMEANS_STEP_OUT_COUNTS, out.counts);
  if (in.weights.present()) frame.output(SY_KMEANS_STEP_OUT_WEIGHTS, out.totals);
  frame.output(SY_KMEANS_STEP_OUT_INERTIA_PARTIALS, out.partials);
  frame.output(SY_KMEANS_STEP_OUT_CHANGED, out.changed);
  frame.output(SY_KMEANS_STEP_OUT_DISTANCES, out.distances);
  sy_kmeans_params params{};
  params.weight_shift = in.weight_shift;
  if (by == Labels::int8) {
    params.flags = SY_KMEANS_INT8;
    params.largest = in.largest;
  }
  frame.params(params);
  frame.call().threads = runner.threads();
  poller.watch(frame.call());
  Answer answer;
  if (auto s = runner.run(SY_OP_KMEANS_STEP, frame.call(), states, &answer); !s) return s;
  tally.add(answer);
  return {};
}

Result<Tensor> closest_rows(const StepOutputs &out, std::int64_t k) {
  auto rows = Tensor::empty(dtypes::i64, std::array{k});
  if (!rows) return rows;
  auto *closest = rows->data<std::int64_t>();
  std::fill_n(closest, k, std::int64_t{-1});
  const auto *labels = out.labels.data<std::int32_t>();
  const auto *distances = out.distances.data<float>();
  for (std::int64_t i = 0; i < out.labels.elements(); ++i) {
    std::int64_t &mine = closest[labels[i]];
    if (mine < 0 || distances[i] < distances[mine]) mine = i;
  }
  return rows;
}

}  // namespace switchyard::kmeans
