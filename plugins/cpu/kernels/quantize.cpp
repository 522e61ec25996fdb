// SPDX-License-Identifier: Apache-2.0
// The list of quantise kernels: one per format and element type.

#include <switchyard/ops/quantize.h>

#include "quantize_affine.hpp"
#include "quantize_codecs.hpp"
#include "quantize_int8.hpp"
#include "quantize_k.hpp"
#include "quantize_mxfp4.hpp"
#include "quantize_ternary_codecs.hpp"
#include "quantize_ternary_sinks.hpp"

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

constexpr KernelDef with_workspace(KernelDef def) {
  def.workspace_size = ternary_workspace;
  return def;
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
constexpr Types kQ4_1 = types(SY_QUANT_Q4_1, 14, 6, 6);
constexpr Types kQ5_0 = types(SY_QUANT_Q5_0, 12, 6, 6);
constexpr Types kQ5_1 = types(SY_QUANT_Q5_1, 12, 6, 6);
constexpr Types kQ8_0 = types(SY_QUANT_Q8_0, 18, 7.5f, 7.5f);
constexpr Types kQ4_K = types(SY_QUANT_Q4_K, 0.7f, 0.35f, 0.35f);
constexpr Types kQ6_K = types(SY_QUANT_Q6_K, 1.7f, 0.8f, 0.8f);
constexpr Types kTQ1_0 = types(SY_QUANT_TQ1_0, 18, 8, 8);
constexpr Types kTQ2_0 = types(SY_QUANT_TQ2_0, 33, 13, 13);
constexpr Types kQ2_0 = types(SY_QUANT_Q2_0, 15, 7, 7);
constexpr Types kMXFP4_GGML = types(SY_QUANT_MXFP4_GGML, 10, 5, 5);
constexpr Types kMXFP4 = types(SY_QUANT_MXFP4, 10, 5, 5);
constexpr Types kAffine2 = types(SY_QUANT_MLX_AFFINE2, 12, 5.5f, 5.5f);
constexpr Types kAffine3 = types(SY_QUANT_MLX_AFFINE3, 10, 5, 5);
constexpr Types kAffine4 = types(SY_QUANT_MLX_AFFINE4, 12.5f, 5.5f, 5.5f);
constexpr Types kAffine5 = types(SY_QUANT_MLX_AFFINE5, 10, 5, 5);
constexpr Types kAffine6 = types(SY_QUANT_MLX_AFFINE6, 10, 5, 5);
constexpr Types kAffine8 = types(SY_QUANT_MLX_AFFINE8, 14, 6.5f, 6.5f);
constexpr Types kTERNARY = types(SY_QUANT_TERNARY, 29, 10, 10);
constexpr Types kTERN2 = types(SY_QUANT_TERN2, 25, 9, 9);
constexpr Types kI2_S = types(SY_QUANT_I2_S, 25, 9, 9);
constexpr Types kINT8 = types(SY_QUANT_INT8, 12, 6, 6);

constexpr KernelDef kKernels[] = {
    kernel("quantize.f32_q4_0.block", &kQ4_0.f32, quantize_blocks<Q4_0, float>),
    kernel("quantize.f16_q4_0.block", &kQ4_0.f16, quantize_blocks<Q4_0, float16_t>),
    kernel("quantize.bf16_q4_0.block", &kQ4_0.bf16, quantize_blocks<Q4_0, bfloat16_t>),
    kernel("quantize.f32_q4_1.block", &kQ4_1.f32, quantize_blocks<Q4_1, float>),
    kernel("quantize.f16_q4_1.block", &kQ4_1.f16, quantize_blocks<Q4_1, float16_t>),
    kernel("quantize.bf16_q4_1.block", &kQ4_1.bf16, quantize_blocks<Q4_1, bfloat16_t>),
    kernel("quantize.f32_q5_0.block", &kQ5_0.f32, quantize_blocks<Q5_0, float>),
    kernel("quantize.f16_q5_0.block", &kQ5_0.f16, quantize_blocks<Q5_0, float16_t>),
    kernel("quantize.bf16_q5_0.block", &kQ5_0.bf16, quantize_blocks<Q5_0, bfloat16_t>),
    kernel("quantize.f32_q5_1.block", &kQ5_1.f32, quantize_blocks<Q5_1, float>),
    kernel("quantize.f16_q5_1.block", &kQ5_1.f16, quantize_blocks<Q5_1, float16_t>),
    kernel("quantize.bf16_q5_1.block", &kQ5_1.bf16, quantize_blocks<Q5_1, bfloat16_t>),
    kernel("quantize.f32_q8_0.block", &kQ8_0.f32, quantize_blocks<Q8_0, float>),
    kernel("quantize.f16_q8_0.block", &kQ8_0.f16, quantize_blocks<Q8_0, float16_t>),
    kernel("quantize.bf16_q8_0.block", &kQ8_0.bf16, quantize_blocks<Q8_0, bfloat16_t>),
    kernel("quantize.f32_q4_k.block", &kQ4_K.f32, quantize_blocks<Q4_K, float>),
    kernel("quantize.f16_q4_k.block", &kQ4_K.f16, quantize_blocks<Q4_K, float16_t>),
    kernel("quantize.bf16_q4_k.block", &kQ4_K.bf16, quantize_blocks<Q4_K, bfloat16_t>),
    kernel("quantize.f32_q6_k.block", &kQ6_K.f32, quantize_blocks<Q6_K, float>),
    kernel("quantize.f16_q6_k.block", &kQ6_K.f16, quantize_blocks<Q6_K, float16_t>),
    kernel("quantize.bf16_q6_k.block", &kQ6_K.bf16, quantize_blocks<Q6_K, bfloat16_t>),
    kernel("quantize.f32_tq1_0.block", &kTQ1_0.f32,
           quantize_blocks_by_rule<TQ1_0<ByLargest>, TQ1_0<ByMean>, SY_SCALE_ABSMEAN, float>),
    kernel("quantize.f16_tq1_0.block", &kTQ1_0.f16,
           quantize_blocks_by_rule<TQ1_0<ByLargest>, TQ1_0<ByMean>, SY_SCALE_ABSMEAN, float16_t>),
    kernel("quantize.bf16_tq1_0.block", &kTQ1_0.bf16,
           quantize_blocks_by_rule<TQ1_0<ByLargest>, TQ1_0<ByMean>, SY_SCALE_ABSMEAN, bfloat16_t>),
    kernel("quantize.f32_tq2_0.block", &kTQ2_0.f32,
           quantize_blocks_by_rule<TQ2_0<ByLargest>, TQ2_0<ByMean>, SY_SCALE_ABSMEAN, float>),
    kernel("quantize.f16_tq2_0.block", &kTQ2_0.f16,
           quantize_blocks_by_rule<TQ2_0<ByLargest>, TQ2_0<ByMean>, SY_SCALE_ABSMEAN, float16_t>),
    kernel("quantize.bf16_tq2_0.block", &kTQ2_0.bf16,
           quantize_blocks_by_rule<TQ2_0<ByLargest>, TQ2_0<ByMean>, SY_SCALE_ABSMEAN, bfloat16_t>),
    kernel("quantize.f32_q2_0.block", &kQ2_0.f32,
           quantize_blocks_by_rule<Q2_0<ByLargest>, Q2_0<ByMean>, SY_SCALE_ABSMEAN, float>),
    kernel("quantize.f16_q2_0.block", &kQ2_0.f16,
           quantize_blocks_by_rule<Q2_0<ByLargest>, Q2_0<ByMean>, SY_SCALE_ABSMEAN, float16_t>),
    kernel("quantize.bf16_q2_0.block", &kQ2_0.bf16,
           quantize_blocks_by_rule<Q2_0<ByLargest>, Q2_0<ByMean>, SY_SCALE_ABSMEAN, bfloat16_t>),
    kernel("quantize.f32_mxfp4_ggml.block", &kMXFP4_GGML.f32,
           quantize_blocks_by_rule<MXFP4Blocks<false>, MXFP4Blocks<true>, SY_SCALE_RCEIL, float>),
    kernel(
        "quantize.f16_mxfp4_ggml.block", &kMXFP4_GGML.f16,
        quantize_blocks_by_rule<MXFP4Blocks<false>, MXFP4Blocks<true>, SY_SCALE_RCEIL, float16_t>),
    kernel(
        "quantize.bf16_mxfp4_ggml.block", &kMXFP4_GGML.bf16,
        quantize_blocks_by_rule<MXFP4Blocks<false>, MXFP4Blocks<true>, SY_SCALE_RCEIL, bfloat16_t>),
    kernel("quantize.f32_mxfp4.group", &kMXFP4.f32, quantize_mxfp4<float>),
    kernel("quantize.f16_mxfp4.group", &kMXFP4.f16, quantize_mxfp4<float16_t>),
    kernel("quantize.bf16_mxfp4.group", &kMXFP4.bf16, quantize_mxfp4<bfloat16_t>),
    kernel("quantize.f32_mlx_affine2.group", &kAffine2.f32, quantize_affine<2, float>),
    kernel("quantize.f16_mlx_affine2.group", &kAffine2.f16, quantize_affine<2, float16_t>),
    kernel("quantize.bf16_mlx_affine2.group", &kAffine2.bf16, quantize_affine<2, bfloat16_t>),
    kernel("quantize.f32_mlx_affine3.group", &kAffine3.f32, quantize_affine<3, float>),
    kernel("quantize.f16_mlx_affine3.group", &kAffine3.f16, quantize_affine<3, float16_t>),
    kernel("quantize.bf16_mlx_affine3.group", &kAffine3.bf16, quantize_affine<3, bfloat16_t>),
    kernel("quantize.f32_mlx_affine4.group", &kAffine4.f32, quantize_affine<4, float>),
    kernel("quantize.f16_mlx_affine4.group", &kAffine4.f16, quantize_affine<4, float16_t>),
    kernel("quantize.bf16_mlx_affine4.group", &kAffine4.bf16, quantize_affine<4, bfloat16_t>),
    kernel("quantize.f32_mlx_affine5.group", &kAffine5.f32, quantize_affine<5, float>),
    kernel("quantize.f16_mlx_affine5.group", &kAffine5.f16, quantize_affine<5, float16_t>),
    kernel("quantize.bf16_mlx_affine5.group", &kAffine5.bf16, quantize_affine<5, bfloat16_t>),
    kernel("quantize.f32_mlx_affine6.group", &kAffine6.f32, quantize_affine<6, float>),
    kernel("quantize.f16_mlx_affine6.group", &kAffine6.f16, quantize_affine<6, float16_t>),
    kernel("quantize.bf16_mlx_affine6.group", &kAffine6.bf16, quantize_affine<6, bfloat16_t>),
    kernel("quantize.f32_mlx_affine8.group", &kAffine8.f32, quantize_affine<8, float>),
    kernel("quantize.f16_mlx_affine8.group", &kAffine8.f16, quantize_affine<8, float16_t>),
    kernel("quantize.bf16_mlx_affine8.group", &kAffine8.bf16, quantize_affine<8, bfloat16_t>),
    with_workspace(kernel("quantize.f32_ternary.mean", &kTERNARY.f32, quantize_ternary<float>)),
    with_workspace(kernel("quantize.f16_ternary.mean", &kTERNARY.f16, quantize_ternary<float16_t>)),
    with_workspace(
        kernel("quantize.bf16_ternary.mean", &kTERNARY.bf16, quantize_ternary<bfloat16_t>)),
    with_workspace(kernel("quantize.f32_tern2.mean", &kTERN2.f32, quantize_tern2<float>)),
    with_workspace(kernel("quantize.f16_tern2.mean", &kTERN2.f16, quantize_tern2<float16_t>)),
    with_workspace(kernel("quantize.bf16_tern2.mean", &kTERN2.bf16, quantize_tern2<bfloat16_t>)),
    with_workspace(kernel("quantize.f32_i2_s.mean", &kI2_S.f32, quantize_i2_s<float>)),
    with_workspace(kernel("quantize.f16_i2_s.mean", &kI2_S.f16, quantize_i2_s<float16_t>)),
    with_workspace(kernel("quantize.bf16_i2_s.mean", &kI2_S.bf16, quantize_i2_s<bfloat16_t>)),
    kernel("quantize.f32_int8.largest", &kINT8.f32, quantize_int8<float>),
    kernel("quantize.f16_int8.largest", &kINT8.f16, quantize_int8<float16_t>),
    kernel("quantize.bf16_int8.largest", &kINT8.bf16, quantize_int8<bfloat16_t>),
};

}  // namespace
}  // namespace quant

KernelList quantize_kernels() noexcept {
  return {quant::kKernels, sizeof(quant::kKernels) / sizeof(quant::kKernels[0])};
}

}  // namespace SY_ISA
}  // namespace switchyard::cpu
