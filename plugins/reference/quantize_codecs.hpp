// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Self-contained blocks, one at a time, as docs/formats.md states them.

#include <switchyard/ops/quantize.h>

#include "quantize_values.hpp"

namespace switchyard::reference::quant {

struct BlockCodec {
  sy_quant_format format;
  int block, bytes;
  /// Writes one block; `rule` is the call's sy_scale_rule. False when a scale overflows f16.
  bool (*encode)(const float *x, std::uint32_t rule, std::byte *out) noexcept;
  float (*decode)(const std::byte *block, int i) noexcept;
};

/// nullptr if `format` is not made of blocks.
const BlockCodec *find_block_codec(std::uint32_t format) noexcept;

extern const BlockCodec kQ4K, kQ6K;

/// Half away from zero.
inline int round_away(float v) noexcept { return static_cast<int>(std::round(v)); }
/// Half to even.
inline float round_even(float v) noexcept { return std::nearbyint(v); }

/// 1/d, and 0 where there is none.
inline float inverse(float d) noexcept {
  if (d == 0.0f) return 0.0f;
  const float id = 1.0f / d;
  return std::isfinite(id) ? id : 0.0f;
}

inline int byte_at(const std::byte *p) noexcept { return std::to_integer<int>(*p); }

/// Writes d as f16; false when it overflows.
inline bool put_f16(std::byte *out, float d) noexcept {
  const std::uint16_t h = f32_to_f16(d);
  std::memcpy(out, &h, sizeof h);
  return (h & 0x7FFFu) < 0x7C00u;
}

inline float get_f16(const std::byte *p) noexcept {
  std::uint16_t h = 0;
  std::memcpy(&h, p, sizeof h);
  return f16_to_f32(h);
}

inline float largest_magnitude(const float *x, int n) noexcept {
  float amax = 0.0f;
  for (int i = 0; i < n; ++i) amax = std::fabs(x[i]) > amax ? std::fabs(x[i]) : amax;
  return amax;
}

/// Sum of |x| over at most 4096 values: 32 running sums, folded in halves.
class MagnitudeSum {
 public:
  void add(float x) noexcept { lanes_[n_++ % 32] += static_cast<double>(std::fabs(x)); }
  double total() noexcept {
    for (int half = 16; half >= 1; half /= 2)
      for (int j = 0; j < half; ++j) lanes_[j] += lanes_[j + half];
    return lanes_[0];
  }

 private:
  double lanes_[32] = {};
  int n_ = 0;
};

/// The scale of BitNet b1.58 for n values whose magnitudes have this sum.
inline float ternary_scale(double sum, std::int64_t n) noexcept {
  const float mean = n > 0 ? static_cast<float>(sum / static_cast<double>(n)) : 0.0f;
  return mean > 1e-5f ? mean : 1e-5f;
}

inline int ternary_code(float x, float inverse_scale) noexcept {
  const float t = round_even(x * inverse_scale);
  return t > 1.0f ? 1 : t < -1.0f ? -1 : static_cast<int>(t);
}

/// The exponent byte of MXFP4 for a block of this largest magnitude: ggml's rule.
int mxfp4_floor(float amax) noexcept;
/// MLX's rule, for a sixth of the largest magnitude.
int mxfp4_rceil(float sixth) noexcept;
/// The code of x under that exponent.
unsigned mxfp4_code(float x, int exponent) noexcept;
float mxfp4_value(unsigned code, int exponent) noexcept;

}  // namespace switchyard::reference::quant
