// SPDX-License-Identifier: Apache-2.0
// The meaning of "kmeans.step" and "kmeans.assign": one row, one centroid, one element at a time.

#include <switchyard/ops/kmeans.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "failure.hpp"
#include "kernels.hpp"
#include "kmeans_distance.hpp"

namespace switchyard::reference {
namespace {

using cpu::failure;

/// What SY_KMEANS_INT8 makes of a value.
std::int64_t code(float v, double rate) noexcept {
  return static_cast<std::int64_t>(
      std::clamp(std::nearbyint(static_cast<double>(v) * rate), -127.0, 127.0));
}

/// The label that 8-bit codes give.
std::int32_t int8_label(const float *x, const float *centroids, std::int64_t d, std::int64_t k,
                        double rate) noexcept {
  std::int64_t best = 0;
  std::int32_t label = -1;
  for (std::int64_t j = 0; j < k; ++j) {
    std::int64_t score = 0;
    for (std::int64_t m = 0; m < d; ++m) {
      const std::int64_t c = code(centroids[j * d + m], rate);
      score += c * (c - 2 * code(x[m], rate));
    }
    if (label >= 0 && score >= best) continue;
    best = score;
    label = static_cast<std::int32_t>(j);
  }
  return label;
}

/// Labels, distances and inertia partials, each where wanted. False when the call was cancelled.
bool assign(const sy_call &call, std::int32_t *labels, float *distances, double *partials) {
  const sy_tensor &x = *call.inputs[SY_KMEANS_IN_X];
  const sy_tensor &c = *call.inputs[SY_KMEANS_IN_CENTROIDS];
  const float *rows = data<const float>(&x), *centroids = data<const float>(&c);
  const float *weights = data<const float>(call.inputs[SY_KMEANS_IN_WEIGHTS]);
  const std::int64_t n = x.shape[0], d = x.shape[1], k = c.shape[0];
  const std::int64_t rows_between_polls = 1 + 1'000'000 / d / k;
  const auto &params = *static_cast<const sy_kmeans_params *>(call.params);
  const bool int8 = (params.flags & SY_KMEANS_INT8) != 0;
  const double rate = int8 && params.largest > 0 ? 127.0 / static_cast<double>(params.largest) : 0;
  double lanes[8] = {};
  for (std::int64_t i = 0; i < n; ++i) {
    const float *row = rows + i * x.strides[0];
    float best = distance(row, centroids, d);
    std::int32_t label = 0;
    if (int8) {
      label = int8_label(row, centroids, d, k, rate);
      best = distance(row, centroids + label * d, d);
    } else {
      for (std::int64_t j = 1; j < k; ++j) {
        const float candidate = distance(row, centroids + j * d, d);
        if (candidate < best) {
          best = candidate;
          label = static_cast<std::int32_t>(j);
        }
      }
    }
    if (labels != nullptr) labels[i] = label;
    if (distances != nullptr) distances[i] = best;
    const double term = weights == nullptr
                            ? static_cast<double>(best)
                            : static_cast<double>(weights[i]) * static_cast<double>(best);
    lanes[i % 8] += term;
    if ((i + 1) % SY_KMEANS_INERTIA_BLOCK == 0 || i + 1 == n) {
      for (int half = 4; half > 0; half /= 2)
        for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
      if (partials != nullptr) partials[i / SY_KMEANS_INERTIA_BLOCK] = lanes[0];
      std::fill(std::begin(lanes), std::end(lanes), 0.0);
    }
    if (call.progress != nullptr && i % rows_between_polls == 0 &&
        call.progress(call.progress_arg, static_cast<double>(i) / static_cast<double>(n)) != 0)
      return false;
  }
  return true;
}

std::int64_t fixed_point(double value, int shift) noexcept {
  return static_cast<std::int64_t>(std::nearbyint(std::ldexp(value, shift)));
}

std::int32_t run_step(const cpu::KernelDef &, const cpu::Context &, const sy_call &call,
                      sy_error *error) {
  auto *labels = data<std::int32_t>(call.outputs[SY_KMEANS_STEP_OUT_LABELS]);
  if (!assign(call, labels, data<float>(call.outputs[SY_KMEANS_STEP_OUT_DISTANCES]),
              data<double>(call.outputs[SY_KMEANS_STEP_OUT_INERTIA_PARTIALS])))
    return failure(error, SY_E_CANCELLED, "kmeans.step was cancelled");

  const sy_tensor &x = *call.inputs[SY_KMEANS_IN_X];
  const std::int64_t n = x.shape[0], d = x.shape[1];
  const std::int64_t k = call.inputs[SY_KMEANS_IN_CENTROIDS]->shape[0];
  const float *weights = data<const float>(call.inputs[SY_KMEANS_IN_WEIGHTS]);
  const auto *shifts = data<const std::int32_t>(call.inputs[SY_KMEANS_IN_SHIFTS]);
  const auto *previous = data<const std::int32_t>(call.inputs[SY_KMEANS_IN_PREVIOUS_LABELS]);
  const int weight_shift = static_cast<const sy_kmeans_params *>(call.params)->weight_shift;
  auto *sums = data<std::int64_t>(call.outputs[SY_KMEANS_STEP_OUT_SUMS]);
  auto *counts = data<std::int64_t>(call.outputs[SY_KMEANS_STEP_OUT_COUNTS]);
  auto *totals = data<std::int64_t>(call.outputs[SY_KMEANS_STEP_OUT_WEIGHTS]);
  std::fill_n(sums, k * d, 0);
  std::fill_n(counts, k, 0);
  if (totals != nullptr) std::fill_n(totals, k, 0);
  std::int64_t changed = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const float *row = data<const float>(&x) + i * x.strides[0];
    const std::int64_t j = labels[i];
    const double w = weights == nullptr ? 1.0 : static_cast<double>(weights[i]);
    for (std::int64_t m = 0; m < d; ++m)
      sums[j * d + m] += fixed_point(w * static_cast<double>(row[m]), shifts[m]);
    ++counts[j];
    if (totals != nullptr) totals[j] += fixed_point(w, weight_shift);
    changed += previous == nullptr || previous[i] != labels[i];
  }
  *data<std::int64_t>(call.outputs[SY_KMEANS_STEP_OUT_CHANGED]) = changed;
  return SY_OK;
}

std::int32_t run_assign(const cpu::KernelDef &, const cpu::Context &, const sy_call &call,
                        sy_error *error) {
  if (!assign(call, data<std::int32_t>(call.outputs[SY_KMEANS_ASSIGN_OUT_LABELS]),
              data<float>(call.outputs[SY_KMEANS_ASSIGN_OUT_DISTANCES]),
              data<double>(call.outputs[SY_KMEANS_ASSIGN_OUT_INERTIA_PARTIALS])))
    return failure(error, SY_E_CANCELLED, "kmeans.assign was cancelled");
  return SY_OK;
}

std::int32_t supports(const cpu::KernelDef &, const cpu::Context &, const sy_call &call,
                      sy_error *reason) {
  if (call.inputs[SY_KMEANS_IN_X]->device_kind != SY_DEVICE_HOST)
    return failure(reason, SY_E_UNSUPPORTED, "tensors must be in host memory");
  return SY_OK;
}

std::uint64_t estimate(const cpu::KernelDef &, const cpu::Context &, const sy_call &call) {
  const sy_tensor &x = *call.inputs[SY_KMEANS_IN_X];
  const double k = static_cast<double>(call.inputs[SY_KMEANS_IN_CENTROIDS]->shape[0]);
  const double cells = static_cast<double>(x.shape[0]) * static_cast<double>(x.shape[1]);
  return static_cast<std::uint64_t>(2.0 * cells * (k + 4.0)) + 100;
}

constexpr std::uint32_t kTraits = SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC;
constexpr cpu::KernelDef kKernels[] = {
    {.op = SY_OP_KMEANS_STEP,
     .name = "kmeans.step.f32_i32.naive",
     .numerics_class = "exact",
     .traits = kTraits,
     .data = nullptr,
     .supports = supports,
     .estimate = estimate,
     .workspace_size = nullptr,
     .run = run_step,
     .prepare = nullptr,
     .release = nullptr},
    {.op = SY_OP_KMEANS_ASSIGN,
     .name = "kmeans.assign.f32_i32.naive",
     .numerics_class = "exact",
     .traits = kTraits,
     .data = nullptr,
     .supports = supports,
     .estimate = estimate,
     .workspace_size = nullptr,
     .run = run_assign,
     .prepare = nullptr,
     .release = nullptr},
};

}  // namespace

cpu::KernelList kmeans_kernels() noexcept { return {kKernels, std::size(kKernels)}; }

}  // namespace switchyard::reference
