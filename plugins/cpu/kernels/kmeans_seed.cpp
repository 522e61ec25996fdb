// SPDX-License-Identifier: Apache-2.0
/// kmeans.seed, by rows or by boxes.
#include "kmeans_seed_boxes.hpp"
#include "kmeans_seed_rows.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

int32_t in_host_memory(const KernelDef &, const Context &, const sy_call &call, sy_error *reason) {
  if (call.inputs[SY_KMEANS_SEED_IN_X]->device_kind != SY_DEVICE_HOST)
    return failure(reason, SY_E_UNSUPPORTED, "tensors must be in host memory");
  return SY_OK;
}

int32_t few_columns(const KernelDef &self, const Context &ctx, const sy_call &call,
                    sy_error *reason) {
  if (call.inputs[SY_KMEANS_SEED_IN_X]->shape[1] > kMostBlockColumns)
    return failure(reason, SY_E_UNSUPPORTED, "more than 8 columns: boxes would not help");
  return in_host_memory(self, ctx, call, reason);
}

/// The triangle inequality leaves about a third of the comparisons of clustered rows.
uint64_t rows_estimate(const KernelDef &, const Context &ctx, const sy_call &call) {
  const SeedCall s = seed_call(call);
  const double n = static_cast<double>(s.rows.n), d = static_cast<double>(s.rows.d),
               k = static_cast<double>(s.rows.k);
  const double step = 4 + 0.35 * (trial_count(s.rows.k) + 1) * (8 + d * 0.06);
  return static_cast<uint64_t>(n * k * step / thread_count(ctx, call) + k * 3000);
}

/// Sorting, a bound for each box and candidate, and the boxes near the candidates.
uint64_t boxes_estimate(const KernelDef &, const Context &ctx, const sy_call &call) {
  const SeedCall s = seed_call(call);
  const double n = static_cast<double>(s.rows.n), d = static_cast<double>(s.rows.d),
               k = static_cast<double>(s.rows.k);
  const double trials = trial_count(s.rows.k) + 1;
  double near = 0;  // shares of the rows, summed over the steps
  for (double j = 1; j < k; j *= 2) near += 0.7;
  const double rows = 25 + near * trials * (1 + d) + k * (trials * d * 0.01 + 0.2);
  return static_cast<uint64_t>(n * rows / thread_count(ctx, call) + k * 3000);
}

template <class Method>
constexpr KernelDef seed_kernel(const char *name, decltype(KernelDef::supports) supports,
                                decltype(KernelDef::estimate) estimate) {
  return {.op = SY_OP_KMEANS_SEED,
          .name = name,
          .numerics_class = "exact",
          .traits = SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC,
          .data = nullptr,
          .supports = supports,
          .estimate = estimate,
          .workspace_size = seed_workspace<Method>,
          .run = run_seed<Method>,
          .prepare = nullptr,
          .release = nullptr};
}

constexpr KernelDef kKernels[] = {
    seed_kernel<SeedRows>("kmeans.seed.f32_i64.rows", in_host_memory, rows_estimate),
    seed_kernel<SeedBoxes>("kmeans.seed.f32_i64.boxes", few_columns, boxes_estimate),
};

}  // namespace

KernelList kmeans_seed_kernels() noexcept { return {kKernels, 2}; }

}  // namespace SY_ISA
}  // namespace switchyard::cpu
