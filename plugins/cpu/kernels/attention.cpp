// SPDX-License-Identifier: Apache-2.0
/// Attention on vectors: `prefill` for many query rows, `decode` for few rows over many keys.

#include "../host_memory.hpp"
#include "attention_decode.hpp"
#include "attention_prefill.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace attention {
namespace {

struct Type {
  uint8_t code, bits;
};
constexpr Type kF32{SY_TYPE_FLOAT, 32}, kF16{SY_TYPE_FLOAT, 16}, kBF16{SY_TYPE_BFLOAT, 16};

bool is_type(const sy_tensor *t, const Type &type) {
  return t != nullptr && t->dtype.code == type.code && t->dtype.bits == type.bits;
}

/// What both kernels need.
int32_t supports_any(const KernelDef &self, const sy_call &call, sy_error *reason) {
  const auto *type = static_cast<const Type *>(self.data);
  if (!is_type(slot(call.inputs, call.n_inputs, SY_ATTENTION_IN_Q), *type))
    return failure(reason, SY_E_UNSUPPORTED, "this kernel is for another element type");
  if (const int32_t status = inputs_in_host_memory(call, reason); status != SY_OK) return status;
  const Call c = unpack(call);
  const int64_t most = int64_t{1} << 30;
  if (c.lq > most || c.lkv > most || c.rows > most || c.gap > most)
    return failure(reason, SY_E_UNSUPPORTED, "more than 2^30 positions or rows of a key head");
  return SY_OK;
}

int32_t supports_prefill(const KernelDef &self, const Context &, const sy_call &call,
                         sy_error *reason) {
  return supports_any(self, call, reason);
}

int32_t supports_decode(const KernelDef &self, const Context &, const sy_call &call,
                        sy_error *reason) {
  const int32_t status = supports_any(self, call, reason);
  if (status != SY_OK) return status;
  if (unpack(call).rows > kMaxDecodeRows)
    return failure(reason, SY_E_UNSUPPORTED, "more than 64 query rows share a key head");
  return SY_OK;
}

/// Visible (query row, key) pairs, masks aside; a rectangle minus the causal corner, roughly.
double visible_pairs(const Call &c) {
  const auto lq = static_cast<double>(c.lq), lkv = static_cast<double>(c.lkv);
  double per_row = lkv;
  if (c.causal == SY_CAUSAL_TOP_LEFT)
    per_row = lq <= lkv ? lq / 2 : lkv - lkv * lkv / (2 * lq);
  else if (c.causal == SY_CAUSAL_BOTTOM_RIGHT)
    per_row = lq <= lkv ? lkv - lq / 2 : lkv * lkv / (2 * lq);
  const auto most = static_cast<double>(most_keys(c, 1));
  return (per_row < most ? per_row : most) * static_cast<double>(c.batch * c.hkv);
}

constexpr double kPrefillFlops = kLanes >= 16 ? 85 : 60;  ///< per ns, of one thread
constexpr double kDecodeFlops = kPrefillFlops * 0.75;     ///< horizontal sums, shorter loops
constexpr double kBytesPerNs = 16;                        ///< keys and values from memory, once

uint64_t time_of(const Context &ctx, const sy_call &call, const Call &c, double rows,
                 double flops_per_ns, uint64_t tasks) {
  const uint32_t workers = worker_count(ctx, call, tasks);
  const double values = visible_pairs(c) * static_cast<double>(c.dk + c.dv);
  const double ns = values * (2 * rows / flops_per_ns + bytes_of_value(c) / kBytesPerNs);
  return static_cast<uint64_t>(2000.0 + (workers > 1 ? 5000.0 : 0.0) + ns / workers);
}

uint64_t estimate_prefill(const KernelDef &, const Context &ctx, const sy_call &call) {
  const Call c = unpack(call);
  const auto rows = static_cast<double>(round_up64(c.rows, kLanes));
  return time_of(ctx, call, c, rows, kPrefillFlops, make_plan(c).tasks);
}

uint64_t estimate_decode(const KernelDef &, const Context &ctx, const sy_call &call) {
  const Call c = unpack(call);
  return time_of(ctx, call, c, static_cast<double>(c.rows), kDecodeFlops,
                 make_decode_plan(c).tasks);
}

#if HWY_TARGET <= HWY_AVX3
template <int32_t (*needs)(const Context &, sy_error *)>
int32_t supports_bf16(const KernelDef &self, const Context &ctx, const sy_call &call,
                      sy_error *reason) {
  if (const int32_t status = needs(ctx, reason); status != SY_OK) return status;
  if (const int32_t status = supports_any(self, call, reason); status != SY_OK) return status;
  if (unpack(call).format != SY_QUANT_NONE)
    return failure(reason, SY_E_UNSUPPORTED, "quantised keys would be rounded once more");
  return SY_OK;
}

/// Processors of AMD multiply a pair in the time of one f32; those of Intel with vdpbf16ps known so
/// far take four times as long, and are better off widening.
uint64_t estimate_pairs(const KernelDef &, const Context &ctx, const sy_call &call) {
  const Call c = unpack(call);
  const auto rows = static_cast<double>(round_up64(c.rows, kLanes));
  const double speed = (ctx.features & kFeatureFastBf16) != 0 ? 1.6 : 0.6;
  return time_of(ctx, call, c, rows, kPrefillFlops * speed, make_plan(c, Way::pairs).tasks);
}

/// The products at half of what tiles can do, and for each score what makes weights of scores.
uint64_t estimate_amx(const KernelDef &, const Context &ctx, const sy_call &call) {
  const Call c = unpack(call);
  const auto rows = static_cast<double>(round_up64(c.rows, kLanes));
  const double flops = 2 * static_cast<double>(c.dk + c.dv), a_score = flops / 900 + 0.45;
  return time_of(ctx, call, c, rows, flops / a_score, make_plan(c, Way::amx).tasks);
}
#endif

using Run = int32_t (*)(const KernelDef &, const Context &, const sy_call &, sy_error *);

using Supports = decltype(&supports_prefill);
using Estimate = decltype(&estimate_prefill);

template <class T, Way kWay = Way::widen>
constexpr KernelDef prefill(const char *name, const Type &type,
                            const char *numerics = "attention." SY_TEXT(SY_ISA) ".prefill",
                            Supports supports = supports_prefill,
                            Estimate estimate = estimate_prefill) {
  return {SY_OP_ATTENTION,
          name,
          numerics,
          SY_TRAIT_DETERMINISTIC,
          &type,
          supports,
          estimate,
          [](const KernelDef &, const Context &ctx, const sy_call &call) {
            return prefill_workspace(ctx, call, kWay);
          },
          run_prefill<T, kWay>,
          nullptr,
          nullptr};
}

constexpr KernelDef decode(const char *name, const Type &type, Run run) {
  return {SY_OP_ATTENTION,
          name,
          "attention." SY_TEXT(SY_ISA) ".decode",
          SY_TRAIT_DETERMINISTIC,
          &type,
          supports_decode,
          estimate_decode,
          [](const KernelDef &, const Context &ctx, const sy_call &call) {
            return decode_workspace(ctx, call);
          },
          run,
          nullptr,
          nullptr};
}

constexpr KernelDef kKernels[] = {
    prefill<float>("attention.f32_f32.prefill", kF32),
    prefill<float16_t>("attention.f16_f16.prefill", kF16),
    prefill<bfloat16_t>("attention.bf16_bf16.prefill", kBF16),
    decode("attention.f32_f32.decode", kF32, run_decode<float>),
    decode("attention.f16_f16.decode", kF16, run_decode<float16_t>),
    decode("attention.bf16_bf16.decode", kBF16, run_decode<bfloat16_t>),
#if HWY_TARGET <= HWY_AVX3
    prefill<bfloat16_t, Way::pairs>("attention.bf16_bf16.pairs", kBF16,
                                    "attention." SY_TEXT(SY_ISA) ".pairs",
                                    supports_bf16<needs_pairs>, estimate_pairs),
    prefill<bfloat16_t, Way::amx>("attention.bf16_bf16.amx", kBF16,
                                  "attention." SY_TEXT(SY_ISA) ".amx", supports_bf16<needs_tiles>,
                                  estimate_amx),
#endif
};

}  // namespace
}  // namespace attention

KernelList attention_kernels() noexcept {
  return {attention::kKernels, sizeof(attention::kKernels) / sizeof(attention::kKernels[0])};
}

}  // namespace SY_ISA
}  // namespace switchyard::cpu
