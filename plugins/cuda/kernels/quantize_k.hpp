// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Q4_K and Q6_K: a thread searches the scales of its chunk, eight of a block then meet. For
/// kernels.

#include "quantize_blocks.hpp"

namespace switchyard::cuda::device {

struct Searched {
  float scale, min;  ///< min is not negative: what is taken off
};

/// The step and offset of 32 values with the least weighted error among 22 candidates, and codes.
SY_DEVICE Searched search_q4(const float (&x)[32], int (&q)[32]) {
  float squares = 0.0f;
  SY_UNROLL
  for (int i = 0; i < 32; ++i) squares += x[i] * x[i];
  const float level = root(squares / 32.0f);
  float min = x[0], max = x[0];
  float sum_w = level + magnitude(x[0]), sum_x = sum_w * x[0];
  SY_UNROLL
  for (int i = 1; i < 32; ++i) {
    const float w = level + magnitude(x[i]);
    if (x[i] < min) min = x[i];
    if (x[i] > max) max = x[i];
    sum_w += w;
    sum_x += w * x[i];
  }
  if (min > 0.0f) min = 0.0f;
  float inverse_step = 15.0f / (max - min);
  if (!finite(inverse_step)) {  // equal values, or too close for f32
    SY_UNROLL
    for (int i = 0; i < 32; ++i) q[i] = 0;
    return {0.0f, -min};
  }
  float scale = 1.0f / inverse_step, best = 0.0f;
  SY_UNROLL
  for (int i = 0; i < 32; ++i) {
    q[i] = clamped_even(inverse_step * (x[i] - min), 0.0f, 15.0f);
    const float miss = scale * static_cast<float>(q[i]) + min - x[i];
    best += (level + magnitude(x[i])) * (miss * miss);
  }
  SY_NO_UNROLL
  for (int k = 0; k <= 20; ++k) {
    // `min` is the best one so far, not that of the values.
    inverse_step = (-1.0f + 0.1f * static_cast<float>(k) + 15.0f) / (max - min);
    float sum_q = 0.0f, sum_qq = 0.0f, sum_qx = 0.0f;
    SY_UNROLL
    for (int i = 0; i < 32; ++i) {
      const auto t = static_cast<float>(clamped_even(inverse_step * (x[i] - min), 0.0f, 15.0f));
      const float w = level + magnitude(x[i]);
      sum_q += w * t;
      sum_qq += w * t * t;
      sum_qx += w * t * x[i];
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
    SY_UNROLL
    for (int i = 0; i < 32; ++i) {
      const auto t = static_cast<float>(clamped_even(inverse_step * (x[i] - min), 0.0f, 15.0f));
      const float miss = s * t + m - x[i];
      error += (level + magnitude(x[i])) * (miss * miss);
    }
    if (!(error < best)) continue;
    SY_UNROLL
    for (int i = 0; i < 32; ++i) q[i] = clamped_even(inverse_step * (x[i] - min), 0.0f, 15.0f);
    best = error;
    scale = s;
    min = m;
  }
  return {scale, -min};
}

/// Eight numbers, one a thread, in units of 1/63 of the largest above 0: this thread's, and the
/// unit. One below 0 wraps around in 8 bits first, as the format's owner has it.
SY_DEVICE int six_bits(float v, float &unit) {
  float largest = larger(v, 0.0f);
  SY_UNROLL
  for (int m = 1; m < 8; m *= 2) largest = larger(shuffle_xor(largest, m), largest);
  float factor = largest > 0.0f ? 63.0f / largest : 0.0f;
  if (!finite(factor)) factor = 0.0f;
  unit = largest / 63.0f;
  const int q = clamped_even(factor * v, -4194304.0f, 4194303.0f) & 255;
  return q < 63 ? q : 63;
}

/// Bytes q[4w..] of a chunk as words.
SY_DEVICE void pack_bytes(const int (&q)[32], std::uint32_t (&words)[8]) {
  SY_UNROLL
  for (int w = 0; w < 8; ++w)
    words[w] = static_cast<std::uint32_t>(q[4 * w] | q[4 * w + 1] << 8 | q[4 * w + 2] << 16) |
               static_cast<std::uint32_t>(q[4 * w + 3]) << 24;
}

struct Q4KCodec {
  static constexpr int kChunks = 8, kBytes = 144;
  SY_DEVICE static bool encode(const Chunk &c, const float (&x)[32], std::uint8_t *out) {
    int q[32];
    const Searched found = search_q4(x, q);
    float d = 0, dmin = 0;
    const int s = six_bits(found.scale, d), m = six_bits(found.min, dmin);
    const int j = c.index % 8, lane = thread() & 31;
    const std::uint16_t hd = to_half(d), hm = to_half(dmin);
    // Of j and j + 4 together.
    const int s4 = shuffle(s, lane ^ 4), m4 = shuffle(m, lane ^ 4);
    if (j < 4) {
      out[4 + j] = static_cast<std::uint8_t>(s | (s4 >> 4) << 6);
      out[8 + j] = static_cast<std::uint8_t>(m | (m4 >> 4) << 6);
      out[12 + j] = static_cast<std::uint8_t>((s4 & 15) | (m4 & 15) << 4);
    }
    const float step = half_to_float(hd) * static_cast<float>(s);
    const float offset = half_to_float(hm) * static_cast<float>(m);
    if (step != 0.0f) {
      SY_UNROLL
      for (int i = 0; i < 32; ++i) q[i] = clamped_even((x[i] + offset) / step, 0.0f, 15.0f);
    }
    std::uint32_t words[8];
    pack_bytes(q, words);
    SY_UNROLL
    for (int w = 0; w < 8; ++w) {
      const std::uint32_t other = shuffle_xor(words[w], 1);
      if ((w < 4) == (j % 2 == 0))
        put_word(out + 16 + 32 * (j / 2) + 4 * w,
                 j % 2 == 0 ? words[w] | other << 4 : other | words[w] << 4);
    }
    if (j != 0) return true;
    const bool d_fits = put_half(out, d), m_fits = put_half(out + 2, dmin);
    return d_fits && m_fits;
  }
};

constexpr float kLeastOfK = 1e-15f;  ///< magnitudes below count as zero

/// The scale of values x[first..first+16) that explains them best among 19 candidates; codes 0..63.
template <int first>
SY_DEVICE float search_q6(const float (&x)[32], int (&q)[32]) {
  float amax = 0.0f, smax = 0.0f;
  SY_UNROLL
  for (int i = first; i < first + 16; ++i)
    if (magnitude(x[i]) > amax) {
      amax = magnitude(x[i]);
      smax = x[i];
    }
  if (amax < kLeastOfK) {
    SY_UNROLL
    for (int i = first; i < first + 16; ++i) q[i] = 0;
    return 0.0f;
  }
  float scale = 0.0f, best = 0.0f;
  SY_NO_UNROLL
  for (int trial = 0; trial < 19; ++trial) {
    const int k = trial == 0 ? 0 : trial <= 9 ? trial - 10 : trial - 9;  // 0, then -9..9 without it
    const float inverse_step =
        trial == 0 ? -32.0f / smax : -(32.0f + 0.1f * static_cast<float>(k)) / smax;
    float sum_x = 0.0f, sum_q = 0.0f;
    SY_UNROLL
    for (int i = first; i < first + 16; ++i) {
      const auto t = static_cast<float>(clamped_even(inverse_step * x[i], -32.0f, 31.0f));
      const float w = x[i] * x[i];
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
    SY_UNROLL
    for (int i = first; i < first + 16; ++i)
      q[i] = clamped_even(inverse_step * x[i], -32.0f, 31.0f) + 32;
  }
  return scale;
}

struct Q6KCodec {
  static constexpr int kChunks = 8, kBytes = 210;
  SY_DEVICE static bool encode(const Chunk &c, const float (&x)[32], std::uint8_t *out) {
    int q[32];
    const float scales[2] = {search_q6<0>(x, q), search_q6<16>(x, q)};
    const int part = c.index % 8, lane = thread() & 31, base = lane - part;
    // The first signed scale of the largest magnitude, in the order of the sub-blocks.
    float largest = 0.0f;
    bool fits = true;
    SY_UNROLL
    for (int p = 0; p < 8; ++p) {
      SY_UNROLL
      for (int h = 0; h < 2; ++h) {
        const float scale = shuffle(scales[h], base + p);
        fits = fits && finite(scale);
        if (magnitude(scale) > magnitude(largest)) largest = scale;
      }
    }
    const bool zero = magnitude(largest) < kLeastOfK;
    const float inverse_step = -128.0f / largest;
    const float d = 1.0f / inverse_step;
    const std::uint16_t hd = to_half(d);
    SY_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int s = zero ? 0 : clamped_even(inverse_step * scales[h], -128.0f, 127.0f);
      out[192 + 2 * part + h] = static_cast<std::uint8_t>(s);
      const float step = half_to_float(hd) * static_cast<float>(s);
      if (zero || step == 0.0f) continue;
      SY_UNROLL
      for (int i = 16 * h; i < 16 * h + 16; ++i)
        q[i] = clamped_even(x[i] / step, -32.0f, 31.0f) + 32;
    }
    std::uint32_t words[8];
    pack_bytes(q, words);
    const int quarter = part % 4, first = lane - quarter, half = part / 4;
    SY_UNROLL
    for (int w = 0; w < 8; ++w) {
      const std::uint32_t a = shuffle(words[w], first), b = shuffle(words[w], first + 1),
                          e = shuffle(words[w], first + 2), f = shuffle(words[w], first + 3);
      if (w % 4 != quarter) continue;
      const std::uint32_t keep = zero ? 0u : ~0u;
      put_word(out + 64 * half + 4 * w, ((a & 0x0F0F0F0Fu) | (e & 0x0F0F0F0Fu) << 4) & keep);
      put_word(out + 64 * half + 32 + 4 * w, ((b & 0x0F0F0F0Fu) | (f & 0x0F0F0F0Fu) << 4) & keep);
      put_word(out + 128 + 32 * half + 4 * w,
               ((a >> 4 & 0x03030303u) | (b >> 4 & 0x03030303u) << 2 | (e >> 4 & 0x03030303u) << 4 |
                (f >> 4 & 0x03030303u) << 6) &
                   keep);
    }
    if (part == 0) {
      const bool d_fits = put_half(out + 208, zero ? 0.0f : d);
      fits = fits && (zero || d_fits);
    }
    return fits;
  }
};

}  // namespace switchyard::cuda::device
