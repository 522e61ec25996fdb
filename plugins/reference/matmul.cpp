// SPDX-License-Identifier: Apache-2.0
// The meaning of "matmul": plain weights in f64, quantised ones as ops/matmul.h states it.

#include <switchyard/ops/matmul.h>

#include <failure.hpp>
#include <iterator>

#include "row_wise.hpp"

namespace switchyard::reference {
namespace {

using cpu::failure;
using namespace quant;

struct Matrix {
  const sy_tensor &t;
  std::byte *at(std::int64_t i, std::int64_t j) const noexcept {
    return first_byte(t) + (i * t.strides[0] + j * t.strides[1]) * (t.dtype.bits / 8);
  }
};

int byte_at(const std::byte *p) noexcept { return std::to_integer<int>(*p); }

float half_at(const std::byte *p) noexcept { return load(p, {SY_TYPE_FLOAT, 16, 0}); }

/// Digit n of a byte to base 3.
int digit(int byte, int n) noexcept {
  for (; n > 0; --n) byte = byte * 3 & 255;
  return byte * 3 >> 8;
}

/// Weight codes of one row, and the scales and bias of its groups.
class WeightRow {
 public:
  WeightRow(const sy_call &call, std::int64_t n) noexcept
      : params_(*static_cast<const sy_matmul_params *>(call.params)) {
    const sy_tensor &w = *call.inputs[SY_MATMUL_IN_W];
    codes_ = first_byte(w) + n * w.shape[1] * (w.dtype.bits / 8);
    if (const sy_tensor *scales = call.inputs[SY_MATMUL_IN_SCALES]) {
      type_ = scales->dtype;
      const std::int64_t offset = n * scales->shape[1] * (type_.bits / 8);
      scales_ = first_byte(*scales) + offset;
      biases_ = first_byte(*call.inputs[SY_MATMUL_IN_BIASES]) + offset;
    }
  }

  /// Value i of block b.
  int code(std::int64_t b, int i) const noexcept {
    switch (params_.format) {
      case SY_QUANT_Q4_0:
        return (byte_at(codes_ + b * 18 + 2 + i % 16) >> (i < 16 ? 0 : 4) & 15) - 8;
      case SY_QUANT_Q8_0:
        return static_cast<std::int8_t>(byte_at(codes_ + b * 34 + 2 + i));
      case SY_QUANT_TQ2_0:
        return (byte_at(codes_ + b * 66 + i / 128 * 32 + i % 32) >> i % 128 / 32 * 2 & 3) - 1;
      case SY_QUANT_TQ1_0: {
        const std::byte *p = codes_ + b * 54;
        if (i < 160) return digit(byte_at(p + i % 32), i / 32) - 1;
        if (i < 240) return digit(byte_at(p + 32 + i % 16), (i - 160) / 16) - 1;
        return digit(byte_at(p + 48 + i % 4), (i - 240) / 4) - 1;
      }
      case SY_QUANT_MLX_AFFINE4:
        return byte_at(codes_ + b * 16 + i / 2) >> i % 2 * 4 & 15;
      default:  // MLX affine 8
        return byte_at(codes_ + b * 32 + i);
    }
  }

  int lane(std::int64_t b, int i) const noexcept {
    switch (params_.format) {
      case SY_QUANT_TQ2_0:
        return 8 * (i / 128) + i % 32 / 4;
      case SY_QUANT_TQ1_0:
        return i % 64 / 4;
      case SY_QUANT_MLX_AFFINE4:
        return static_cast<int>(b % 2) * 8 + 4 * (i % 2) + i / 8;
      default:
        return static_cast<int>(b % 2) * 8 + i / 4;
    }
  }

  float scale(std::int64_t b) const noexcept {
    switch (params_.format) {
      case SY_QUANT_Q4_0:
        return half_at(codes_ + b * 18);
      case SY_QUANT_Q8_0:
        return half_at(codes_ + b * 34);
      case SY_QUANT_TQ2_0:
        return half_at(codes_ + b * 66 + 64);
      case SY_QUANT_TQ1_0:
        return half_at(codes_ + b * 54 + 52);
      default:
        return load(scales_ + group(b), type_);
    }
  }
  bool is_affine() const noexcept { return params_.group_size != 0; }
  float bias(std::int64_t b) const noexcept { return load(biases_ + group(b), type_); }

 private:
  std::int64_t group(std::int64_t b) const noexcept {
    return b * 32 / params_.group_size * (type_.bits / 8);
  }

  const sy_matmul_params &params_;
  const std::byte *codes_ = nullptr, *scales_ = nullptr, *biases_ = nullptr;
  sy_dtype type_{};
};

int block_of(std::uint32_t format) noexcept {
  return format == SY_QUANT_TQ1_0 || format == SY_QUANT_TQ2_0 ? 256 : 32;
}

class Matmul {
 public:
  explicit Matmul(const sy_call &call) noexcept
      : call_(call),
        params_(*static_cast<const sy_matmul_params *>(call.params)),
        x_{*call.inputs[SY_MATMUL_IN_X]},
        y_{*call.outputs[SY_MATMUL_OUT_Y]},
        add_(call.inputs[SY_MATMUL_IN_ADD]),
        rows_(y_.t.shape[0]),
        cols_(y_.t.shape[1]),
        depth_(x_.t.shape[1]),
        block_(block_of(params_.format)) {}

  std::int32_t run(sy_error *error) noexcept {
    Progress progress(call_, rows_ * cols_ * depth_);
    for (std::int64_t m = 0; m < rows_; ++m) {
      if (params_.format != SY_QUANT_NONE) quantize_row(m);
      for (std::int64_t n = 0; n < cols_; ++n) {
        store(y_.at(m, n), y_.t.dtype, params_.format == SY_QUANT_NONE ? plain(m, n) : exact(n));
        if (!progress.step(depth_)) return failure(error, SY_E_CANCELLED, "cancelled");
      }
    }
    return SY_OK;
  }

 private:
  float added(std::int64_t n) const noexcept {
    return load(first_byte(*add_) + 4 * n, {SY_TYPE_FLOAT, 32, 0});
  }

  float plain(std::int64_t m, std::int64_t n) const noexcept {
    const Matrix w{*call_.inputs[SY_MATMUL_IN_W]};
    double sum = 0;
    for (std::int64_t k = 0; k < depth_; ++k)
      sum += static_cast<double>(load(x_.at(m, k), x_.t.dtype)) *
             static_cast<double>(load(w.at(n, k), w.t.dtype));
    if (add_ != nullptr) sum += static_cast<double>(added(n));
    return static_cast<float>(sum);
  }

  float *scales() const noexcept { return static_cast<float *>(call_.workspace); }
  std::int8_t *codes() const noexcept {
    return reinterpret_cast<std::int8_t *>(scales() + depth_ / block_);
  }

  void quantize_row(std::int64_t m) noexcept {
    for (std::int64_t b = 0; b < depth_ / block_; ++b) {
      float amax = 0;
      bool finite = true;
      for (std::int64_t k = b * block_; k < (b + 1) * block_; ++k) {
        const float size = std::fabs(load(x_.at(m, k), x_.t.dtype));
        finite = finite && std::isfinite(size);
        if (size > amax) amax = size;
      }
      const float d = amax / 127.0f, inverse = d == 0.0f ? 0.0f : 1.0f / d;
      const float id = std::isfinite(inverse) ? inverse : 0.0f;
      scales()[b] = finite ? d : std::nanf("");
      for (std::int64_t k = b * block_; k < (b + 1) * block_; ++k)
        codes()[k] =
            finite ? static_cast<std::int8_t>(std::nearbyint(load(x_.at(m, k), x_.t.dtype) * id))
                   : std::int8_t{0};
    }
  }

  float exact(std::int64_t n) const noexcept {
    const WeightRow w(call_, n);
    float acc[16] = {};
    for (std::int64_t b = 0; b < depth_ / block_; ++b) {
      std::int32_t p[16] = {}, a[16] = {};
      bool used[16] = {};
      for (int i = 0; i < block_; ++i) {
        const int l = w.lane(b, i);
        const std::int32_t code = codes()[b * block_ + i];
        p[l] += w.code(b, i) * code;
        a[l] += code;
        used[l] = true;
      }
      const float dx = scales()[b];
      for (int l = 0; l < 16; ++l) {
        if (!used[l]) continue;
        acc[l] = std::fma(static_cast<float>(p[l]), w.scale(b) * dx, acc[l]);
        if (w.is_affine()) acc[l] = std::fma(w.bias(b), dx * static_cast<float>(a[l]), acc[l]);
      }
    }
    for (int half = 8; half >= 1; half /= 2)
      for (int l = 0; l < half; ++l) acc[l] += acc[l + half];
    return add_ != nullptr ? acc[0] + added(n) : acc[0];
  }

  const sy_call &call_;
  const sy_matmul_params &params_;
  Matrix x_, y_;
  const sy_tensor *add_;
  std::int64_t rows_, cols_, depth_, block_;
};

constexpr bool kPlain = false, kQuantised = true;

std::int32_t supports(const cpu::KernelDef &self, const cpu::Context &ctx, const sy_call &call,
                      sy_error *reason) {
  const bool quantised = static_cast<const sy_matmul_params *>(call.params)->format != 0;
  if (quantised != *static_cast<const bool *>(self.data))
    return failure(
        reason, SY_E_UNSUPPORTED,
        quantised ? "this kernel is for plain weights" : "this kernel is for quantised weights");
  return in_host_memory(self, ctx, call, reason);
}

std::uint64_t estimate(const cpu::KernelDef &, const cpu::Context &, const sy_call &call) {
  const sy_tensor &y = *call.outputs[SY_MATMUL_OUT_Y];
  const std::int64_t work = y.shape[0] * y.shape[1] * call.inputs[SY_MATMUL_IN_X]->shape[1];
  return 200 + static_cast<std::uint64_t>(work) * 2;
}

/// One row of x in int8.
std::uint64_t workspace_size(const cpu::KernelDef &, const cpu::Context &, const sy_call &call) {
  if (static_cast<const sy_matmul_params *>(call.params)->format == SY_QUANT_NONE) return 0;
  return static_cast<std::uint64_t>(call.inputs[SY_MATMUL_IN_X]->shape[1]) * 2;
}

std::int32_t run(const cpu::KernelDef &, const cpu::Context &, const sy_call &call,
                 sy_error *error) {
  return Matmul(call).run(error);
}

constexpr cpu::KernelDef kernel(const char *name, const char *numerics, const bool *quantised) {
  return {.op = SY_OP_MATMUL,
          .name = name,
          .numerics_class = numerics,
          .traits = SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC,
          .data = quantised,
          .supports = supports,
          .estimate = estimate,
          .workspace_size = workspace_size,
          .run = run,
          .prepare = nullptr,
          .release = nullptr};
}
constexpr cpu::KernelDef kKernels[] = {
    kernel("matmul.any_any.plain", "matmul.f64", &kPlain),
    kernel("matmul.any_any.quantised", "exact", &kQuantised),
};

}  // namespace

cpu::KernelList matmul_kernels() noexcept { return {kKernels, std::size(kKernels)}; }

}  // namespace switchyard::reference
