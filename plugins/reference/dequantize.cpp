// SPDX-License-Identifier: Apache-2.0
// The meaning of "dequantize": one value at a time, as docs/formats.md states it.

#include <switchyard/ops/quantize.h>

#include <iterator>

#include "failure.hpp"
#include "kernels.hpp"
#include "quantize_values.hpp"

namespace switchyard::reference {
namespace quant {
namespace {

using cpu::failure;

float get_f16(const std::byte *p) noexcept {
  std::uint16_t h = 0;
  std::memcpy(&h, p, sizeof h);
  return f16_to_f32(h);
}

int byte_at(const std::byte *p) noexcept { return std::to_integer<int>(*p); }

float decode_q4_0(const std::byte *block, std::int64_t i) noexcept {
  const int byte = byte_at(block + 2 + i % 16);
  const int q = i < 16 ? byte & 15 : byte >> 4;
  return static_cast<float>(q - 8) * get_f16(block);
}

float decode_q8_0(const std::byte *block, std::int64_t i) noexcept {
  const auto q = static_cast<std::int8_t>(byte_at(block + 2 + i));
  return static_cast<float>(q) * get_f16(block);
}

float decode_tq2_0(const std::byte *block, std::int64_t i) noexcept {
  const std::int64_t half = i / 128, n = i % 128 / 32, m = i % 32;
  const int t = byte_at(block + 32 * half + m) >> (2 * n) & 3;
  return static_cast<float>(t - 1) * get_f16(block + 64);
}

/// Code k of a bitstream, low bits first.
unsigned code_at(const std::byte *codes, std::int64_t k, int bits) noexcept {
  unsigned q = 0;
  for (int i = 0; i < bits; ++i) {
    const std::int64_t at = k * bits + i;
    q |= static_cast<unsigned>(byte_at(codes + at / 8) >> at % 8 & 1) << i;
  }
  return q;
}

class Dequantizer {
 public:
  Dequantizer(const sy_call &call, sy_error *error) noexcept
      : call_(call),
        error_(error),
        params_(*static_cast<const sy_quantize_params *>(call.params)),
        y_(*call.outputs[SY_DEQUANTIZE_OUT_Y]),
        codes_(first_byte(*call.inputs[SY_DEQUANTIZE_IN_CODES])) {}

  std::int32_t run() noexcept {
    switch (params_.format) {
      case SY_QUANT_Q4_0:
        return blocks(32, 18, decode_q4_0);
      case SY_QUANT_Q8_0:
        return blocks(32, 34, decode_q8_0);
      case SY_QUANT_TQ2_0:
        return blocks(256, 66, decode_tq2_0);
      case SY_QUANT_MLX_AFFINE4:
        return affine(4);
      case SY_QUANT_MLX_AFFINE8:
        return affine(8);
      case SY_QUANT_TERNARY:
        return ternary();
      default:
        return failure(error_, SY_E_UNSUPPORTED, "unknown quantisation format");
    }
  }

 private:
  /// y[i] = rounded(f(i)) for all i in logical order.
  template <class F>
  std::int32_t each(F f) noexcept {
    Progress progress(call_, y_.count * y_.cols);
    for (std::int64_t row = 0; row < y_.count; ++row)
      for (std::int64_t col = 0; col < y_.cols; ++col) {
        store(y_.at(row, col), y_.t.dtype, f(row * y_.cols + col));
        if (!progress.step(1)) return failure(error_, SY_E_CANCELLED, "cancelled");
      }
    return SY_OK;
  }

  template <class Decode>
  std::int32_t blocks(std::int64_t block, std::int64_t bytes, Decode decode) noexcept {
    return each([&](std::int64_t i) { return decode(codes_ + i / block * bytes, i % block); });
  }

  std::int32_t affine(int bits) noexcept {
    const sy_tensor &scales = *call_.inputs[SY_DEQUANTIZE_IN_SCALES];
    const std::byte *biases = first_byte(*call_.inputs[SY_DEQUANTIZE_IN_BIASES]);
    const sy_dtype type = scales.dtype;
    return each([&](std::int64_t i) {
      const std::int64_t at = i / params_.group_size * (type.bits / 8);
      const float s = load(first_byte(scales) + at, type), b = load(biases + at, type);
      const float product = rounded(static_cast<float>(code_at(codes_, i, bits)) * s, type);
      return rounded(product + b, type);
    });
  }

  std::int32_t ternary() noexcept {
    const std::byte *scales = first_byte(*call_.inputs[SY_DEQUANTIZE_IN_SCALES]);
    return each([&](std::int64_t i) {
      std::int64_t s = 0;
      if (params_.granularity == SY_GRANULARITY_ROW) s = i / y_.cols;
      if (params_.granularity == SY_GRANULARITY_GROUP) s = i / params_.group_size;
      const auto t = static_cast<std::int8_t>(byte_at(codes_ + i));
      return static_cast<float>(t) * load(scales + 4 * s, {SY_TYPE_FLOAT, 32, 0});
    });
  }

  const sy_call &call_;
  sy_error *error_;
  const sy_quantize_params &params_;
  Rows y_;
  const std::byte *codes_;
};

std::int32_t supports(const cpu::KernelDef &, const cpu::Context &, const sy_call &call,
                      sy_error *reason) {
  if (call.outputs[SY_DEQUANTIZE_OUT_Y]->device_kind != SY_DEVICE_HOST)
    return failure(reason, SY_E_UNSUPPORTED, "the values are not in host memory");
  return SY_OK;
}

std::uint64_t estimate(const cpu::KernelDef &, const cpu::Context &, const sy_call &call) {
  const Rows y(*call.outputs[SY_DEQUANTIZE_OUT_Y]);
  return 200 + static_cast<std::uint64_t>(y.count * y.cols) * 10;
}

std::int32_t run(const cpu::KernelDef &, const cpu::Context &, const sy_call &call,
                 sy_error *error) {
  return Dequantizer(call, error).run();
}

constexpr cpu::KernelDef kKernels[] = {{
    .op = SY_OP_DEQUANTIZE,
    .name = "dequantize.any_any.plain",
    .numerics_class = "exact",
    .traits = SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC,
    .data = nullptr,
    .supports = supports,
    .estimate = estimate,
    .workspace_size = nullptr,
    .run = run,
    .prepare = nullptr,
    .release = nullptr,
}};

}  // namespace
}  // namespace quant

cpu::KernelList dequantize_kernels() noexcept {
  return {quant::kKernels, std::size(quant::kKernels)};
}

}  // namespace switchyard::reference
