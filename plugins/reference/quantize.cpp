// SPDX-License-Identifier: Apache-2.0
// The meaning of "quantize": one value at a time, in the order in which docs/formats.md states it.

#include <switchyard/ops/quantize.h>

#include <algorithm>
#include <iterator>

#include "failure.hpp"
#include "kernels.hpp"
#include "quantize_codecs.hpp"

namespace switchyard::reference {
namespace quant {
namespace {

using cpu::failure;

constexpr std::int64_t kLargestUnit = 256;

/// Code k of a bitstream that starts out as zeros, low bits first.
void put_code(std::byte *codes, std::int64_t k, int bits, unsigned q) noexcept {
  for (int i = 0; i < bits; ++i)
    if ((q >> i & 1u) != 0) {
      const std::int64_t at = k * bits + i;
      codes[at / 8] |= std::byte{1} << at % 8;
    }
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
    put_code(codes, k, bits, q);
  }
  store(scale, type, s);
  store(bias, type, b);
  return true;
}

/// Does the call ask for it? Callers of ABI 1.0 cannot.
bool stochastic(const sy_quantize_params &params) noexcept {
  return params.struct_size >= sizeof(sy_quantize_params) &&
         params.rounding == SY_ROUNDING_STOCHASTIC;
}

/// Uniform in [0, 1), in steps of 2^-24: one of the four words of Philox4x32-10 at index / 4.
float uniform(std::uint64_t seed, std::int64_t index) noexcept {
  const auto block = static_cast<std::uint64_t>(index) / 4;
  std::uint32_t c[4] = {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                        0, 0};
  std::uint32_t key[2] = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * c[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57} * c[2];
    c[0] = static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ key[0];
    c[1] = static_cast<std::uint32_t>(b);
    c[2] = static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ key[1];
    c[3] = static_cast<std::uint32_t>(a);
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return static_cast<float>(c[index % 4] >> 8) * 0x1p-24f;
}

/// The whole call: reads values in logical order and reports the first bad one.
class Quantizer {
 public:
  Quantizer(const sy_call &call, sy_error *error) noexcept
      : call_(call),
        error_(error),
        params_(*static_cast<const sy_quantize_params *>(call.params)),
        x_(*call.inputs[SY_QUANTIZE_IN_X]),
        progress_(call, x_.count * x_.cols * (params_.format >= SY_QUANT_TERNARY ? 2 : 1)) {}

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
      case SY_QUANT_MXFP4:
        return mxfp4();
      case SY_QUANT_TERNARY:
        return ternary();
      case SY_QUANT_TERN2:
        return tern2();
      case SY_QUANT_I2_S:
        return i2_s();
      case SY_QUANT_INT8:
        return int8();
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

  std::int64_t total() const noexcept { return x_.count * x_.cols; }

  std::int32_t blocks(const BlockCodec &codec) noexcept {
    std::byte *out = output(SY_QUANTIZE_OUT_CODES);
    float x[kLargestUnit];
    for (std::int64_t first = 0; first < total(); first += codec.block) {
      if (!values(first, codec.block, x)) return status_;
      if (!codec.encode(x, params_.scale_rule, out + first / codec.block * codec.bytes))
        return overflow(first,
                        "the scale of a block does not fit f16 (index names the block's first "
                        "value); scale the input down or take a format with f32 scales");
    }
    return SY_OK;
  }

  std::int32_t mxfp4() noexcept {
    std::byte *codes = output(SY_QUANTIZE_OUT_CODES), *scales = output(SY_QUANTIZE_OUT_SCALES);
    float x[32];
    for (std::int64_t first = 0; first < total(); first += 32) {
      if (!values(first, 32, x)) return status_;
      const float amax = largest_magnitude(x, 32);
      const int e = params_.scale_rule == SY_SCALE_FLOOR
                        ? mxfp4_floor(amax)
                        : mxfp4_rceil(rounded(amax / 6.0f, x_.t.dtype));
      scales[first / 32] = static_cast<std::byte>(e);
      std::memset(codes + first / 2, 0, 16);
      for (int k = 0; k < 32; ++k) put_code(codes, first + k, 4, mxfp4_code(x[k], e));
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

  bool block_sum(std::int64_t first, std::int64_t n, double &sum) noexcept {
    MagnitudeSum magnitudes;
    for (std::int64_t k = 0; k < n; ++k) {
      float x = 0;
      if (!value(first + k, x)) return false;
      magnitudes.add(x);
    }
    sum = magnitudes.total();
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

  /// How many values share a scale, as the granularity says.
  std::int64_t sharing() const noexcept {
    switch (params_.granularity) {
      case SY_GRANULARITY_ROW:
        return x_.cols;
      case SY_GRANULARITY_GROUP:
        return params_.group_size;
      case SY_GRANULARITY_CHANNEL:
        return x_.t.shape[0] > 0 ? total() / x_.t.shape[0] : 0;
      default:
        return total();
    }
  }

  /// scale(s, m, first): the scale of part s, whose values start there, false to stop;
  /// code(i, t): that of value i.
  template <class Scale, class Code>
  std::int32_t ternary_parts(std::int64_t parts, Scale scale, Code code) noexcept {
    const std::int64_t unit = sharing();
    for (std::int64_t s = 0; s < parts; ++s) {
      double sum = 0;
      if (unit > 0 && !pairwise_sum(s * unit, unit, sum)) return status_;
      const float m = ternary_scale(sum, unit);
      if (!scale(s, m, s * unit)) return status_;
      for (std::int64_t i = s * unit; i < (s + 1) * unit; ++i) {
        float x = 0;
        value(i, x);
        code(i, ternary_code(x, 1.0f / m));
        if (progress_.step(1)) continue;
        cancelled();
        return status_;
      }
    }
    return SY_OK;
  }

  void put_scale(std::int64_t s, float scale) noexcept {
    std::memcpy(output(SY_QUANTIZE_OUT_SCALES) + s * static_cast<std::int64_t>(sizeof scale),
                &scale, sizeof scale);
  }
  std::int64_t parts() const noexcept {
    switch (params_.granularity) {
      case SY_GRANULARITY_ROW:
        return x_.count;
      case SY_GRANULARITY_GROUP:
        return total() / params_.group_size;
      case SY_GRANULARITY_CHANNEL:
        return x_.t.shape[0];
      default:
        return 1;
    }
  }

  std::int32_t ternary() noexcept {
    std::byte *codes = output(SY_QUANTIZE_OUT_CODES);
    return ternary_parts(
        parts(),
        [&](std::int64_t s, float m, std::int64_t) {
          put_scale(s, m);
          return true;
        },
        [&](std::int64_t i, int t) { codes[i] = static_cast<std::byte>(t); });
  }

  std::int32_t tern2() noexcept {
    const sy_dtype type = x_.t.dtype;
    const std::int64_t unit = sharing(), group = params_.group_size, size = type.bits / 8;
    if (total() == 0) return SY_OK;
    std::byte *codes = output(SY_QUANTIZE_OUT_CODES);
    std::memset(codes, 0, static_cast<std::size_t>(total() / 4));
    return ternary_parts(
        parts(),
        [&](std::int64_t, float m, std::int64_t first) {
          const float stored = rounded(m, type);
          if (!std::isfinite(rounded(2.0f * stored, type))) {
            status_ = overflow(first,
                               "twice the scale does not fit the scales' dtype (index names the "
                               "first value that shares it); scale the input down");
            return false;
          }
          for (std::int64_t g = first / group; g < (first + unit) / group; ++g) {
            store(output(SY_QUANTIZE_OUT_SCALES) + g * size, type, m);
            store(output(SY_QUANTIZE_OUT_BIASES) + g * size, type, -m);
          }
          return true;
        },
        [&](std::int64_t i, int t) { put_code(codes, i, 2, static_cast<unsigned>(t + 1)); });
  }

  std::int32_t i2_s() noexcept {
    std::byte *codes = output(SY_QUANTIZE_OUT_CODES);
    std::memset(codes, 0, static_cast<std::size_t>(total() / 4 + 32));
    return ternary_parts(
        1,
        [&](std::int64_t, float m, std::int64_t) {
          std::memcpy(codes + total() / 4, &m, sizeof m);
          return true;
        },
        [&](std::int64_t i, int t) {
          const std::int64_t p = i % 32, n = i % 128 / 32;
          codes[i / 128 * 32 + p] |= static_cast<std::byte>((t + 1) << (6 - 2 * n));
        });
  }

  std::int32_t int8() noexcept {
    std::byte *codes = output(SY_QUANTIZE_OUT_CODES);
    const std::int64_t unit = sharing();
    for (std::int64_t s = 0; s < parts(); ++s) {
      float amax = 0;
      for (std::int64_t i = s * unit; i < (s + 1) * unit; ++i) {
        float x = 0;
        if (!value(i, x)) return status_;
        amax = std::max(amax, std::fabs(x));
        if (!progress_.step(1) && !cancelled()) return status_;
      }
      const float scale = amax / 127.0f;
      put_scale(s, scale);
      for (std::int64_t i = s * unit; i < (s + 1) * unit; ++i) {
        float x = 0;
        value(i, x);
        codes[i] = static_cast<std::byte>(scale != 0.0f ? int8_code(x / scale, i) : 0);
        if (!progress_.step(1) && !cancelled()) return status_;
      }
    }
    return SY_OK;
  }

  int int8_code(float v, std::int64_t i) const noexcept {
    float q = round_even(v);
    if (stochastic(params_)) {
      const float low = std::floor(v);
      q = low + (uniform(params_.seed, i) < v - low ? 1.0f : 0.0f);
    }
    return static_cast<int>(std::clamp(q, -127.0f, 127.0f));
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
