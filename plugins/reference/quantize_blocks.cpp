// SPDX-License-Identifier: Apache-2.0
// Blocks with one or two scales (ggml) and MXFP4, one value at a time.

#include <mxfp4.hpp>

#include <algorithm>

#include "quantize_codecs.hpp"

namespace switchyard::reference::quant {
namespace {

/// The signed value of the first x of the largest magnitude.
float signed_largest(const float *x, int n) noexcept {
  float amax = 0.0f, smax = 0.0f;
  for (int i = 0; i < n; ++i)
    if (amax < std::fabs(x[i])) {
      amax = std::fabs(x[i]);
      smax = x[i];
    }
  return smax;
}

struct Extremes {
  float min, max;
};
Extremes extremes(const float *x, int n) noexcept {
  Extremes e{x[0], x[0]};
  for (int i = 1; i < n; ++i) {
    if (x[i] < e.min) e.min = x[i];
    if (x[i] > e.max) e.max = x[i];
  }
  return e;
}

int truncated(float v, int top) noexcept { return std::min(top, static_cast<int>(v)); }

/// 32 codes: low halves in 16 bytes, bits 4 (where there are any) in a u32 before them.
void put_codes(const int *q, std::byte *fifth, std::byte *nibbles) noexcept {
  std::uint32_t high = 0;
  for (int i = 0; i < 32; ++i) high |= static_cast<std::uint32_t>(q[i] >> 4) << i;
  if (fifth != nullptr) std::memcpy(fifth, &high, sizeof high);
  for (int j = 0; j < 16; ++j)
    nibbles[j] = static_cast<std::byte>((q[j] & 15) | (q[j + 16] & 15) << 4);
}

int get_code(const std::byte *fifth, const std::byte *nibbles, int i) noexcept {
  const int byte = byte_at(nibbles + i % 16);
  const int low = i < 16 ? byte & 15 : byte >> 4;
  if (fifth == nullptr) return low;
  return low | (byte_at(fifth + i / 8) >> i % 8 & 1) << 4;
}

bool encode_q4_0(const float *x, std::uint32_t, std::byte *out) noexcept {
  const float d = signed_largest(x, 32) / -8.0f;
  const float id = inverse(d);
  int q[32];
  for (int i = 0; i < 32; ++i) q[i] = truncated(x[i] * id + 8.5f, 15);
  put_codes(q, nullptr, out + 2);
  return put_f16(out, d);
}

float decode_q4_0(const std::byte *block, int i) noexcept {
  return static_cast<float>(get_code(nullptr, block + 2, i) - 8) * get_f16(block);
}

bool encode_q4_1(const float *x, std::uint32_t, std::byte *out) noexcept {
  const auto [min, max] = extremes(x, 32);
  const float d = (max - min) / 15.0f;
  const float id = inverse(d);
  const bool d_fits = put_f16(out, d), m_fits = put_f16(out + 2, min);
  if (!d_fits || !m_fits) return false;
  int q[32];
  for (int i = 0; i < 32; ++i) q[i] = truncated((x[i] - min) * id + 0.5f, 15);
  put_codes(q, nullptr, out + 4);
  return true;
}

float decode_q4_1(const std::byte *block, int i) noexcept {
  return static_cast<float>(get_code(nullptr, block + 4, i)) * get_f16(block) + get_f16(block + 2);
}

bool encode_q5_0(const float *x, std::uint32_t, std::byte *out) noexcept {
  const float d = signed_largest(x, 32) / -16.0f;
  const float id = inverse(d);
  int q[32];
  for (int i = 0; i < 32; ++i) q[i] = truncated(x[i] * id + 16.5f, 31);
  put_codes(q, out + 2, out + 6);
  return put_f16(out, d);
}

float decode_q5_0(const std::byte *block, int i) noexcept {
  return static_cast<float>(get_code(block + 2, block + 6, i) - 16) * get_f16(block);
}

bool encode_q5_1(const float *x, std::uint32_t, std::byte *out) noexcept {
  const auto [min, max] = extremes(x, 32);
  const float d = (max - min) / 31.0f;
  const float id = inverse(d);
  const bool d_fits = put_f16(out, d), m_fits = put_f16(out + 2, min);
  if (!d_fits || !m_fits) return false;
  int q[32];
  for (int i = 0; i < 32; ++i) q[i] = truncated((x[i] - min) * id + 0.5f, 31);
  put_codes(q, out + 4, out + 8);
  return true;
}

float decode_q5_1(const std::byte *block, int i) noexcept {
  return static_cast<float>(get_code(block + 4, block + 8, i)) * get_f16(block) +
         get_f16(block + 2);
}

bool encode_q8_0(const float *x, std::uint32_t, std::byte *out) noexcept {
  const float d = largest_magnitude(x, 32) / 127.0f;
  const float id = inverse(d);
  for (int j = 0; j < 32; ++j) out[2 + j] = static_cast<std::byte>(round_away(x[j] * id));
  return put_f16(out, d);
}

float decode_q8_0(const std::byte *block, int i) noexcept {
  return static_cast<float>(static_cast<std::int8_t>(byte_at(block + 2 + i))) * get_f16(block);
}

/// Codes 0, 1, 2 and the scale of a ternary block: the largest magnitude, or BitNet's mean.
float ternary_block(const float *x, int n, std::uint32_t rule, int *t) noexcept {
  if (rule == SY_SCALE_ABSMEAN) {
    MagnitudeSum sum;
    for (int i = 0; i < n; ++i) sum.add(x[i]);
    const float m = ternary_scale(sum.total(), n);
    for (int i = 0; i < n; ++i) t[i] = ternary_code(x[i], 1.0f / m) + 1;
    return m;
  }
  const float d = largest_magnitude(x, n);
  const float id = inverse(d);
  for (int i = 0; i < n; ++i) t[i] = std::clamp(round_away(x[i] * id) + 1, 0, 3);
  return d;
}

/// Where value i of a TQ1_0 block lies: which byte, which of its digits.
struct Digit {
  int byte, digit;
};
Digit tq1_digit(int i) noexcept {
  if (i < 160) return {i % 32, i / 32};
  if (i < 240) return {32 + (i - 160) % 16, (i - 160) / 16};
  return {48 + (i - 240) % 4, (i - 240) / 4};
}

bool encode_tq1_0(const float *x, std::uint32_t rule, std::byte *out) noexcept {
  int t[256], digits[52][5] = {};
  const float d = ternary_block(x, 256, rule, t);
  for (int i = 0; i < 256; ++i) {
    const Digit at = tq1_digit(i);
    digits[at.byte][at.digit] = t[i];
  }
  for (int b = 0; b < 52; ++b) {
    int v = 0;
    for (int n = 0; n < 5; ++n) v = v * 3 + digits[b][n];
    out[b] = static_cast<std::byte>((256 * v + 242) / 243);
  }
  return put_f16(out + 52, d);
}

float decode_tq1_0(const std::byte *block, int i) noexcept {
  constexpr int kPowers[] = {1, 3, 9, 27, 81};
  const Digit at = tq1_digit(i);
  const int t = (byte_at(block + at.byte) * kPowers[at.digit] % 256 * 3) >> 8;
  return static_cast<float>(t - 1) * get_f16(block + 52);
}

bool encode_tq2_0(const float *x, std::uint32_t rule, std::byte *out) noexcept {
  int t[256];
  const float d = ternary_block(x, 256, rule, t);
  for (int half = 0; half < 2; ++half)
    for (int m = 0; m < 32; ++m) {
      int byte = 0;
      for (int n = 0; n < 4; ++n) byte |= t[128 * half + 32 * n + m] << (2 * n);
      out[32 * half + m] = static_cast<std::byte>(byte);
    }
  return put_f16(out + 64, d);
}

float decode_tq2_0(const std::byte *block, int i) noexcept {
  const int half = i / 128, n = i % 128 / 32, m = i % 32;
  const int t = byte_at(block + 32 * half + m) >> (2 * n) & 3;
  return static_cast<float>(t - 1) * get_f16(block + 64);
}

bool encode_q2_0(const float *x, std::uint32_t rule, std::byte *out) noexcept {
  int t[64];
  const float d = ternary_block(x, 64, rule, t);
  for (int j = 0; j < 16; ++j)
    out[2 + j] = static_cast<std::byte>(t[4 * j] | t[4 * j + 1] << 2 | t[4 * j + 2] << 4 |
                                        t[4 * j + 3] << 6);
  return put_f16(out, d);
}

float decode_q2_0(const std::byte *block, int i) noexcept {
  return static_cast<float>((byte_at(block + 2 + i / 4) >> (2 * (i % 4)) & 3) - 1) * get_f16(block);
}

bool encode_mxfp4(const float *x, std::uint32_t rule, std::byte *out) noexcept {
  const float amax = largest_magnitude(x, 32);
  const int e = rule == SY_SCALE_RCEIL ? mxfp4_rceil(amax / 6.0f) : mxfp4_floor(amax);
  out[0] = static_cast<std::byte>(e);
  for (int j = 0; j < 16; ++j)
    out[1 + j] = static_cast<std::byte>(mxfp4_code(x[j], e) | mxfp4_code(x[j + 16], e) << 4);
  return true;
}

float decode_mxfp4(const std::byte *block, int i) noexcept {
  const int byte = byte_at(block + 1 + i % 16);
  return mxfp4_value(static_cast<unsigned>(i < 16 ? byte & 15 : byte >> 4), byte_at(block));
}

constexpr BlockCodec kCodecs[] = {
    {SY_QUANT_Q4_0, 32, 18, encode_q4_0, decode_q4_0},
    {SY_QUANT_Q4_1, 32, 20, encode_q4_1, decode_q4_1},
    {SY_QUANT_Q5_0, 32, 22, encode_q5_0, decode_q5_0},
    {SY_QUANT_Q5_1, 32, 24, encode_q5_1, decode_q5_1},
    {SY_QUANT_Q8_0, 32, 34, encode_q8_0, decode_q8_0},
    {SY_QUANT_TQ1_0, 256, 54, encode_tq1_0, decode_tq1_0},
    {SY_QUANT_TQ2_0, 256, 66, encode_tq2_0, decode_tq2_0},
    {SY_QUANT_Q2_0, 64, 18, encode_q2_0, decode_q2_0},
    {SY_QUANT_MXFP4_GGML, 32, 17, encode_mxfp4, decode_mxfp4},
};

}  // namespace

const BlockCodec *find_block_codec(std::uint32_t format) noexcept {
  if (format == SY_QUANT_Q4_K) return &kQ4K;
  if (format == SY_QUANT_Q6_K) return &kQ6K;
  for (const BlockCodec &codec : kCodecs)
    if (static_cast<std::uint32_t>(codec.format) == format) return &codec;
  return nullptr;
}

int mxfp4_floor(float amax) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(amax);
  const std::uint32_t log2 = (bits + cpu::kLog2Slack.of[bits >> 23]) >> 23;
  return std::max(0, static_cast<int>(log2) - 2);
}

int mxfp4_rceil(float sixth) noexcept {
  if (sixth == 0.0f) return 127;
  const auto bits = std::bit_cast<std::uint32_t>(sixth);
  return static_cast<int>(bits >> 23) + ((bits & 0x7FFFFFu) != 0 ? 1 : 0);
}

unsigned mxfp4_code(float x, int exponent) noexcept {
  // Half way between the values 0, 0.5, 1, 1.5, 2, 3, 4, 6.
  constexpr float kHalfWay[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
  const float v = std::ldexp(std::fabs(x), 127 - exponent);
  unsigned code = 0;
  for (float limit : kHalfWay) code += v > limit ? 1 : 0;
  return code != 0 && x < 0.0f ? code | 8u : code;
}

float mxfp4_value(unsigned code, int exponent) noexcept {
  constexpr float kValues[] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  if (exponent == 255) return std::bit_cast<float>(0x7FC00000u);
  const float magnitude = std::ldexp(kValues[code & 7], exponent - 127);
  return code > 8 ? -magnitude : magnitude;
}

}  // namespace switchyard::reference::quant
