// SPDX-License-Identifier: Apache-2.0
// The meaning of "dequantize": one value at a time, as docs/formats.md states it.

#include <switchyard/ops/quantize.h>

#include <iterator>

#include "failure.hpp"
#include "kernels.hpp"
#include "quantize_codecs.hpp"

namespace switchyard::reference {
namespace quant {
namespace {

using cpu::failure;

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
    if (const BlockCodec *codec = find_block_codec(params_.format)) return blocks(*codec);
    switch (params_.format) {
      case SY_QUANT_MLX_AFFINE2:
      case SY_QUANT_MLX_AFFINE3:
      case SY_QUANT_MLX_AFFINE4:
      case SY_QUANT_MLX_AFFINE5:
      case SY_QUANT_MLX_AFFINE6:
      case SY_QUANT_MLX_AFFINE8:
        return affine(static_cast<int>(params_.format) - SY_QUANT_MLX_AFFINE2 + 2);
      case SY_QUANT_TERN2:
        return affine(2);
      case SY_QUANT_MXFP4:
        return mxfp4();
      case SY_QUANT_TERNARY:
      case SY_QUANT_INT8:
        return plain();
      case SY_QUANT_I2_S:
        return i2_s();
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

  std::int32_t blocks(const BlockCodec &codec) noexcept {
    return each([&](std::int64_t i) {
      return codec.decode(codes_ + i / codec.block * codec.bytes,
                          static_cast<int>(i % codec.block));
    });
  }

  std::int32_t mxfp4() noexcept {
    const std::byte *scales = first_byte(*call_.inputs[SY_DEQUANTIZE_IN_SCALES]);
    return each([&](std::int64_t i) {
      return mxfp4_value(code_at(codes_, i, 4), byte_at(scales + i / 32));
    });
  }

  std::int32_t i2_s() noexcept {
    float m = 0;
    std::memcpy(&m, codes_ + y_.count * y_.cols / 4, sizeof m);
    return each([&](std::int64_t i) {
      const int byte = byte_at(codes_ + i / 128 * 32 + i % 32);
      return static_cast<float>((byte >> (6 - 2 * (i % 128 / 32)) & 3) - 1) * m;
    });
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

  std::int32_t plain() noexcept {
    const std::byte *scales = first_byte(*call_.inputs[SY_DEQUANTIZE_IN_SCALES]);
    const std::int64_t total = y_.count * y_.cols;
    const std::int64_t channel = total > 0 ? total / y_.t.shape[0] : 1;
    return each([&](std::int64_t i) {
      std::int64_t s = 0;
      if (params_.granularity == SY_GRANULARITY_CHANNEL) s = i / channel;
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
