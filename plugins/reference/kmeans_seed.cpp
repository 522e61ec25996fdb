// SPDX-License-Identifier: Apache-2.0
// The meaning of "kmeans.seed": every row's chance is computed anew for every draw.

#include <switchyard/ops/kmeans.h>
#include <switchyard/ops/kmeans_exact.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <iterator>

#include "failure.hpp"
#include "kernels.hpp"
#include "kmeans_distance.hpp"

namespace switchyard::reference {
namespace {

using cpu::failure;

struct Seeding {
  std::int64_t n = 0, d = 0, stride = 0;
  const float *x = nullptr, *weights = nullptr;
  float *nearest = nullptr;
  double scale = 1;

  double weight(std::int64_t i) const {
    return weights == nullptr ? 1.0 : static_cast<double>(weights[i]);
  }
  std::uint64_t chance(std::int64_t i, float D) const {
    return static_cast<std::uint64_t>(weight(i) * static_cast<double>(D) * scale);
  }
  float to_row(std::int64_t i, std::int64_t row) const {
    return std::min(distance(x + i * stride, x + row * stride, d), FLT_MAX);
  }
  std::uint64_t potential(std::int64_t row) const {
    std::uint64_t sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += chance(i, std::min(nearest[i], to_row(i, row)));
    return sum;
  }
  std::int64_t find(std::uint64_t point) const {
    std::int64_t i = 0;
    for (; point >= chance(i, nearest[i]); ++i) point -= chance(i, nearest[i]);
    return i;
  }
};

std::int32_t run(const cpu::KernelDef &, const cpu::Context &, const sy_call &call,
                 sy_error *error) {
  const sy_tensor &x = *call.inputs[SY_KMEANS_SEED_IN_X];
  Seeding s;
  s.n = x.shape[0];
  s.d = x.shape[1];
  s.stride = x.strides[0];
  s.x = data<const float>(&x);
  s.weights = data<const float>(call.inputs[SY_KMEANS_SEED_IN_WEIGHTS]);
  s.nearest = static_cast<float *>(call.workspace);
  auto *rows = data<std::int64_t>(call.outputs[SY_KMEANS_SEED_OUT_ROWS]);
  const std::int64_t k = call.outputs[SY_KMEANS_SEED_OUT_ROWS]->shape[0];
  const auto &params = *static_cast<const sy_kmeans_seed_params *>(call.params);
  std::fill_n(s.nearest, s.n, 1.0f);
  for (std::int64_t j = 0; j < k; ++j) {
    double largest = 0;
    for (std::int64_t i = 0; i < s.n; ++i)
      largest = std::max(largest, s.weight(i) * static_cast<double>(s.nearest[i]));
    s.scale = std::ldexp(1.0, sy_kmeans_shift(largest, s.n));
    std::uint64_t total = 0;
    for (std::int64_t i = 0; i < s.n; ++i) total += s.chance(i, s.nearest[i]);
    const int trials = j == 0 ? 1 : 2 + sy_kmeans_floor_ln(k);
    std::uint64_t least = 0;
    for (int t = 0; t < trials; ++t) {
      if (call.progress != nullptr &&
          call.progress(call.progress_arg, static_cast<double>(j) / static_cast<double>(k)) != 0)
        return failure(error, SY_E_CANCELLED, "kmeans.seed was cancelled");
      sy_kmeans_draws draws{params.seed, params.run, static_cast<std::uint32_t>(j),
                            static_cast<std::uint32_t>(t), 0};
      if (total == 0) {
        if (t == 0)
          rows[j] =
              static_cast<std::int64_t>(sy_kmeans_below(&draws, static_cast<std::uint64_t>(s.n)));
        continue;
      }
      const std::int64_t row = s.find(sy_kmeans_below(&draws, total));
      const std::uint64_t potential = s.potential(row);
      if (t > 0 && potential >= least) continue;
      least = potential;
      rows[j] = row;
    }
    for (std::int64_t i = 0; i < s.n; ++i) {
      const float D = s.to_row(i, rows[j]);
      s.nearest[i] = j == 0 ? D : std::min(s.nearest[i], D);
    }
  }
  return SY_OK;
}

std::uint64_t workspace(const cpu::KernelDef &, const cpu::Context &, const sy_call &call) {
  return static_cast<std::uint64_t>(call.inputs[SY_KMEANS_SEED_IN_X]->shape[0]) * sizeof(float);
}

std::int32_t supports(const cpu::KernelDef &, const cpu::Context &, const sy_call &call,
                      sy_error *reason) {
  if (call.inputs[SY_KMEANS_SEED_IN_X]->device_kind != SY_DEVICE_HOST)
    return failure(reason, SY_E_UNSUPPORTED, "tensors must be in host memory");
  return SY_OK;
}

std::uint64_t estimate(const cpu::KernelDef &, const cpu::Context &, const sy_call &call) {
  const sy_tensor &x = *call.inputs[SY_KMEANS_SEED_IN_X];
  const std::int64_t k = call.outputs[SY_KMEANS_SEED_OUT_ROWS]->shape[0];
  const double steps = static_cast<double>(k) * (3 + sy_kmeans_floor_ln(k));
  return static_cast<std::uint64_t>(static_cast<double>(x.shape[0]) * steps *
                                    (2.0 * static_cast<double>(x.shape[1]) + 12.0)) +
         100;
}

constexpr cpu::KernelDef kKernels[] = {
    {.op = SY_OP_KMEANS_SEED,
     .name = "kmeans.seed.f32_i64.naive",
     .numerics_class = "exact",
     .traits = SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC,
     .data = nullptr,
     .supports = supports,
     .estimate = estimate,
     .workspace_size = workspace,
     .run = run,
     .prepare = nullptr,
     .release = nullptr},
};

}  // namespace

cpu::KernelList kmeans_seed_kernels() noexcept { return {kKernels, std::size(kKernels)}; }

}  // namespace switchyard::reference
