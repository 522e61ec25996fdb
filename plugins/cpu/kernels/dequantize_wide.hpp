// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Decoders of ternary blocks, of blocks of 256 with sub-blocks, of MXFP4 and of i2_s.

#include "../mxfp4.hpp"
#include "dequantize_codecs.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

/// (code - 1) * d for codes 0..3, looked up.
struct TernaryTable {
  VF values;

  explicit HWY_INLINE TernaryTable(float d)
      : values(hn::Mul(hn::Sub(hn::Iota(DF(), 0.0f), hn::Set(DF(), 1.0f)), hn::Set(DF(), d))) {}
  HWY_INLINE VF at(VU code) const {
    return hn::TableLookupLanes(values, hn::IndicesFromVec(DF(), hn::BitCast(DI(), code)));
  }
};

struct DecodeTQ2_0 {
  static constexpr int kBlock = 256, kBytes = 66;

  template <int kShift, class T>
  HWY_INLINE static void put(VU bytes, const TernaryTable &table, T *y) {
    store_rounded(table.at(hn::And(hn::ShiftRight<kShift>(bytes), hn::Set(DU(), 3u))), y);
  }

  template <class T>
  HWY_INLINE static void decode(const uint8_t *block, T *y) {
    const TernaryTable d(get_scale(block + 64));
    for (int half = 0; half < 2; ++half)
      for (int m = 0; m < 32; m += kLanes) {
        const VU bytes = load_bytes(block + 32 * half + m);
        T *to = y + 128 * half + m;
        put<0>(bytes, d, to);
        put<2>(bytes, d, to + 32);
        put<4>(bytes, d, to + 64);
        put<6>(bytes, d, to + 96);
      }
  }
};

struct DecodeTQ1_0 {
  static constexpr int kBlock = 256, kBytes = 54;

  /// Digit by digit: kCount values `step` apart, from bytes in lanes.
  template <int kCount, class T>
  HWY_INLINE static void put(VU bytes, const TernaryTable &table, int step, T *y) {
    const DU du;
    for (int n = 0; n < kCount; ++n) {
      const VU tripled = hn::Add(bytes, hn::Add(bytes, bytes));
      store_rounded(table.at(hn::ShiftRight<8>(tripled)), y + n * step);
      bytes = hn::And(tripled, hn::Set(du, 255u));
    }
  }

  template <class T>
  HWY_INLINE static void decode(const uint8_t *block, T *y) {
    const TernaryTable d(get_scale(block + 52));
    for (int m = 0; m < 32; m += kLanes) put<5>(load_bytes(block + m), d, 32, y + m);
    for (int m = 0; m < 16; m += kLanes) put<5>(load_bytes(block + 32 + m), d, 16, y + 160 + m);
    // Digit n of the last four bytes: bytes times 3^n first.
    uint8_t last[16];
    for (int n = 0, power = 1; n < 4; ++n, power *= 3)
      for (int j = 0; j < 4; ++j) last[4 * n + j] = static_cast<uint8_t>(block[48 + j] * power);
    for (int m = 0; m < 16; m += kLanes) put<1>(load_bytes(last + m), d, 0, y + 240 + m);
  }
};

struct DecodeQ2_0 {
  static constexpr int kBlock = 64, kBytes = 18;

  template <class T>
  HWY_INLINE static void decode(const uint8_t *block, T *y) {
    const TernaryTable d(get_scale(block));
    for (int i = 0; i < kBlock; i += kLanes)
      store_rounded(d.at(load_packed<2>(block + 2 + i / 4)), y + i);
  }
};

struct DecodeQ4_K {
  static constexpr int kBlock = 256, kBytes = 144;

  /// d * q - m, not fused
  struct Value {
    VF d, m;
    HWY_INLINE VF operator()(VF q) const { return hn::Sub(hn::Mul(d, q), m); }
  };

  template <class T>
  HWY_INLINE static void decode(const uint8_t *block, T *y) {
    const float d = get_scale(block), min = get_scale(block + 2);
    const uint8_t *packed = block + 4;
    Value values[8];
    for (int j = 0; j < 4; ++j) {
      const int low = packed[j], high = packed[4 + j], rest = packed[8 + j];
      const auto put = [&](int at, int s, int m) HWY_ATTR {
        values[at] = {hn::Set(DF(), d * static_cast<float>(s)),
                      hn::Set(DF(), min * static_cast<float>(m))};
      };
      put(j, low & 63, high & 63);
      put(j + 4, (rest & 15) | low >> 6 << 4, rest >> 4 | high >> 6 << 4);
    }
    for (int c = 0; c < 4; ++c)
      for (int l = 0; l < 32; l += 16)
        decode_nibbles(block + 16 + 32 * c + l, values[2 * c], values[2 * c + 1], 32,
                       y + 64 * c + l);
  }
};

struct DecodeQ6_K {
  static constexpr int kBlock = 256, kBytes = 210;

  template <class T>
  HWY_INLINE static void decode(const uint8_t *block, T *y) {
    const DF df;
    const DU du;
    const float d = get_scale(block + 208);
    const auto *scales = reinterpret_cast<const int8_t *>(block + 192);
    const VU low = hn::Set(du, 15u), high = hn::Set(du, 48u);
    for (int h = 0; h < 2; ++h)
      for (int l = 0; l < 32; l += kLanes) {
        const VU a = load_bytes(block + 64 * h + l), b = load_bytes(block + 64 * h + 32 + l);
        const VU top = load_bytes(block + 128 + 32 * h + l);
        const auto put = [&](int part, VU nibble, VU two) HWY_ATTR {
          const VF scale = hn::Set(df, d * static_cast<float>(scales[8 * h + 2 * part + l / 16]));
          const VF q = hn::Sub(to_float(hn::Or(nibble, hn::And(two, high))), hn::Set(df, 32.0f));
          store_rounded(hn::Mul(scale, q), y + 128 * h + 32 * part + l);
        };
        put(0, hn::And(a, low), hn::ShiftLeft<4>(top));
        put(1, hn::And(b, low), hn::ShiftLeft<2>(top));
        put(2, hn::ShiftRight<4>(a), top);
        put(3, hn::ShiftRight<4>(b), hn::ShiftRight<2>(top));
      }
  }
};

/// Values of E2M1 codes under one exponent byte.
struct MXFP4Table {
  VF values;

  explicit HWY_INLINE MXFP4Table(uint32_t e) {
    alignas(64) static constexpr float kValues[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,
                                                      4.0f,  6.0f,  0.0f,  -0.5f, -1.0f, -1.5f,
                                                      -2.0f, -3.0f, -4.0f, -6.0f};
    const uint32_t power = e == 255 ? 0x7FC00000u : e == 0 ? 0x00400000u : e << 23;
    values = hn::Mul(hn::Load(DF(), kValues), hn::Set(DF(), float_of(power)));
  }
  /// Codes 0..15.
  HWY_INLINE VF at(VU code) const {
    const DU du;
    if constexpr (kLanes == 16) {
      return hn::TableLookupLanes(values, hn::IndicesFromVec(DF(), hn::BitCast(DI(), code)));
    } else {  // magnitudes looked up; code 8 is +0 too
      const VU small = hn::And(code, hn::Set(du, 7u));
      const VF magnitude =
          hn::TableLookupLanes(values, hn::IndicesFromVec(DF(), hn::BitCast(DI(), small)));
      const VU sign = hn::ShiftLeft<28>(hn::And(code, hn::Set(du, 8u)));
      const VU signed_bits = hn::Xor(hn::BitCast(du, magnitude), sign);
      return hn::BitCast(DF(), hn::IfThenElse(hn::Eq(small, hn::Zero(du)),
                                              hn::BitCast(du, magnitude), signed_bits));
    }
  }
};

struct DecodeMXFP4 {
  static constexpr int kBlock = 32, kBytes = 17;

  template <class T>
  HWY_INLINE static void decode(const uint8_t *block, T *y) {
    const MXFP4Table table(block[0]);
    for (int j = 0; j < 16; j += kLanes) {
      const VU v = load_bytes(block + 1 + j);
      store_rounded(table.at(hn::And(v, hn::Set(DU(), 15u))), y + j);
      store_rounded(table.at(hn::ShiftRight<4>(v)), y + 16 + j);
    }
  }
};

/// 32 codes in order.
template <class T>
HWY_INLINE void decode_mxfp4(const uint8_t *codes, uint32_t e, T *y) {
  const MXFP4Table table(e);
  for (int i = 0; i < 32; i += kLanes)
    store_rounded(table.at(load_packed<4>(codes + i / 2)), y + i);
}

/// 128 codes.
template <class T>
HWY_INLINE void decode_i2_s(const uint8_t *codes, const TernaryTable &table, T *y) {
  const VU mask = hn::Set(DU(), 3u);
  for (int p = 0; p < 32; p += kLanes) {
    const VU bytes = load_bytes(codes + p);
    store_rounded(table.at(hn::ShiftRight<6>(bytes)), y + p);
    store_rounded(table.at(hn::And(hn::ShiftRight<4>(bytes), mask)), y + 32 + p);
    store_rounded(table.at(hn::And(hn::ShiftRight<2>(bytes), mask)), y + 64 + p);
    store_rounded(table.at(hn::And(bytes, mask)), y + 96 + p);
  }
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
