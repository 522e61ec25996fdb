// SPDX-License-Identifier: Apache-2.0
// The meaning of "quantize": one value at a time, in the order in which docs/formats.md states it.

#include <switchyard/ops/quantize.h>

#include <algorithm>
#include <iterator>

#include "failure.hpp"
#include "kernels.hpp"
#include "quantize_values.hpp"

namespace switchyard::reference {
namespace quant {
namespace {

using cpu::failure;

constexpr std::int64_t kLargestUnit = 256;

/// Half away from zero.
int round_away(float v) noexcept { return static_cast<int>(std::round(v)); }
/// Half to even.
float round_even(float v) noexcept { return std::nearbyint(v); }

/// 1/d, and 0 where there is none.
float inverse(float d) noexcept {
  if (d == 0.0f) return 0.0f;
  const float id = 1.0f / d;
  return std::isfinite(id) ? id : 0.0f;
}

/// Writes d as f16; false when it overflows.
bool put_f16(std::byte *out, float d) noexcept {
  const std::uint16_t h = f32_to_f16(d);
  std::memcpy(out, &h, sizeof h);
  return (h & 0x7FFFu) < 0x7C00u;
}

float largest_magnitude(const float *x, int n) noexcept {
  float amax = 0.0f;
  for (int i = 0; i < n; ++i) amax = std::max(amax, std::fabs(x[i]));
  return amax;
}

bool encode_q4_0(const float *x, std::byte *out) noexcept {
  float amax = 0.0f, smax = 0.0f;
  for (int i = 0; i < 32; ++i)
    if (amax < std::fabs(x[i])) {
      amax = std::fabs(x[i]);
      smax = x[i];
    }
  const float d = smax / -8.0f;
  const float id = inverse(d);
  for (int j = 0; j < 16; ++j) {
    const int low = std::min(15, static_cast<int>(x[j] * id + 8.5f));
    const int high = std::min(15, static_cast<int>(x[j + 16] * id + 8.5f));
    out[2 + j] = static_cast<std::byte>(low | high << 4);
  }
  return put_f16(out, d);
}

bool encode_q8_0(const float *x, std::byte *out) noexcept {
  const float d = largest_magnitude(x, 32) / 127.0f;
  const float id = inverse(d);
  for (int j = 0; j < 32; ++j) out[2 + j] = static_cast<std::byte>(round_away(x[j] * id));
  return put_f16(out, d);
}

bool encode_tq2_0(const float *x, std::byte *out) noexcept {
  const float d = largest_magnitude(x, 256);
  const float id = inverse(d);
  for (int half = 0; half < 2; ++half)
    for (int m = 0; m < 32; ++m) {
      int byte = 0;
      for (int n = 0; n < 4; ++n)
        byte |= (round_away(x[128 * half + 32 * n + m] * id) + 1) << (2 * n);
      out[32 * half + m] = static_cast<std::byte>(byte);
    }
  return put_f16(out + 64, d);
}

/// One group of MLX affine: codes as a bitstream, low bits first.
bool encode_affine(const float *x, int n, int bits, sy_dtype type, std::byte *codes,
                   std::byte *scale, std::byte *bias) noexcept {
  const auto top = static_cast<float>((1 << bits) - 1);
  const float min = *std::min_element(x, x + n);
  const float max = *std::max_element(x, x + n);
  const float range = max - min;
  if (!std::isfinite(range)) return false;
  float s = std::max(range / top, 1e-7f);
  float edge = min;
  if (!(std::fabs(min) > std::fabs(max))) {
    s = -s;
    edge = max;
  }
  float b = 0.0f;
  const float q0 = round_even(edge / s);
  if (q0 != 0.0f) {
    s = edge / q0;
    b = edge;
  }
  std::fill(codes, codes + n * bits / 8, std::byte{0});
  for (int k = 0; k < n; ++k) {
    const auto q = static_cast<unsigned>(std::clamp(round_even((x[k] - b) / s), 0.0f, top));
    for (int i = 0; i < bits; ++i)
      if ((q >> i & 1u) != 0) codes[(k * bits + i) / 8] |= std::byte{1} << (k * bits + i) % 8;
  }
  store(scale, type, s);
  store(bias, type, b);
  return true;
}

int ternary_code(float x, float inverse_scale) noexcept {
  return static_cast<int>(std::clamp(round_even(x * inverse_scale), -1.0f, 1.0f));
}

/// The whole call: reads values in logical order and reports the first bad one.
class Quantizer {
 public:
  Quantizer(const sy_call &call, sy_error *error) noexcept
      : call_(call),
        error_(error),
        params_(*static_cast<const sy_quantize_params *>(call.params)),
        x_(*call.inputs[SY_QUANTIZE_IN_X]),
        progress_(call, x_.count * x_.cols * (params_.format == SY_QUANT_TERNARY ? 2 : 1)) {}

  std::int32_t run() noexcept {
    switch (params_.format) {
      case SY_QUANT_Q4_0:
        return blocks(32, 18, encode_q4_0);
      case SY_QUANT_Q8_0:
        return blocks(32, 34, encode_q8_0);
      case SY_QUANT_TQ2_0:
        return blocks(256, 66, encode_tq2_0);
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
  std::byte *output(int slot) const noexcept { return first_byte(*call_.outputs[slot]); }

  /// Value `i` of all in logical order; NaN and Inf as the parameters ask.
  bool value(std::int64_t i, float &out) noexcept {
    out = load(x_.at(i / x_.cols, i % x_.cols), x_.t.dtype);
    if (std::isfinite(out)) return true;
    if (params_.nonfinite == SY_NONFINITE_SATURATE) {
      out = std::isnan(out) ? 0.0f : std::copysign(largest_finite(x_.t.dtype), out);
      return true;
    }
    status_ = failure(error_, SY_E_NONFINITE,
                      "a value is NaN or infinite (index names the first); clean the input or ask "
                      "for nonfinite=saturate",
                      i);
    return false;
  }

  bool values(std::int64_t first, std::int64_t n, float *out) noexcept {
    for (std::int64_t k = 0; k < n; ++k)
      if (!value(first + k, out[k])) return false;
    if (progress_.step(n)) return true;
    return cancelled();
  }

  bool cancelled() noexcept {
    status_ = failure(error_, SY_E_CANCELLED, "cancelled");
    return false;
  }

  std::int32_t overflow(std::int64_t first, const char *message) noexcept {
    return failure(error_, SY_E_OVERFLOW, message, first);
  }

  template <class Encode>
  std::int32_t blocks(std::int64_t block, std::int64_t bytes, Encode encode) noexcept {
    std::byte *out = output(SY_QUANTIZE_OUT_CODES);
    float x[kLargestUnit];
    for (std::int64_t first = 0; first < x_.count * x_.cols; first += block) {
      if (!values(first, block, x)) return status_;
      if (!encode(x, out + first / block * bytes))
        return overflow(first,
                        "the scale of a block does not fit f16 (index names the block's first "
                        "value); scale the input down or take a format with f32 scales");
    }
    return SY_OK;
  }

  std::int32_t affine(int bits) noexcept {
    const sy_dtype type = x_.t.dtype;
    const std::int64_t group = params_.group_size, size = type.bits / 8;
    float x[kLargestUnit];
    for (std::int64_t first = 0; first < x_.count * x_.cols; first += group) {
      if (!values(first, group, x)) return status_;
      const std::int64_t at = first / group * size;
      if (!encode_affine(x, static_cast<int>(group), bits, type,
                         output(SY_QUANTIZE_OUT_CODES) + first * bits / 8,
                         output(SY_QUANTIZE_OUT_SCALES) + at, output(SY_QUANTIZE_OUT_BIASES) + at))
        return overflow(first,
                        "the range of a group does not fit f32 (index names the group's first "
                        "value); scale the input down");
    }
    return SY_OK;
  }

  /// Sum of |x| over at most 4096 values: 32 running sums, folded in halves.
  bool block_sum(std::int64_t first, std::int64_t n, double &sum) noexcept {
    double lanes[32] = {};
    for (std::int64_t k = 0; k < n; ++k) {
      float x = 0;
      if (!value(first + k, x)) return false;
      lanes[k % 32] += static_cast<double>(std::fabs(x));
    }
    for (int half = 16; half >= 1; half /= 2)
      for (int j = 0; j < half; ++j) lanes[j] += lanes[j + half];
    sum = lanes[0];
    return progress_.step(n) || cancelled();
  }

  /// Pairwise over blocks of 4096: the left part has the largest power of two of blocks that leaves
  /// something for the right.
  bool pairwise_sum(std::int64_t first, std::int64_t n, double &sum) noexcept {
    constexpr std::int64_t kBlock = 4096;
    if (n <= kBlock) return block_sum(first, n, sum);
    std::int64_t left = kBlock;
    while (left * 2 < n) left *= 2;
    double a = 0, b = 0;
    if (!pairwise_sum(first, left, a) || !pairwise_sum(first + left, n - left, b)) return false;
    sum = a + b;
    return true;
  }

  std::int32_t ternary() noexcept {
    const std::int64_t total = x_.count * x_.cols;
    std::int64_t unit = params_.group_size, scales = 0;
    if (params_.granularity == SY_GRANULARITY_TENSOR) unit = total;
    if (params_.granularity == SY_GRANULARITY_ROW) unit = x_.cols;
    scales = params_.granularity == SY_GRANULARITY_TENSOR ? 1
             : params_.granularity == SY_GRANULARITY_ROW  ? x_.count
                                                          : total / unit;
    auto *codes = reinterpret_cast<std::int8_t *>(output(SY_QUANTIZE_OUT_CODES));
    auto *out = output(SY_QUANTIZE_OUT_SCALES);
    for (std::int64_t s = 0; s < scales; ++s) {
      double sum = 0;
      if (unit > 0 && !pairwise_sum(s * unit, unit, sum)) return status_;
      const double mean = unit > 0 ? sum / static_cast<double>(unit) : 0.0;
      const float m = std::max(static_cast<float>(mean), 1e-5f);
      std::memcpy(out + s * static_cast<std::int64_t>(sizeof m), &m, sizeof m);
      for (std::int64_t i = s * unit; i < (s + 1) * unit; ++i) {
        float x = 0;
        value(i, x);
        codes[i] = static_cast<std::int8_t>(ternary_code(x, 1.0f / m));
        if (progress_.step(1)) continue;
        cancelled();
        return status_;
      }
    }
    return SY_OK;
  }

  const sy_call &call_;
  sy_error *error_;
  const sy_quantize_params &params_;
  Rows x_;
  Progress progress_;
  std::int32_t status_ = SY_OK;
};

std::int32_t supports(const cpu::KernelDef &, const cpu::Context &, const sy_call &call,
                      sy_error *reason) {
  const sy_tensor *x = call.inputs[SY_QUANTIZE_IN_X];
  if (x->device_kind != SY_DEVICE_HOST)
    return failure(reason, SY_E_UNSUPPORTED, "the values are not in host memory");
  return SY_OK;
}

std::uint64_t estimate(const cpu::KernelDef &, const cpu::Context &, const sy_call &call) {
  const Rows x(*call.inputs[SY_QUANTIZE_IN_X]);
  return 200 + static_cast<std::uint64_t>(x.count * x.cols) * 12;
}

std::int32_t run(const cpu::KernelDef &, const cpu::Context &, const sy_call &call,
                 sy_error *error) {
  return Quantizer(call, error).run();
}

constexpr cpu::KernelDef kKernels[] = {{
    .op = SY_OP_QUANTIZE,
    .name = "quantize.any_any.plain",
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

cpu::KernelList quantize_kernels() noexcept {
  return {quant::kKernels, std::size(quant::kKernels)};
}

}  // namespace switchyard::reference
