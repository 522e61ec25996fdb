// SPDX-License-Identifier: Apache-2.0
// The list of quantise kernels: one per format and element type.

#include <switchyard/ops/quantize.h>

#include "quantize_affine.hpp"
#include "quantize_blocks.hpp"
#include "quantize_ternary.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {
namespace {

int32_t supports(const KernelDef &self, const Context &, const sy_call &call, sy_error *reason) {
  return check_quant_call(*static_cast<const QuantKernel *>(self.data), call,
                          *call.inputs[SY_QUANTIZE_IN_X], reason);
}

uint64_t estimate(const KernelDef &self, const Context &ctx, const sy_call &call) {
  return estimate_ns(*static_cast<const QuantKernel *>(self.data), ctx, call,
                     *call.inputs[SY_QUANTIZE_IN_X]);
}

using RunFn = int32_t (*)(const KernelDef &, const Context &, const sy_call &, sy_error *);

constexpr KernelDef kernel(const char *name, const QuantKernel *data, RunFn run) {
  return {SY_OP_QUANTIZE,
          name,
          "exact",
          SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC,
          data,
          supports,
          estimate,
          nullptr,
          run,
          nullptr,
          nullptr};
}

struct Types {
  QuantKernel f32, f16, bf16;
};
constexpr Types types(sy_quant_format format, float f32, float f16, float bf16) {
  return {{format, SY_TYPE_FLOAT, 32, f32},
          {format, SY_TYPE_FLOAT, 16, f16},
          {format, SY_TYPE_BFLOAT, 16, bf16}};
}
constexpr Types kQ4_0 = types(SY_QUANT_Q4_0, 15, 6.5f, 6.5f);
constexpr Types kQ8_0 = types(SY_QUANT_Q8_0, 18, 7.5f, 7.5f);
constexpr Types kTQ2_0 = types(SY_QUANT_TQ2_0, 33, 13, 13);
constexpr Types kAffine4 = types(SY_QUANT_MLX_AFFINE4, 12.5f, 5.5f, 5.5f);
constexpr Types kAffine8 = types(SY_QUANT_MLX_AFFINE8, 14, 6.5f, 6.5f);
constexpr Types kTernary = types(SY_QUANT_TERNARY, 29, 10, 10);

constexpr KernelDef kKernels[] = {
    kernel("quantize.f32_q4_0.block", &kQ4_0.f32, quantize_blocks<Q4_0, float>),
    kernel("quantize.f16_q4_0.block", &kQ4_0.f16, quantize_blocks<Q4_0, float16_t>),
    kernel("quantize.bf16_q4_0.block", &kQ4_0.bf16, quantize_blocks<Q4_0, bfloat16_t>),
    kernel("quantize.f32_q8_0.block", &kQ8_0.f32, quantize_blocks<Q8_0, float>),
    kernel("quantize.f16_q8_0.block", &kQ8_0.f16, quantize_blocks<Q8_0, float16_t>),
    kernel("quantize.bf16_q8_0.block", &kQ8_0.bf16, quantize_blocks<Q8_0, bfloat16_t>),
    kernel("quantize.f32_tq2_0.block", &kTQ2_0.f32, quantize_blocks<TQ2_0, float>),
    kernel("quantize.f16_tq2_0.block", &kTQ2_0.f16, quantize_blocks<TQ2_0, float16_t>),
    kernel("quantize.bf16_tq2_0.block", &kTQ2_0.bf16, quantize_blocks<TQ2_0, bfloat16_t>),
    kernel("quantize.f32_mlx_affine4.group", &kAffine4.f32, quantize_affine<4, float>),
    kernel("quantize.f16_mlx_affine4.group", &kAffine4.f16, quantize_affine<4, float16_t>),
    kernel("quantize.bf16_mlx_affine4.group", &kAffine4.bf16, quantize_affine<4, bfloat16_t>),
    kernel("quantize.f32_mlx_affine8.group", &kAffine8.f32, quantize_affine<8, float>),
    kernel("quantize.f16_mlx_affine8.group", &kAffine8.f16, quantize_affine<8, float16_t>),
    kernel("quantize.bf16_mlx_affine8.group", &kAffine8.bf16, quantize_affine<8, bfloat16_t>),
    kernel("quantize.f32_ternary.mean", &kTernary.f32, quantize_ternary<float>),
    kernel("quantize.f16_ternary.mean", &kTernary.f16, quantize_ternary<float16_t>),
    kernel("quantize.bf16_ternary.mean", &kTernary.bf16, quantize_ternary<bfloat16_t>),
};

}  // namespace
}  // namespace quant

KernelList quantize_kernels() noexcept {
  return {quant::kKernels, sizeof(quant::kKernels) / sizeof(quant::kKernels[0])};
}

}  // namespace SY_ISA
}  // namespace switchyard::cpu
