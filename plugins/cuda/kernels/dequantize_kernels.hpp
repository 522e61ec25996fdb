// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The kernels of dequantize: codes of a tile into shared memory, then four values a thread at a
/// time, so that whole lines are written.

#include "quantize_blocks.hpp"

namespace switchyard::cuda::device {

SY_DEVICE int nibble(const std::uint8_t *p, int i) { return i < 16 ? p[i] & 15 : p[i - 16] >> 4; }
SY_DEVICE float mxfp4_value(int code, int exponent) {
  if (exponent == 255) return as_float(0x7FC00000u);
  // 0, 1, 2, 3, 4, 6, 8, 12 halves.
  const int halves = static_cast<int>(0xC864'3210u >> (4 * (code & 7)) & 15u);
  // 2^127 times 6 is infinite, as it is to be.
  const float v = 0.5f * static_cast<float>(halves) * power_of_two(exponent - 127);
  return code > 8 ? -v : v;
}

// Each decoder: values i..i+3 of a unit of kUnit values whose kBytes bytes begin at p.

template <int bits>
struct SymmetricDecoder {
  static constexpr int kUnit = 32, kBytes = 2 + (bits - 4) * 4 + 16;
  SY_DEVICE static void decode(const QuantArguments &, const std::uint8_t *p, std::int64_t, int i,
                               float (&y)[4]) {
    const float d = get_half(p);
    SY_UNROLL
    for (int e = 0; e < 4; ++e) {
      int q = nibble(p + 2 + (bits - 4) * 4, i + e);
      if (bits > 4) q |= (p[2 + (i + e) / 8] >> ((i + e) % 8) & 1) << 4;
      y[e] = static_cast<float>(q - (1 << (bits - 1))) * d;
    }
  }
};
template <int bits>
struct OffsetDecoder {
  static constexpr int kUnit = 32, kBytes = 4 + (bits - 4) * 4 + 16;
  SY_DEVICE static void decode(const QuantArguments &, const std::uint8_t *p, std::int64_t, int i,
                               float (&y)[4]) {
    const float d = get_half(p), m = get_half(p + 2);
    SY_UNROLL
    for (int e = 0; e < 4; ++e) {
      int q = nibble(p + 4 + (bits - 4) * 4, i + e);
      if (bits > 4) q |= (p[4 + (i + e) / 8] >> ((i + e) % 8) & 1) << 4;
      y[e] = static_cast<float>(q) * d + m;
    }
  }
};
struct Q8Decoder {
  static constexpr int kUnit = 32, kBytes = 34;
  SY_DEVICE static void decode(const QuantArguments &, const std::uint8_t *p, std::int64_t, int i,
                               float (&y)[4]) {
    const float d = get_half(p);
    SY_UNROLL
    for (int e = 0; e < 4; ++e)
      y[e] = static_cast<float>(static_cast<std::int8_t>(p[2 + i + e])) * d;
  }
};
struct Q4KDecoder {
  static constexpr int kUnit = 256, kBytes = 144;
  SY_DEVICE static void decode(const QuantArguments &, const std::uint8_t *p, std::int64_t, int i,
                               float (&y)[4]) {
    const std::uint8_t *packed = p + 4;
    const int j = i / 32;
    const int s = j < 4 ? packed[j] & 63 : (packed[4 + j] & 15) | packed[j - 4] >> 6 << 4;
    const int m = j < 4 ? packed[4 + j] & 63 : packed[4 + j] >> 4 | packed[j] >> 6 << 4;
    const float d = get_half(p) * static_cast<float>(s);
    const float offset = get_half(p + 2) * static_cast<float>(m);
    SY_UNROLL
    for (int e = 0; e < 4; ++e) {
      const int byte = p[16 + i / 64 * 32 + (i + e) % 32];
      y[e] = d * static_cast<float>(i % 64 < 32 ? byte & 15 : byte >> 4) - offset;
    }
  }
};
struct Q6KDecoder {
  static constexpr int kUnit = 256, kBytes = 210;
  SY_DEVICE static void decode(const QuantArguments &, const std::uint8_t *p, std::int64_t, int i,
                               float (&y)[4]) {
    const int h = i / 128, part = i % 128 / 32;
    const float d =
        get_half(p + 208) * static_cast<float>(static_cast<std::int8_t>(p[192 + i / 16]));
    SY_UNROLL
    for (int e = 0; e < 4; ++e) {
      const int l = i % 32 + e, byte = p[64 * h + 32 * (part % 2) + l];
      const int low = part < 2 ? byte & 15 : byte >> 4;
      const int high = p[128 + 32 * h + l] >> (2 * part) & 3;
      y[e] = d * static_cast<float>((low | high << 4) - 32);
    }
  }
};
struct Tq1Decoder {
  static constexpr int kUnit = 256, kBytes = 54;
  SY_DEVICE static void decode(const QuantArguments &, const std::uint8_t *p, std::int64_t, int i,
                               float (&y)[4]) {
    const float d = get_half(p + 52);
    SY_UNROLL
    for (int e = 0; e < 4; ++e) {
      const int k = i + e;
      const int byte = k < 160 ? k % 32 : k < 240 ? 32 + (k - 160) % 16 : 48 + (k - 240) % 4;
      const int digit = k < 160 ? k / 32 : k < 240 ? (k - 160) / 16 : (k - 240) / 4;
      const int power = digit == 0 ? 1 : digit == 1 ? 3 : digit == 2 ? 9 : digit == 3 ? 27 : 81;
      y[e] = static_cast<float>(((p[byte] * power & 255) * 3 >> 8) - 1) * d;
    }
  }
};
struct Tq2Decoder {
  static constexpr int kUnit = 256, kBytes = 66;
  SY_DEVICE static void decode(const QuantArguments &, const std::uint8_t *p, std::int64_t, int i,
                               float (&y)[4]) {
    const float d = get_half(p + 64);
    const int shift = 2 * (i % 128 / 32);
    SY_UNROLL
    for (int e = 0; e < 4; ++e)
      y[e] = static_cast<float>((p[32 * (i / 128) + i % 32 + e] >> shift & 3) - 1) * d;
  }
};
struct Q2Decoder {
  static constexpr int kUnit = 64, kBytes = 18;
  SY_DEVICE static void decode(const QuantArguments &, const std::uint8_t *p, std::int64_t, int i,
                               float (&y)[4]) {
    const float d = get_half(p);
    SY_UNROLL
    for (int e = 0; e < 4; ++e) y[e] = static_cast<float>((p[2 + i / 4] >> (2 * e) & 3) - 1) * d;
  }
};
struct Mxfp4GgmlDecoder {
  static constexpr int kUnit = 32, kBytes = 17;
  SY_DEVICE static void decode(const QuantArguments &, const std::uint8_t *p, std::int64_t, int i,
                               float (&y)[4]) {
    SY_UNROLL
    for (int e = 0; e < 4; ++e) y[e] = mxfp4_value(nibble(p + 1, i + e), p[0]);
  }
};
struct Mxfp4Decoder {
  static constexpr int kUnit = 32, kBytes = 16;
  SY_DEVICE static void decode(const QuantArguments &a, const std::uint8_t *p, std::int64_t first,
                               int i, float (&y)[4]) {
    const int exponent = reinterpret_cast<const std::uint8_t *>(a.scales)[first / 32];
    SY_UNROLL
    for (int e = 0; e < 4; ++e) {
      const int byte = p[(i + e) / 2];
      y[e] = mxfp4_value(e % 2 == 0 ? byte & 15 : byte >> 4, exponent);
    }
  }
};
template <int bits>
struct AffineDecoder {
  static constexpr int kUnit = 32, kBytes = 4 * bits;
  SY_DEVICE static void decode(const QuantArguments &a, const std::uint8_t *p, std::int64_t first,
                               int i, float (&y)[4]) {
    const std::int64_t g = (first + i) / a.group;
    const float s = load_value(a.scales, g, a.scale_type),
                b = load_value(a.biases, g, a.scale_type);
    // Four codes begin at a byte, or in the middle of one.
    std::uint64_t window = 0;
    const int at = i * bits;
    SY_UNROLL
    for (int k = 0; k < (4 * bits + 4 + 7) / 8; ++k)
      if (at / 8 + k < kBytes) window |= static_cast<std::uint64_t>(p[at / 8 + k]) << (8 * k);
    window >>= at % 8;
    SY_UNROLL
    for (int e = 0; e < 4; ++e) {
      const auto q =
          static_cast<float>(static_cast<int>(window >> (e * bits) & ((1u << bits) - 1)));
      y[e] = rounded_to(a.scale_type, rounded_to(a.scale_type, q * s) + b);
    }
  }
};
struct ByteDecoder {  // ternary, int8
  static constexpr int kUnit = 4, kBytes = 4;
  SY_DEVICE static void decode(const QuantArguments &a, const std::uint8_t *p, std::int64_t first,
                               int, float (&y)[4]) {
    const auto *scales = reinterpret_cast<const float *>(a.scales);
    SY_UNROLL
    for (int e = 0; e < 4; ++e)
      y[e] = first + e < a.values.total ? static_cast<float>(static_cast<std::int8_t>(p[e])) *
                                              scales[(first + e) / a.part_size]
                                        : 0.0f;
  }
};
struct I2sDecoder {
  static constexpr int kUnit = 128, kBytes = 32;
  SY_DEVICE static void decode(const QuantArguments &a, const std::uint8_t *p, std::int64_t, int i,
                               float (&y)[4]) {
    const std::uint8_t *tail = a.codes + a.values.total / 4;
    const float m = as_float(static_cast<std::uint32_t>(tail[0] | tail[1] << 8 | tail[2] << 16) |
                             static_cast<std::uint32_t>(tail[3]) << 24);
    SY_UNROLL
    for (int e = 0; e < 4; ++e)
      y[e] = static_cast<float>((p[i % 32 + e] >> (6 - 2 * (i / 32)) & 3) - 1) * m;
  }
};

template <class Decoder>
SY_DEVICE void dequantize_tile(const QuantArguments &a) {
  const std::int64_t first = block() * kTileValues;
  auto *codes = reinterpret_cast<std::uint8_t *>(shared());
  const std::int64_t left = a.values.total - first;
  const int n = left < kTileValues ? static_cast<int>(left) : kTileValues;
  // Bytes of codes may end in the middle of a unit of four.
  const std::int64_t bytes =
      Decoder::kUnit == 4 ? n : static_cast<std::int64_t>(n) / Decoder::kUnit * Decoder::kBytes;
  copy_codes_in(codes, a.codes + first / Decoder::kUnit * Decoder::kBytes, bytes, a.codes_aligned);
  sync_block();
  for (int i = 4 * thread(); i < n; i += 4 * kQuantThreads) {
    const int unit = i / Decoder::kUnit;
    float y[4];
    Decoder::decode(a, codes + unit * Decoder::kBytes, first + unit * Decoder::kUnit,
                    i % Decoder::kUnit, y);
    store_four(a.values, first + i, y);
  }
}

#define SY_DEQUANTIZE(NAME, DECODER) \
  SY_KERNEL(dequantize_##NAME, QuantArguments, kQuantThreads, 4) { dequantize_tile<DECODER>(a); }
SY_DEQUANTIZE(q4_0, SymmetricDecoder<4>)
SY_DEQUANTIZE(q5_0, SymmetricDecoder<5>)
SY_DEQUANTIZE(q4_1, OffsetDecoder<4>)
SY_DEQUANTIZE(q5_1, OffsetDecoder<5>)
SY_DEQUANTIZE(q8_0, Q8Decoder)
SY_DEQUANTIZE(q4_k, Q4KDecoder)
SY_DEQUANTIZE(q6_k, Q6KDecoder)
SY_DEQUANTIZE(tq1_0, Tq1Decoder)
SY_DEQUANTIZE(tq2_0, Tq2Decoder)
SY_DEQUANTIZE(q2_0, Q2Decoder)
SY_DEQUANTIZE(mxfp4_ggml, Mxfp4GgmlDecoder)
SY_DEQUANTIZE(mxfp4, Mxfp4Decoder)
SY_DEQUANTIZE(mlx_affine2, AffineDecoder<2>)
SY_DEQUANTIZE(mlx_affine3, AffineDecoder<3>)
SY_DEQUANTIZE(mlx_affine4, AffineDecoder<4>)
SY_DEQUANTIZE(mlx_affine5, AffineDecoder<5>)
SY_DEQUANTIZE(mlx_affine6, AffineDecoder<6>)
SY_DEQUANTIZE(mlx_affine8, AffineDecoder<8>)
SY_DEQUANTIZE(int8, ByteDecoder)
SY_DEQUANTIZE(i2_s, I2sDecoder)
#undef SY_DEQUANTIZE

}  // namespace switchyard::cuda::device
