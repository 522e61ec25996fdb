// SPDX-License-Identifier: Apache-2.0
/// kmeans.step and kmeans.assign by the f32 filter.
#include "kmeans_filter.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

constexpr bool kStep = true, kAssign = false;

int32_t supports(const KernelDef &, const Context &, const sy_call &call, sy_error *reason) {
  if (call.inputs[SY_KMEANS_IN_X]->device_kind != SY_DEVICE_HOST)
    return failure(reason, SY_E_UNSUPPORTED, "tensors must be in host memory");
  return SY_OK;
}

/// One multiply-add in 16 lanes and a cycle; the epilogue and the rows' own work on top.
uint64_t estimate(const KernelDef &, const Context &ctx, const sy_call &call) {
  const KMeansCall k = kmeans_call(call, kAssign);
  const double n = static_cast<double>(k.n), d = static_cast<double>(k.d),
               c = static_cast<double>(k.k);
  const double a_lane = kWide ? 0.018 : 0.020;  // ns
  const double rows = n * (c * (d + 3) * a_lane + d * 0.3 + 15);
  const uint32_t threads = thread_count(ctx, call);
  return static_cast<uint64_t>(rows / threads + c * d * 0.7) + 1000u * threads;
}

template <bool step>
uint64_t workspace(const KernelDef &, const Context &ctx, const sy_call &call) {
  return pass_workspace<FilterMethod>(ctx, call, step);
}

template <bool step>
int32_t run(const KernelDef &, const Context &ctx, const sy_call &call, sy_error *error) {
  return run_pass<FilterMethod>(ctx, call, step, error);
}

int32_t prepare(const KernelDef &, const Context &, const sy_call &call, uint64_t constant_inputs,
                void **state, sy_error *error) {
  return prepare_pass(call, constant_inputs, state, error);
}

void release(const KernelDef &, const Context &, void *state) { free(state); }

constexpr uint32_t kTraits = SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC;
constexpr KernelDef kKernels[] = {
    {.op = SY_OP_KMEANS_STEP,
     .name = "kmeans.step.f32_i32.filter",
     .numerics_class = "exact",
     .traits = kTraits,
     .data = nullptr,
     .supports = supports,
     .estimate = estimate,
     .workspace_size = workspace<kStep>,
     .run = run<kStep>,
     .prepare = prepare,
     .release = release},
    {.op = SY_OP_KMEANS_ASSIGN,
     .name = "kmeans.assign.f32_i32.filter",
     .numerics_class = "exact",
     .traits = kTraits,
     .data = nullptr,
     .supports = supports,
     .estimate = estimate,
     .workspace_size = workspace<kAssign>,
     .run = run<kAssign>,
     .prepare = nullptr,
     .release = nullptr},
};

}  // namespace

KernelList kmeans_kernels() noexcept { return {kKernels, 2}; }

}  // namespace SY_ISA
}  // namespace switchyard::cpu
