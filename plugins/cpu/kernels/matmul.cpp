// SPDX-License-Identifier: Apache-2.0
/// The matmul kernels: plain weights by dot products or by packed panels, quantised ones by bytes.

#include "../host_memory.hpp"
#include "matmul_quantised.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace matmul {
namespace {

int32_t in_host_memory(const sy_call &call, sy_error *reason) {
  if (call.outputs[SY_MATMUL_OUT_Y]->device_kind != SY_DEVICE_HOST)
    return failure(reason, SY_E_UNSUPPORTED, "a tensor is not in host memory");
  return inputs_in_host_memory(call, reason);
}

const sy_matmul_params &params_of(const sy_call &call) {
  return *static_cast<const sy_matmul_params *>(call.params);
}

struct Type {
  uint8_t code, bits;
};
constexpr Type kF32{SY_TYPE_FLOAT, 32}, kF16{SY_TYPE_FLOAT, 16}, kBF16{SY_TYPE_BFLOAT, 16};

int32_t supports_gemm(const KernelDef &self, const Context &, const sy_call &call,
                      sy_error *reason) {
  const auto &type = *static_cast<const Type *>(self.data);
  const sy_dtype have = call.inputs[SY_MATMUL_IN_X]->dtype;
  if (params_of(call).format != SY_QUANT_NONE)
    return failure(reason, SY_E_UNSUPPORTED, "this kernel is for plain weights");
  if (have.code != type.code || have.bits != type.bits)
    return failure(reason, SY_E_UNSUPPORTED, "this kernel is for another element type");
  return in_host_memory(call, reason);
}

int32_t supports_dots(const KernelDef &self, const Context &ctx, const sy_call &call,
                      sy_error *reason) {
  if (const int32_t status = supports_gemm(self, ctx, call, reason); status != SY_OK) return status;
  const Call c = unpack(call);
  if (c.m > kMostDotRows) return failure(reason, SY_E_UNSUPPORTED, "x has more than 8 rows");
  if (c.w->strides[1] != 1 && c.k > 1)
    return failure(reason, SY_E_UNSUPPORTED, "the weights of an output do not lie together");
  return SY_OK;
}

constexpr double kBytesPerNs = 10;  ///< weights from memory, of one thread

double products(const Call &c) {
  return static_cast<double>(c.m) * static_cast<double>(c.n) * static_cast<double>(c.k);
}
uint64_t time_of(const Context &ctx, const sy_call &call, double ns) {
  const uint32_t threads = thread_count(ctx, call);
  return static_cast<uint64_t>(500 + (threads > 1 ? 4000 : 0) + ns / threads);
}

/// `rate` in products per ns, with 8 rows or more; weights are packed for each block of rows.
uint64_t estimate_packed(const Context &ctx, const sy_call &call, double rate,
                         int64_t row_blocks = 1) {
  const Call c = unpack(call);
  const double packing = static_cast<double>(c.n * row_blocks) * static_cast<double>(c.k) * 0.5;
  return time_of(ctx, call, products(c) / rate + packing + 2000);
}

uint64_t estimate_gemm(const KernelDef &, const Context &ctx, const sy_call &call) {
  return estimate_packed(ctx, call, kLanes >= 16 ? 45 : 35);
}

uint64_t estimate_dots(const KernelDef &, const Context &ctx, const sy_call &call) {
  const Call c = unpack(call);
  const double bytes = static_cast<double>(c.n) * static_cast<double>(c.k) * c.w->dtype.bits / 8;
  return time_of(ctx, call, bytes / kBytesPerNs + products(c) / 25);
}

using Run = int32_t (*)(const KernelDef &, const Context &, const sy_call &, sy_error *);

constexpr KernelDef dots(const char *name, const Type &type, Run run) {
  return {
      SY_OP_MATMUL,
      name,
      "matmul." SY_TEXT(SY_ISA) ".dots",
      SY_TRAIT_DETERMINISTIC,
      &type,
      supports_dots,
      estimate_dots,
      [](const KernelDef &, const Context &, const sy_call &call) { return dots_workspace(call); },
      run,
      nullptr,
      nullptr};
}
using Supports = decltype(&supports_gemm);
using Estimate = decltype(&estimate_gemm);

template <class T, Way kWay = Way::widen>
constexpr KernelDef gemm(const char *name, const Type &type,
                         const char *numerics = "matmul." SY_TEXT(SY_ISA) ".gemm",
                         Supports supports = supports_gemm, Estimate estimate = estimate_gemm) {
  return {SY_OP_MATMUL,
          name,
          numerics,
          SY_TRAIT_DETERMINISTIC,
          &type,
          supports,
          estimate,
          [](const KernelDef &, const Context &ctx, const sy_call &call) {
            return gemm_workspace(ctx, call, kWay);
          },
          run_gemm<T, kWay>,
          nullptr,
          nullptr};
}

#if HWY_TARGET <= HWY_AVX3
template <int32_t (*needs)(const Context &, sy_error *)>
int32_t supports_bf16(const KernelDef &self, const Context &ctx, const sy_call &call,
                      sy_error *reason) {
  const int32_t status = needs(ctx, reason);
  return status == SY_OK ? supports_gemm(self, ctx, call, reason) : status;
}

uint64_t estimate_pairs(const KernelDef &, const Context &ctx, const sy_call &call) {
  return estimate_packed(ctx, call, (ctx.features & kFeatureFastBf16) != 0 ? 85 : 22);
}

/// Half of what tiles can do, 16 x 16 by 32 values in about 6 ns, be there 16 rows or fewer.
uint64_t estimate_amx(const KernelDef &, const Context &ctx, const sy_call &call) {
  const Call c = unpack(call);
  const auto real = static_cast<double>(c.m),
             whole = static_cast<double>(round_up64(c.m, kTileHeight));
  return estimate_packed(ctx, call, 650 * real / whole, ceil_div64(c.m, kMostTileRows));
}
#endif

/// Which row of the table, and of which table.
struct Quantised {
  uint32_t format;
  bool vnni;
  double products_per_ns;  ///< of one thread, in cache
};

const Int8Format *format_of(const KernelDef &self) {
  const auto &q = *static_cast<const Quantised *>(self.data);
  const Int8Format *table = q.vnni ? vnni_formats() : int8_formats();
  for (int i = 0; table != nullptr && i < kInt8Formats; ++i)
    if (table[i].format == q.format) return &table[i];
  return nullptr;
}

int32_t supports_quantised(const KernelDef &self, const Context &ctx, const sy_call &call,
                           sy_error *reason) {
  const auto &q = *static_cast<const Quantised *>(self.data);
  if (params_of(call).format != q.format)
    return failure(reason, SY_E_UNSUPPORTED, "this kernel is for another format of weights");
  if (q.vnni && (ctx.features & kFeatureVnni) == 0)
    return failure(reason, SY_E_HARDWARE, "this processor or the isa setting offers no VNNI");
  return in_host_memory(call, reason);
}

uint64_t estimate_quantised(const KernelDef &self, const Context &ctx, const sy_call &call) {
  const Call c = unpack(call);
  const double rate = static_cast<const Quantised *>(self.data)->products_per_ns;
  return time_of(ctx, call, products(c) / rate + static_cast<double>(c.m * c.k) * 0.5);
}

constexpr KernelDef quantised(const char *name, const Quantised &data) {
  return {SY_OP_MATMUL,
          name,
          "exact",
          SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC,
          &data,
          supports_quantised,
          estimate_quantised,
          [](const KernelDef &self, const Context &, const sy_call &call) {
            return quantised_workspace(call, *format_of(self));
          },
          [](const KernelDef &self, const Context &ctx, const sy_call &call, sy_error *error) {
            return run_quantised(ctx, call, *format_of(self), error);
          },
          nullptr,
          nullptr};
}

constexpr Quantised kQ4_0{SY_QUANT_Q4_0, false, 25}, kQ8_0{SY_QUANT_Q8_0, false, 15},
    kTQ1_0{SY_QUANT_TQ1_0, false, 30}, kTQ2_0{SY_QUANT_TQ2_0, false, 50},
    kAffine4{SY_QUANT_MLX_AFFINE4, false, 20}, kAffine8{SY_QUANT_MLX_AFFINE8, false, 15};
#if HWY_TARGET <= HWY_AVX3
constexpr Quantised kVnniQ4_0{SY_QUANT_Q4_0, true, 40}, kVnniQ8_0{SY_QUANT_Q8_0, true, 20},
    kVnniTQ1_0{SY_QUANT_TQ1_0, true, 45}, kVnniTQ2_0{SY_QUANT_TQ2_0, true, 75},
    kVnniAffine4{SY_QUANT_MLX_AFFINE4, true, 35}, kVnniAffine8{SY_QUANT_MLX_AFFINE8, true, 20};
#endif

constexpr KernelDef kKernels[] = {
    dots("matmul.f32_any.dots", kF32, run_dots<float>),
    dots("matmul.f16_any.dots", kF16, run_dots<float16_t>),
    dots("matmul.bf16_any.dots", kBF16, run_dots<bfloat16_t>),
    gemm<float>("matmul.f32_any.gemm", kF32),
    gemm<float16_t>("matmul.f16_any.gemm", kF16),
    gemm<bfloat16_t>("matmul.bf16_any.gemm", kBF16),
    quantised("matmul.q4_0_any.pairs", kQ4_0),
    quantised("matmul.q8_0_any.pairs", kQ8_0),
    quantised("matmul.tq1_0_any.pairs", kTQ1_0),
    quantised("matmul.tq2_0_any.pairs", kTQ2_0),
    quantised("matmul.mlx_affine4_any.pairs", kAffine4),
    quantised("matmul.mlx_affine8_any.pairs", kAffine8),
#if HWY_TARGET <= HWY_AVX3
    gemm<bfloat16_t, Way::pairs>("matmul.bf16_any.gemm_pairs", kBF16,
                                 "matmul." SY_TEXT(SY_ISA) ".gemm_pairs",
                                 supports_bf16<needs_pairs>, estimate_pairs),
    gemm<bfloat16_t, Way::amx>("matmul.bf16_any.gemm_amx", kBF16,
                               "matmul." SY_TEXT(SY_ISA) ".gemm_amx", supports_bf16<needs_tiles>,
                               estimate_amx),
    quantised("matmul.q4_0_any.vnni", kVnniQ4_0),
    quantised("matmul.q8_0_any.vnni", kVnniQ8_0),
    quantised("matmul.tq1_0_any.vnni", kVnniTQ1_0),
    quantised("matmul.tq2_0_any.vnni", kVnniTQ2_0),
    quantised("matmul.mlx_affine4_any.vnni", kVnniAffine4),
    quantised("matmul.mlx_affine8_any.vnni", kVnniAffine8),
#endif
};

}  // namespace
}  // namespace matmul

KernelList matmul_kernels() noexcept {
  return {matmul::kKernels, sizeof(matmul::kKernels) / sizeof(matmul::kKernels[0])};
}

}  // namespace SY_ISA
}  // namespace switchyard::cpu
