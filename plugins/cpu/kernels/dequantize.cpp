// SPDX-License-Identifier: Apache-2.0
// The dequantise kernels: one per format and element type of y.

#include <switchyard/ops/quantize.h>

#include "dequantize_wide.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {
namespace {

const uint8_t *input_bytes(const sy_call &call, int slot) {
  return reinterpret_cast<const uint8_t *>(first_byte(*call.inputs[slot]));
}

/// decode(u, y) for every unit of `kUnit` values, wherever its row lies.
template <class T, class Decode>
int32_t decode_units(const Context &ctx, const sy_call &call, int64_t unit, sy_error *error,
                     Decode decode) {
  const Rows rows(*call.outputs[SY_DEQUANTIZE_OUT_Y]);
  const int64_t units = rows.values() / unit;
  const int64_t unit_bytes = unit * static_cast<int64_t>(sizeof(T));
  const bool stream = static_cast<uint64_t>(units * unit_bytes) > kStreamBytes;
  auto piece = [&](int64_t u0, int64_t u1) {
    for_runs<T>(rows, unit, u0, u1, [&](T *y, int64_t u, int64_t n) {
      write_units<8192>(reinterpret_cast<uint8_t *>(y), stream, unit_bytes, 0, n,
                        [&](int64_t at, int64_t m, uint8_t *to) {
                          decode(u + at, m, reinterpret_cast<T *>(to));
                          return true;
                        });
      return true;
    });
    if (stream) hwy::FlushStream();
  };
  const int64_t align = unit == 1 ? 4096 : 1;
  if (!for_units(ctx, call, units, unit_bytes, align, 0, 1, piece))
    return failure(error, SY_E_CANCELLED, "cancelled");
  return SY_OK;
}

template <class Codec, class T>
int32_t dequantize_blocks(const KernelDef &, const Context &ctx, const sy_call &call,
                          sy_error *error) {
  const uint8_t *codes = input_bytes(call, SY_DEQUANTIZE_IN_CODES);
  return decode_units<T>(ctx, call, Codec::kBlock, error, [=](int64_t u, int64_t n, T *y) {
    for (int64_t i = 0; i < n; ++i)
      Codec::decode(codes + (u + i) * Codec::kBytes, y + i * Codec::kBlock);
  });
}

template <int kBits, class TS, class T>
int32_t dequantize_affine_as(const Context &ctx, const sy_call &call, sy_error *error) {
  const uint8_t *codes = input_bytes(call, SY_DEQUANTIZE_IN_CODES);
  const auto *scales = reinterpret_cast<const TS *>(input_bytes(call, SY_DEQUANTIZE_IN_SCALES));
  const auto *biases = reinterpret_cast<const TS *>(input_bytes(call, SY_DEQUANTIZE_IN_BIASES));
  const int64_t group = static_cast<const sy_quantize_params *>(call.params)->group_size;
  const int64_t bytes = group * kBits / 8;
  return decode_units<T>(ctx, call, group, error, [=](int64_t u, int64_t n, T *y) {
    for (int64_t i = 0; i < n; ++i)
      decode_affine<kBits, TS>(codes + (u + i) * bytes, group, load_scalar(scales + u + i),
                               load_scalar(biases + u + i), y + i * group);
  });
}

template <int kBits, class T>
int32_t dequantize_affine(const KernelDef &, const Context &ctx, const sy_call &call,
                          sy_error *error) {
  const sy_dtype type = call.inputs[SY_DEQUANTIZE_IN_SCALES]->dtype;
  if (type.bits == 32) return dequantize_affine_as<kBits, float, T>(ctx, call, error);
  if (type.code == SY_TYPE_BFLOAT)
    return dequantize_affine_as<kBits, bfloat16_t, T>(ctx, call, error);
  return dequantize_affine_as<kBits, float16_t, T>(ctx, call, error);
}

template <class T>
int32_t dequantize_mxfp4(const KernelDef &, const Context &ctx, const sy_call &call,
                         sy_error *error) {
  const uint8_t *codes = input_bytes(call, SY_DEQUANTIZE_IN_CODES);
  const uint8_t *scales = input_bytes(call, SY_DEQUANTIZE_IN_SCALES);
  return decode_units<T>(ctx, call, 32, error, [=](int64_t u, int64_t n, T *y) {
    for (int64_t i = 0; i < n; ++i) decode_mxfp4(codes + (u + i) * 16, scales[u + i], y + i * 32);
  });
}

template <class T>
int32_t dequantize_i2_s(const KernelDef &, const Context &ctx, const sy_call &call,
                        sy_error *error) {
  const uint8_t *codes = input_bytes(call, SY_DEQUANTIZE_IN_CODES);
  const int64_t values = Rows(*call.outputs[SY_DEQUANTIZE_OUT_Y]).values();
  float scale;
  memcpy(&scale, codes + values / 4, sizeof(scale));
  return decode_units<T>(ctx, call, 128, error, [=](int64_t u, int64_t n, T *y) {
    const TernaryTable table(scale);
    for (int64_t i = 0; i < n; ++i) decode_i2_s(codes + (u + i) * 32, table, y + i * 128);
  });
}

/// int8 codes times a scale: ternary and int8.
template <class T>
int32_t dequantize_plain(const KernelDef &, const Context &ctx, const sy_call &call,
                         sy_error *error) {
  const auto &params = *static_cast<const sy_quantize_params *>(call.params);
  const sy_tensor &y = *call.outputs[SY_DEQUANTIZE_OUT_Y];
  const uint8_t *codes = input_bytes(call, SY_DEQUANTIZE_IN_CODES);
  const auto *scales = reinterpret_cast<const float *>(input_bytes(call, SY_DEQUANTIZE_IN_SCALES));
  int64_t per_scale = INT64_MAX;
  if (params.granularity == SY_GRANULARITY_ROW) per_scale = y.shape[y.rank - 1];
  if (params.granularity == SY_GRANULARITY_GROUP) per_scale = params.group_size;
  if (params.granularity == SY_GRANULARITY_CHANNEL && y.shape[0] > 0)
    per_scale = Rows(y).values() / y.shape[0];
  return decode_units<T>(ctx, call, 1, error, [=](int64_t first, int64_t n, T *out) {
    for (int64_t i = 0; i < n;) {
      const int64_t scale = (first + i) / per_scale;
      const int64_t left = per_scale - (first + i) % per_scale;
      const int64_t m = left < n - i ? left : n - i;
      decode_ternary(codes + first + i, m, scales[scale], out + i);
      i += m;
    }
  });
}

int32_t supports(const KernelDef &self, const Context &, const sy_call &call, sy_error *reason) {
  return check_quant_call(*static_cast<const QuantKernel *>(self.data), call,
                          *call.outputs[SY_DEQUANTIZE_OUT_Y], reason);
}

uint64_t estimate(const KernelDef &self, const Context &ctx, const sy_call &call) {
  return estimate_ns(*static_cast<const QuantKernel *>(self.data), ctx, call,
                     *call.outputs[SY_DEQUANTIZE_OUT_Y]);
}

using RunFn = int32_t (*)(const KernelDef &, const Context &, const sy_call &, sy_error *);

constexpr KernelDef kernel(const char *name, const QuantKernel *data, RunFn run) {
  return {SY_OP_DEQUANTIZE,
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
constexpr Types kQ4_0 = types(SY_QUANT_Q4_0, 70, 25, 14);
constexpr Types kQ4_1 = types(SY_QUANT_Q4_1, 60, 25, 14);
constexpr Types kQ5_0 = types(SY_QUANT_Q5_0, 40, 20, 14);
constexpr Types kQ5_1 = types(SY_QUANT_Q5_1, 40, 20, 14);
constexpr Types kQ8_0 = types(SY_QUANT_Q8_0, 85, 30, 16);
constexpr Types kQ4_K = types(SY_QUANT_Q4_K, 50, 25, 14);
constexpr Types kQ6_K = types(SY_QUANT_Q6_K, 30, 20, 14);
constexpr Types kTQ1_0 = types(SY_QUANT_TQ1_0, 45, 25, 14);
constexpr Types kTQ2_0 = types(SY_QUANT_TQ2_0, 60, 25, 14);
constexpr Types kQ2_0 = types(SY_QUANT_Q2_0, 40, 20, 14);
constexpr Types kMXFP4_GGML = types(SY_QUANT_MXFP4_GGML, 50, 25, 14);
constexpr Types kMXFP4 = types(SY_QUANT_MXFP4, 40, 20, 14);
constexpr Types kAffine2 = types(SY_QUANT_MLX_AFFINE2, 40, 11, 7);
constexpr Types kAffine3 = types(SY_QUANT_MLX_AFFINE3, 40, 11, 7);
constexpr Types kAffine4 = types(SY_QUANT_MLX_AFFINE4, 45, 11, 7);
constexpr Types kAffine5 = types(SY_QUANT_MLX_AFFINE5, 40, 11, 7);
constexpr Types kAffine6 = types(SY_QUANT_MLX_AFFINE6, 40, 11, 7);
constexpr Types kAffine8 = types(SY_QUANT_MLX_AFFINE8, 65, 12, 7);
constexpr Types kTERNARY = types(SY_QUANT_TERNARY, 90, 30, 16);
constexpr Types kTERN2 = types(SY_QUANT_TERN2, 40, 11, 7);
constexpr Types kI2_S = types(SY_QUANT_I2_S, 60, 25, 14);
constexpr Types kINT8 = types(SY_QUANT_INT8, 90, 30, 16);

constexpr KernelDef kKernels[] = {
    kernel("dequantize.q4_0_f32.block", &kQ4_0.f32, dequantize_blocks<DecodeQ4_0, float>),
    kernel("dequantize.q4_0_f16.block", &kQ4_0.f16, dequantize_blocks<DecodeQ4_0, float16_t>),
    kernel("dequantize.q4_0_bf16.block", &kQ4_0.bf16, dequantize_blocks<DecodeQ4_0, bfloat16_t>),
    kernel("dequantize.q4_1_f32.block", &kQ4_1.f32, dequantize_blocks<DecodeQ4_1, float>),
    kernel("dequantize.q4_1_f16.block", &kQ4_1.f16, dequantize_blocks<DecodeQ4_1, float16_t>),
    kernel("dequantize.q4_1_bf16.block", &kQ4_1.bf16, dequantize_blocks<DecodeQ4_1, bfloat16_t>),
    kernel("dequantize.q5_0_f32.block", &kQ5_0.f32, dequantize_blocks<DecodeQ5_0, float>),
    kernel("dequantize.q5_0_f16.block", &kQ5_0.f16, dequantize_blocks<DecodeQ5_0, float16_t>),
    kernel("dequantize.q5_0_bf16.block", &kQ5_0.bf16, dequantize_blocks<DecodeQ5_0, bfloat16_t>),
    kernel("dequantize.q5_1_f32.block", &kQ5_1.f32, dequantize_blocks<DecodeQ5_1, float>),
    kernel("dequantize.q5_1_f16.block", &kQ5_1.f16, dequantize_blocks<DecodeQ5_1, float16_t>),
    kernel("dequantize.q5_1_bf16.block", &kQ5_1.bf16, dequantize_blocks<DecodeQ5_1, bfloat16_t>),
    kernel("dequantize.q8_0_f32.block", &kQ8_0.f32, dequantize_blocks<DecodeQ8_0, float>),
    kernel("dequantize.q8_0_f16.block", &kQ8_0.f16, dequantize_blocks<DecodeQ8_0, float16_t>),
    kernel("dequantize.q8_0_bf16.block", &kQ8_0.bf16, dequantize_blocks<DecodeQ8_0, bfloat16_t>),
    kernel("dequantize.q4_k_f32.block", &kQ4_K.f32, dequantize_blocks<DecodeQ4_K, float>),
    kernel("dequantize.q4_k_f16.block", &kQ4_K.f16, dequantize_blocks<DecodeQ4_K, float16_t>),
    kernel("dequantize.q4_k_bf16.block", &kQ4_K.bf16, dequantize_blocks<DecodeQ4_K, bfloat16_t>),
    kernel("dequantize.q6_k_f32.block", &kQ6_K.f32, dequantize_blocks<DecodeQ6_K, float>),
    kernel("dequantize.q6_k_f16.block", &kQ6_K.f16, dequantize_blocks<DecodeQ6_K, float16_t>),
    kernel("dequantize.q6_k_bf16.block", &kQ6_K.bf16, dequantize_blocks<DecodeQ6_K, bfloat16_t>),
    kernel("dequantize.tq1_0_f32.block", &kTQ1_0.f32, dequantize_blocks<DecodeTQ1_0, float>),
    kernel("dequantize.tq1_0_f16.block", &kTQ1_0.f16, dequantize_blocks<DecodeTQ1_0, float16_t>),
    kernel("dequantize.tq1_0_bf16.block", &kTQ1_0.bf16, dequantize_blocks<DecodeTQ1_0, bfloat16_t>),
    kernel("dequantize.tq2_0_f32.block", &kTQ2_0.f32, dequantize_blocks<DecodeTQ2_0, float>),
    kernel("dequantize.tq2_0_f16.block", &kTQ2_0.f16, dequantize_blocks<DecodeTQ2_0, float16_t>),
    kernel("dequantize.tq2_0_bf16.block", &kTQ2_0.bf16, dequantize_blocks<DecodeTQ2_0, bfloat16_t>),
    kernel("dequantize.q2_0_f32.block", &kQ2_0.f32, dequantize_blocks<DecodeQ2_0, float>),
    kernel("dequantize.q2_0_f16.block", &kQ2_0.f16, dequantize_blocks<DecodeQ2_0, float16_t>),
    kernel("dequantize.q2_0_bf16.block", &kQ2_0.bf16, dequantize_blocks<DecodeQ2_0, bfloat16_t>),
    kernel("dequantize.mxfp4_ggml_f32.block", &kMXFP4_GGML.f32,
           dequantize_blocks<DecodeMXFP4, float>),
    kernel("dequantize.mxfp4_ggml_f16.block", &kMXFP4_GGML.f16,
           dequantize_blocks<DecodeMXFP4, float16_t>),
    kernel("dequantize.mxfp4_ggml_bf16.block", &kMXFP4_GGML.bf16,
           dequantize_blocks<DecodeMXFP4, bfloat16_t>),
    kernel("dequantize.mxfp4_f32.group", &kMXFP4.f32, dequantize_mxfp4<float>),
    kernel("dequantize.mxfp4_f16.group", &kMXFP4.f16, dequantize_mxfp4<float16_t>),
    kernel("dequantize.mxfp4_bf16.group", &kMXFP4.bf16, dequantize_mxfp4<bfloat16_t>),
    kernel("dequantize.mlx_affine2_f32.group", &kAffine2.f32, dequantize_affine<2, float>),
    kernel("dequantize.mlx_affine2_f16.group", &kAffine2.f16, dequantize_affine<2, float16_t>),
    kernel("dequantize.mlx_affine2_bf16.group", &kAffine2.bf16, dequantize_affine<2, bfloat16_t>),
    kernel("dequantize.mlx_affine3_f32.group", &kAffine3.f32, dequantize_affine<3, float>),
    kernel("dequantize.mlx_affine3_f16.group", &kAffine3.f16, dequantize_affine<3, float16_t>),
    kernel("dequantize.mlx_affine3_bf16.group", &kAffine3.bf16, dequantize_affine<3, bfloat16_t>),
    kernel("dequantize.mlx_affine4_f32.group", &kAffine4.f32, dequantize_affine<4, float>),
    kernel("dequantize.mlx_affine4_f16.group", &kAffine4.f16, dequantize_affine<4, float16_t>),
    kernel("dequantize.mlx_affine4_bf16.group", &kAffine4.bf16, dequantize_affine<4, bfloat16_t>),
    kernel("dequantize.mlx_affine5_f32.group", &kAffine5.f32, dequantize_affine<5, float>),
    kernel("dequantize.mlx_affine5_f16.group", &kAffine5.f16, dequantize_affine<5, float16_t>),
    kernel("dequantize.mlx_affine5_bf16.group", &kAffine5.bf16, dequantize_affine<5, bfloat16_t>),
    kernel("dequantize.mlx_affine6_f32.group", &kAffine6.f32, dequantize_affine<6, float>),
    kernel("dequantize.mlx_affine6_f16.group", &kAffine6.f16, dequantize_affine<6, float16_t>),
    kernel("dequantize.mlx_affine6_bf16.group", &kAffine6.bf16, dequantize_affine<6, bfloat16_t>),
    kernel("dequantize.mlx_affine8_f32.group", &kAffine8.f32, dequantize_affine<8, float>),
    kernel("dequantize.mlx_affine8_f16.group", &kAffine8.f16, dequantize_affine<8, float16_t>),
    kernel("dequantize.mlx_affine8_bf16.group", &kAffine8.bf16, dequantize_affine<8, bfloat16_t>),
    kernel("dequantize.ternary_f32.scale", &kTERNARY.f32, dequantize_plain<float>),
    kernel("dequantize.ternary_f16.scale", &kTERNARY.f16, dequantize_plain<float16_t>),
    kernel("dequantize.ternary_bf16.scale", &kTERNARY.bf16, dequantize_plain<bfloat16_t>),
    kernel("dequantize.tern2_f32.group", &kTERN2.f32, dequantize_affine<2, float>),
    kernel("dequantize.tern2_f16.group", &kTERN2.f16, dequantize_affine<2, float16_t>),
    kernel("dequantize.tern2_bf16.group", &kTERN2.bf16, dequantize_affine<2, bfloat16_t>),
    kernel("dequantize.i2_s_f32.scale", &kI2_S.f32, dequantize_i2_s<float>),
    kernel("dequantize.i2_s_f16.scale", &kI2_S.f16, dequantize_i2_s<float16_t>),
    kernel("dequantize.i2_s_bf16.scale", &kI2_S.bf16, dequantize_i2_s<bfloat16_t>),
    kernel("dequantize.int8_f32.scale", &kINT8.f32, dequantize_plain<float>),
    kernel("dequantize.int8_f16.scale", &kINT8.f16, dequantize_plain<float16_t>),
    kernel("dequantize.int8_bf16.scale", &kINT8.bf16, dequantize_plain<bfloat16_t>),
};

}  // namespace
}  // namespace quant

KernelList dequantize_kernels() noexcept {
  return {quant::kKernels, sizeof(quant::kKernels) / sizeof(quant::kKernels[0])};
}

}  // namespace SY_ISA
}  // namespace switchyard::cpu
