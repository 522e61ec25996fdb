// SPDX-License-Identifier: Apache-2.0
// Q4_K and Q6_K: blocks of 256 whose scales are searched for, sub-block by sub-block.

#include <algorithm>

#include "quantize_codecs.hpp"

namespace switchyard::reference::quant {
namespace {

/// even(v) within low..top; NaN becomes `low`.
int clamped_even(float v, float low, float top) noexcept {
  if (!(v > low)) return static_cast<int>(low);
  return static_cast<int>(round_even(v < top ? v : top));
}

struct Searched {
  float scale, min;  ///< min is not negative: what is taken off
};

/// The step and the offset of 32 values with the least weighted error among 22 candidates, and
/// codes q.
Searched search_q4(const float *x, int *q) noexcept {
  float squares = 0.0f;
  for (int i = 0; i < 32; ++i) squares += x[i] * x[i];
  const float level = std::sqrt(squares / 32.0f);
  float w[32];
  for (int i = 0; i < 32; ++i) w[i] = level + std::fabs(x[i]);

  float min = x[0], max = x[0], sum_w = w[0], sum_x = w[0] * x[0];
  for (int i = 1; i < 32; ++i) {
    if (x[i] < min) min = x[i];
    if (x[i] > max) max = x[i];
    sum_w += w[i];
    sum_x += w[i] * x[i];
  }
  if (min > 0.0f) min = 0.0f;
  float inverse_step = 15.0f / (max - min);
  if (!std::isfinite(inverse_step)) {  // equal values, or too close for f32
    std::fill(q, q + 32, 0);
    return {0.0f, -min};
  }
  float scale = 1.0f / inverse_step, best = 0.0f;
  for (int i = 0; i < 32; ++i) {
    q[i] = clamped_even(inverse_step * (x[i] - min), 0.0f, 15.0f);
    const float miss = scale * static_cast<float>(q[i]) + min - x[i];
    best += w[i] * (miss * miss);
  }
  for (int k = 0; k <= 20; ++k) {
    // `min` is the best one so far, not that of the values.
    inverse_step = (-1.0f + 0.1f * static_cast<float>(k) + 15.0f) / (max - min);
    int trial[32];
    float sum_q = 0.0f, sum_qq = 0.0f, sum_qx = 0.0f;
    for (int i = 0; i < 32; ++i) {
      trial[i] = clamped_even(inverse_step * (x[i] - min), 0.0f, 15.0f);
      const auto t = static_cast<float>(trial[i]);
      sum_q += w[i] * t;
      sum_qq += w[i] * t * t;
      sum_qx += w[i] * t * x[i];
    }
    const float determinant = sum_w * sum_qq - sum_q * sum_q;
    if (!(determinant > 0.0f)) continue;
    float s = (sum_w * sum_qx - sum_x * sum_q) / determinant;
    float m = (sum_qq * sum_x - sum_q * sum_qx) / determinant;
    if (m > 0.0f) {
      m = 0.0f;
      s = sum_qx / sum_qq;
    }
    float error = 0.0f;
    for (int i = 0; i < 32; ++i) {
      const float miss = s * static_cast<float>(trial[i]) + m - x[i];
      error += w[i] * (miss * miss);
    }
    if (!(error < best)) continue;
    std::copy(trial, trial + 32, q);
    best = error;
    scale = s;
    min = m;
  }
  return {scale, -min};
}

/// Eight numbers in units of 1/63 of the largest above 0. Returns the unit. A number below 0 wraps
/// around in 8 bits first, as its owner has it.
float six_bits(const float *v, int *out) noexcept {
  float largest = 0.0f;
  for (int j = 0; j < 8; ++j)
    if (v[j] > largest) largest = v[j];
  float factor = largest > 0.0f ? 63.0f / largest : 0.0f;
  if (!std::isfinite(factor)) factor = 0.0f;
  for (int j = 0; j < 8; ++j)
    out[j] = std::min(63, clamped_even(factor * v[j], -4194304.0f, 4194303.0f) & 255);
  return largest / 63.0f;
}

bool encode_q4_k(const float *x, std::uint32_t, std::byte *out) noexcept {
  int q[256], s[8], m[8];
  float scales[8], mins[8];
  for (int j = 0; j < 8; ++j) {
    const Searched found = search_q4(x + 32 * j, q + 32 * j);
    scales[j] = found.scale;
    mins[j] = found.min;
  }
  const bool d_fits = put_f16(out, six_bits(scales, s));
  const bool m_fits = put_f16(out + 2, six_bits(mins, m));
  if (!d_fits || !m_fits) return false;
  for (int j = 0; j < 4; ++j) {
    out[4 + j] = static_cast<std::byte>(s[j] | (s[j + 4] >> 4) << 6);
    out[8 + j] = static_cast<std::byte>(m[j] | (m[j + 4] >> 4) << 6);
    out[12 + j] = static_cast<std::byte>((s[j + 4] & 15) | (m[j + 4] & 15) << 4);
  }
  for (int j = 0; j < 8; ++j) {
    const float d = get_f16(out) * static_cast<float>(s[j]);
    const float offset = get_f16(out + 2) * static_cast<float>(m[j]);
    if (d == 0.0f) continue;
    for (int i = 32 * j; i < 32 * j + 32; ++i)
      q[i] = clamped_even((x[i] + offset) / d, 0.0f, 15.0f);
  }
  for (int c = 0; c < 4; ++c)
    for (int l = 0; l < 32; ++l)
      out[16 + 32 * c + l] = static_cast<std::byte>(q[64 * c + l] | q[64 * c + 32 + l] << 4);
  return true;
}

float decode_q4_k(const std::byte *block, int i) noexcept {
  const std::byte *packed = block + 4;
  const int j = i / 32;
  const int s = j < 4 ? byte_at(packed + j) & 63
                      : (byte_at(packed + 4 + j) & 15) | byte_at(packed + j - 4) >> 6 << 4;
  const int m = j < 4 ? byte_at(packed + 4 + j) & 63
                      : byte_at(packed + 4 + j) >> 4 | byte_at(packed + j) >> 6 << 4;
  const int byte = byte_at(block + 16 + i / 64 * 32 + i % 32);
  const int q = i % 64 < 32 ? byte & 15 : byte >> 4;
  return (get_f16(block) * static_cast<float>(s)) * static_cast<float>(q) -
         get_f16(block + 2) * static_cast<float>(m);
}

constexpr float kLeast = 1e-15f;  ///< magnitudes below count as zero

/// The scale of 16 values that explains them best among 19 candidates, and codes q in 0..63.
float search_q6(const float *x, int *q) noexcept {
  float amax = 0.0f, smax = 0.0f;
  for (int i = 0; i < 16; ++i)
    if (std::fabs(x[i]) > amax) {
      amax = std::fabs(x[i]);
      smax = x[i];
    }
  if (amax < kLeast) {
    std::fill(q, q + 16, 0);
    return 0.0f;
  }
  float scale = 0.0f, best = 0.0f;
  for (int trial = 0; trial < 19; ++trial) {
    // 0 first, then -9..9 without it.
    const int k = trial == 0 ? 0 : trial <= 9 ? trial - 10 : trial - 9;
    const float inverse_step =
        trial == 0 ? -32.0f / smax : -(32.0f + 0.1f * static_cast<float>(k)) / smax;
    float sum_x = 0.0f, sum_q = 0.0f;
    int l[16];
    for (int i = 0; i < 16; ++i) {
      l[i] = clamped_even(inverse_step * x[i], -32.0f, 31.0f);
      const float w = x[i] * x[i], t = static_cast<float>(l[i]);
      sum_x += w * x[i] * t;
      sum_q += w * t * t;
    }
    if (trial == 0)
      scale = sum_q != 0.0f ? sum_x / sum_q : 0.0f;
    else if (sum_q > 0.0f && sum_x * sum_x > best * sum_q)
      scale = sum_x / sum_q;
    else
      continue;
    best = scale * sum_x;
    for (int i = 0; i < 16; ++i) q[i] = l[i] + 32;
  }
  return scale;
}

bool encode_q6_k(const float *x, std::uint32_t, std::byte *out) noexcept {
  int q[256];
  float scales[16], largest = 0.0f;
  for (int j = 0; j < 16; ++j) {
    scales[j] = search_q6(x + 16 * j, q + 16 * j);
    if (!std::isfinite(scales[j])) return false;
    if (std::fabs(scales[j]) > std::fabs(largest)) largest = scales[j];
  }
  if (std::fabs(largest) < kLeast) {
    std::fill(out, out + 210, std::byte{0});
    return true;
  }
  const float inverse_step = -128.0f / largest;
  if (!put_f16(out + 208, 1.0f / inverse_step)) return false;
  for (int j = 0; j < 16; ++j) {
    const int s = clamped_even(inverse_step * scales[j], -128.0f, 127.0f);
    out[192 + j] = static_cast<std::byte>(s);
    const float d = get_f16(out + 208) * static_cast<float>(s);
    if (d == 0.0f) continue;
    for (int i = 16 * j; i < 16 * j + 16; ++i) q[i] = clamped_even(x[i] / d, -32.0f, 31.0f) + 32;
  }
  for (int h = 0; h < 2; ++h)
    for (int l = 0; l < 32; ++l) {
      const int *at = q + 128 * h + l;
      const int a = at[0], b = at[32], c = at[64], e = at[96];
      out[64 * h + l] = static_cast<std::byte>((a & 15) | (c & 15) << 4);
      out[64 * h + 32 + l] = static_cast<std::byte>((b & 15) | (e & 15) << 4);
      out[128 + 32 * h + l] =
          static_cast<std::byte>(a >> 4 | (b >> 4) << 2 | (c >> 4) << 4 | (e >> 4) << 6);
    }
  return true;
}

float decode_q6_k(const std::byte *block, int i) noexcept {
  const int h = i / 128, part = i % 128 / 32, l = i % 32;
  const int byte = byte_at(block + 64 * h + 32 * (part % 2) + l);
  const int low = part < 2 ? byte & 15 : byte >> 4;
  const int high = byte_at(block + 128 + 32 * h + l) >> (2 * part) & 3;
  const auto s = static_cast<std::int8_t>(byte_at(block + 192 + i / 16));
  return get_f16(block + 208) * static_cast<float>(s) * static_cast<float>((low | high << 4) - 32);
}

}  // namespace

const BlockCodec kQ4K = {SY_QUANT_Q4_K, 256, 144, encode_q4_k, decode_q4_k};
const BlockCodec kQ6K = {SY_QUANT_Q6_K, 256, 210, encode_q6_k, decode_q6_k};

}  // namespace switchyard::reference::quant
