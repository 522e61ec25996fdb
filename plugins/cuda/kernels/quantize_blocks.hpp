// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Encoders of chunks of 32 values, one chunk a thread. A unit (block or group) is one to eight
/// chunks of neighbouring threads, which meet by shuffles. For kernels.

#include "quant_values.hpp"

namespace switchyard::cuda::device {

/// What an encoder knows of its chunk.
struct Chunk {
  const QuantArguments &a;
  Tile tile;
  int index;           ///< in the tile
  std::int64_t first;  ///< value of the call
  bool inside;         ///< not behind the call's end
};

SY_DEVICE float largest_magnitude(const float (&x)[32]) {
  float amax = 0.0f;
  SY_UNROLL
  for (int i = 0; i < 32; ++i) amax = larger(magnitude(x[i]), amax);
  return amax;
}
/// The same of the whole unit of `chunks`.
template <int chunks>
SY_DEVICE float unit_magnitude(const float (&x)[32]) {
  float amax = largest_magnitude(x);
  SY_UNROLL
  for (int m = 1; m < chunks; m *= 2) amax = larger(amax, shuffle_xor(amax, m));
  return amax;
}
SY_DEVICE float signed_largest(const float (&x)[32]) {
  float amax = 0.0f, smax = 0.0f;
  SY_UNROLL
  for (int i = 0; i < 32; ++i)
    if (amax < magnitude(x[i])) {
      amax = magnitude(x[i]);
      smax = x[i];
    }
  return smax;
}
struct Extremes {
  float min, max;
};
/// The first of equals counts.
SY_DEVICE Extremes extremes(const float (&x)[32]) {
  Extremes e{x[0], x[0]};
  SY_UNROLL
  for (int i = 1; i < 32; ++i) {
    if (x[i] < e.min) e.min = x[i];
    if (x[i] > e.max) e.max = x[i];
  }
  return e;
}

/// 32 codes: low halves in 16 bytes, bits 4 (where there are any) in a u32 before them.
template <bool fifth>
SY_DEVICE void put_codes(const int (&q)[32], std::uint8_t *out) {
  if (fifth) {
    std::uint32_t high = 0;
    SY_UNROLL
    for (int i = 0; i < 32; ++i) high |= static_cast<std::uint32_t>(q[i] >> 4) << i;
    put_word(out, high);
    out += 4;
  }
  SY_UNROLL
  for (int j = 0; j < 16; ++j)
    out[j] = static_cast<std::uint8_t>((q[j] & 15) | (q[j + 16] & 15) << 4);
}

/// Q4_0 and Q5_0.
template <int bits>
struct SymmetricCodec {
  static constexpr int kChunks = 1, kBytes = 2 + (bits - 4) * 4 + 16;
  SY_DEVICE static bool encode(const Chunk &, const float (&x)[32], std::uint8_t *out) {
    constexpr int half = 1 << (bits - 1);
    const float d = signed_largest(x) / static_cast<float>(-half);
    const float id = inverse(d);
    int q[32];
    SY_UNROLL
    for (int i = 0; i < 32; ++i)
      q[i] = truncated(x[i] * id + (static_cast<float>(half) + 0.5f), 2 * half - 1);
    put_codes<(bits > 4)>(q, out + 2);
    return put_half(out, d);
  }
};
/// Q4_1 and Q5_1.
template <int bits>
struct OffsetCodec {
  static constexpr int kChunks = 1, kBytes = 4 + (bits - 4) * 4 + 16;
  SY_DEVICE static bool encode(const Chunk &, const float (&x)[32], std::uint8_t *out) {
    constexpr int top = (1 << bits) - 1;
    const Extremes e = extremes(x);
    const float d = (e.max - e.min) / static_cast<float>(top);
    const float id = inverse(d);
    const bool d_fits = put_half(out, d), m_fits = put_half(out + 2, e.min);
    if (!d_fits || !m_fits) return false;
    int q[32];
    SY_UNROLL
    for (int i = 0; i < 32; ++i) q[i] = truncated((x[i] - e.min) * id + 0.5f, top);
    put_codes<(bits > 4)>(q, out + 4);
    return true;
  }
};
struct Q8Codec {
  static constexpr int kChunks = 1, kBytes = 34;
  SY_DEVICE static bool encode(const Chunk &, const float (&x)[32], std::uint8_t *out) {
    const float d = largest_magnitude(x) / 127.0f;
    const float id = inverse(d);
    SY_UNROLL
    for (int i = 0; i < 32; ++i)
      out[2 + i] = static_cast<std::uint8_t>(static_cast<int>(away(x[i] * id)));
    return put_half(out, d);
  }
};

/// The sum of magnitudes of a unit as the reference orders it: 32 running sums over its chunks,
/// folded in halves.
template <int chunks>
SY_DEVICE double unit_sum(const Chunk &c) {
  constexpr int each = 32 / chunks;  // running sums of a thread: j, j + chunks, ...
  const int part = c.index % chunks, base = c.index - part;
  double s[each];
  SY_UNROLL
  for (int j = 0; j < each; ++j) {
    s[j] = 0;
    for (int k = 0; k < chunks; ++k)
      s[j] += static_cast<double>(
          magnitude(c.tile.values[kChunkWords * (base + k) + part + j * chunks]));
  }
  SY_UNROLL
  for (int half = each / 2; half >= 1; half /= 2) {
    SY_UNROLL
    for (int j = 0; j < half; ++j) s[j] += s[j + half];
  }
  SY_UNROLL
  for (int m = chunks / 2; m >= 1; m /= 2) s[0] += shuffle_xor(s[0], m);
  return s[0];
}

/// Codes 0, 1, 2 of a chunk of a ternary unit and the unit's scale.
template <int chunks>
SY_DEVICE float ternary_codes(const Chunk &c, const float (&x)[32], int (&t)[32]) {
  if (c.a.absmean) {
    const float m = ternary_scale(unit_sum<chunks>(c), 32 * chunks);
    const float im = 1.0f / m;
    SY_UNROLL
    for (int i = 0; i < 32; ++i) t[i] = ternary_code(x[i], im) + 1;
    return m;
  }
  const float d = unit_magnitude<chunks>(x);
  const float id = inverse(d);
  SY_UNROLL
  for (int i = 0; i < 32; ++i) {
    const int q = static_cast<int>(away(x[i] * id)) + 1;
    t[i] = q < 0 ? 0 : q > 3 ? 3 : q;
  }
  return d;
}
/// Codes of a unit's chunks where the unit's threads can see each other's, instead of the values.
SY_DEVICE void share_codes(const Chunk &c, const int (&t)[32]) {
  sync_warp();
  SY_UNROLL
  for (int i = 0; i < 32; ++i)
    reinterpret_cast<int *>(c.tile.values)[kChunkWords * c.index + i] = t[i];
  sync_warp();
}
SY_DEVICE int shared_code(const Chunk &c, int first_chunk, int i) {
  return reinterpret_cast<const int *>(
      c.tile.values)[kChunkWords * (first_chunk + i / 32) + i % 32];
}

struct Tq1Codec {
  static constexpr int kChunks = 8, kBytes = 54;
  SY_DEVICE static bool encode(const Chunk &c, const float (&x)[32], std::uint8_t *out) {
    int t[32];
    const float d = ternary_codes<8>(c, x, t);
    share_codes(c, t);
    const int part = c.index % 8, base = c.index - part;
    for (int b = part; b < 52; b += 8) {
      int v = 0;
      for (int n = 0; n < 5; ++n) {
        const int at = b < 32   ? b + 32 * n
                       : b < 48 ? 160 + (b - 32) + 16 * n
                                : 240 + (b - 48) + 4 * n;
        v = v * 3 + (b < 48 || n < 4 ? shared_code(c, base, at) : 0);
      }
      out[b] = static_cast<std::uint8_t>((256 * v + 242) / 243);
    }
    return part != 0 || put_half(out + 52, d);
  }
};
struct Tq2Codec {
  static constexpr int kChunks = 8, kBytes = 66;
  SY_DEVICE static bool encode(const Chunk &c, const float (&x)[32], std::uint8_t *out) {
    int t[32];
    const float d = ternary_codes<8>(c, x, t);
    share_codes(c, t);
    const int part = c.index % 8, base = c.index - part;
    for (int b = part; b < 64; b += 8) {
      int byte = 0;
      for (int n = 0; n < 4; ++n)
        byte |= shared_code(c, base, 128 * (b / 32) + 32 * n + b % 32) << (2 * n);
      out[b] = static_cast<std::uint8_t>(byte);
    }
    return part != 0 || put_half(out + 64, d);
  }
};
struct Q2Codec {
  static constexpr int kChunks = 2, kBytes = 18;
  SY_DEVICE static bool encode(const Chunk &c, const float (&x)[32], std::uint8_t *out) {
    int t[32];
    const float d = ternary_codes<2>(c, x, t);
    const int part = c.index % 2;
    SY_UNROLL
    for (int j = 0; j < 8; ++j)
      out[2 + 8 * part + j] = static_cast<std::uint8_t>(t[4 * j] | t[4 * j + 1] << 2 |
                                                        t[4 * j + 2] << 4 | t[4 * j + 3] << 6);
    return part != 0 || put_half(out, d);
  }
};

SY_DEVICE int mxfp4_floor(float amax) {
  const std::uint32_t bits = as_bits(amax);
  // cpu::kLog2Slack as a function: how many floats below the power count as it, by the binade of
  // the logarithm's size.
  constexpr std::uint64_t kCounts = 0x2C160B0502010000u;
  const int biased = static_cast<int>(bits >> 23), k = biased - 126;
  int size = k > 0 ? k - 1 : -k, binade = 0;
  for (; size > 0; size /= 2) ++binade;
  int slack = static_cast<int>(kCounts >> (8 * binade) & 255);
  if (biased == 0 || biased == 255) slack = 0;
  const int e = static_cast<int>((bits + static_cast<std::uint32_t>(slack)) >> 23) - 2;
  return e > 0 ? e : 0;
}
SY_DEVICE int mxfp4_rceil(float sixth) {
  if (sixth == 0.0f) return 127;
  const std::uint32_t bits = as_bits(sixth);
  return static_cast<int>(bits >> 23) + ((bits & 0x7FFFFFu) != 0 ? 1 : 0);
}
/// 2^k for -127 <= k <= 127.
SY_DEVICE float power_of_two(int k) {
  return k == -127 ? as_float(0x400000u) : as_float(static_cast<std::uint32_t>(k + 127) << 23);
}
/// `unit` = 2^(127 - e).
SY_DEVICE int mxfp4_code(float x, float unit) {
  const float v = magnitude(x) * unit;
  const int code =
      (v > 0.25f) + (v > 0.75f) + (v > 1.25f) + (v > 1.75f) + (v > 2.5f) + (v > 3.5f) + (v > 5.0f);
  return code != 0 && x < 0.0f ? code | 8 : code;
}
struct Mxfp4GgmlCodec {
  static constexpr int kChunks = 1, kBytes = 17;
  SY_DEVICE static bool encode(const Chunk &c, const float (&x)[32], std::uint8_t *out) {
    const float amax = largest_magnitude(x);
    const int e = c.a.rceil ? mxfp4_rceil(amax / 6.0f) : mxfp4_floor(amax);
    const float unit = power_of_two(127 - e);
    out[0] = static_cast<std::uint8_t>(e);
    SY_UNROLL
    for (int j = 0; j < 16; ++j)
      out[1 + j] =
          static_cast<std::uint8_t>(mxfp4_code(x[j], unit) | mxfp4_code(x[j + 16], unit) << 4);
    return true;
  }
};
struct Mxfp4Codec {
  static constexpr int kChunks = 1, kBytes = 16;
  SY_DEVICE static bool encode(const Chunk &c, const float (&x)[32], std::uint8_t *out) {
    const float amax = largest_magnitude(x);
    const int e =
        c.a.rceil ? mxfp4_rceil(rounded_to(c.a.values.type, amax / 6.0f)) : mxfp4_floor(amax);
    const float unit = power_of_two(127 - e);
    if (c.inside)
      reinterpret_cast<std::uint8_t *>(c.a.scales)[c.first / 32] = static_cast<std::uint8_t>(e);
    SY_UNROLL
    for (int j = 0; j < 16; ++j)
      out[j] = static_cast<std::uint8_t>(mxfp4_code(x[2 * j], unit) | mxfp4_code(x[2 * j + 1], unit)
                                                                          << 4);
    return true;
  }
};

/// 32 codes as a bitstream, low bits first: whole words.
template <int bits>
SY_DEVICE void put_stream(const int (&q)[32], std::uint8_t *out) {
  std::uint64_t window = 0;
  int held = 0;
  SY_UNROLL
  for (int i = 0; i < 32; ++i) {
    window |= static_cast<std::uint64_t>(static_cast<std::uint32_t>(q[i])) << held;
    held += bits;
    if (held >= 32) {
      *reinterpret_cast<std::uint32_t *>(out) = static_cast<std::uint32_t>(window);
      out += 4;
      window >>= 32;
      held -= 32;
    }
  }
}

template <int bits>
struct AffineCodec {
  static constexpr int kChunks = 1, kBytes = 4 * bits;  // groups meet by themselves
  SY_DEVICE static bool encode(const Chunk &c, const float (&x)[32], std::uint8_t *out) {
    constexpr float top = static_cast<float>((1 << bits) - 1);
    Extremes e = extremes(x);
    const int chunks = c.a.group / 32;
    for (int m = 1; m < chunks; m *= 2) {
      e.min = smaller(e.min, shuffle_xor(e.min, m));
      e.max = larger(e.max, shuffle_xor(e.max, m));
    }
    const float range = e.max - e.min;
    float s = larger(range / top, 1e-7f), edge = e.min, b = 0.0f;
    if (!(magnitude(e.min) > magnitude(e.max))) {
      s = -s;
      edge = e.max;
    }
    const float q0 = even(edge / s);
    if (q0 != 0.0f) {
      s = edge / q0;
      b = edge;
    }
    int q[32];
    SY_UNROLL
    for (int i = 0; i < 32; ++i) q[i] = clamped_even((x[i] - b) / s, 0.0f, top);
    put_stream<bits>(q, out);
    if (c.index % chunks == 0 && c.inside) {
      store_value(c.a.scales, c.first / c.a.group, c.a.values.type, s);
      store_value(c.a.biases, c.first / c.a.group, c.a.values.type, b);
    }
    return finite(range);
  }
};

}  // namespace switchyard::cuda::device
