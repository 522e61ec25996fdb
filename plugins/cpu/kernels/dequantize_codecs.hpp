// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Decoders: codes -> f32 -> the element type of y.

#include "quant_driver.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

/// kLanes bytes as u32.
HWY_INLINE VU load_bytes(const uint8_t *p) {
  return hn::PromoteTo(DU(), hn::LoadU(hn::Rebind<uint8_t, DU>(), p));
}
HWY_INLINE VF to_float(VU small) { return hn::ConvertTo(DF(), hn::BitCast(DI(), small)); }
/// kLanes signed bytes as f32.
HWY_INLINE VF load_codes(const uint8_t *p) {
  const hn::Rebind<int8_t, DF> d8;
  return hn::ConvertTo(DF(),
                       hn::PromoteTo(DI(), hn::LoadU(d8, reinterpret_cast<const int8_t *>(p))));
}
HWY_INLINE float get_scale(const uint8_t *p) {
  return load_scalar(reinterpret_cast<const float16_t *>(p));
}

/// y = value(q) for 16 codes of four bits in the low and 16 in the high halves of 16 bytes; the
/// high ones go to y + apart. Where a register holds all 16 values they are computed once, then
/// looked up.
template <class T, class Value>
HWY_INLINE void decode_nibbles(const uint8_t *bytes, Value low_value, Value high_value, int apart,
                               T *y) {
  const DI di;
  if constexpr (kLanes == 16) {
    const VF codes = hn::Iota(DF(), 0.0f);
    const VF low_table = low_value(codes), high_table = high_value(codes);
    const VU v = load_bytes(bytes);
    const auto low = hn::BitCast(di, hn::And(v, hn::Set(DU(), 15u)));
    const auto high = hn::BitCast(di, hn::ShiftRight<4>(v));
    store_rounded(hn::TableLookupLanes(low_table, hn::IndicesFromVec(DF(), low)), y);
    store_rounded(hn::TableLookupLanes(high_table, hn::IndicesFromVec(DF(), high)), y + apart);
  } else {
    for (int j = 0; j < 16; j += kLanes) {
      const VU v = load_bytes(bytes + j);
      store_rounded(low_value(to_float(hn::And(v, hn::Set(DU(), 15u)))), y + j);
      store_rounded(high_value(to_float(hn::ShiftRight<4>(v))), y + apart + j);
    }
  }
}

/// (q - offset) * d
struct CenteredValue {
  VF offset, d;
  HWY_INLINE VF operator()(VF q) const { return hn::Mul(hn::Sub(q, offset), d); }
};
/// q * d + m, not fused
struct OffsetValue {
  VF d, m;
  HWY_INLINE VF operator()(VF q) const { return hn::Add(hn::Mul(q, d), m); }
};

struct DecodeQ4_0 {
  static constexpr int kBlock = 32, kBytes = 18;

  template <class T>
  HWY_INLINE static void decode(const uint8_t *block, T *y) {
    const CenteredValue value{hn::Set(DF(), 8.0f), hn::Set(DF(), get_scale(block))};
    decode_nibbles(block + 2, value, value, 16, y);
  }
};

struct DecodeQ4_1 {
  static constexpr int kBlock = 32, kBytes = 20;

  template <class T>
  HWY_INLINE static void decode(const uint8_t *block, T *y) {
    const OffsetValue value{hn::Set(DF(), get_scale(block)), hn::Set(DF(), get_scale(block + 2))};
    decode_nibbles(block + 4, value, value, 16, y);
  }
};

/// 32 codes of five bits: nibbles, and fifth bits in four bytes.
template <class T, class Value>
HWY_INLINE void decode_fives(const uint8_t *fifth, const uint8_t *nibbles, Value value, T *y) {
  const DU du;
  const auto with_fifth = [&](VU low, int i) HWY_ATTR {
    const auto set = hn::LoadMaskBits(du, fifth + i / 8);
    return to_float(hn::Or(low, hn::IfThenElseZero(set, hn::Set(du, 16u))));
  };
  for (int j = 0; j < 16; j += kLanes) {
    const VU v = load_bytes(nibbles + j);
    store_rounded(value(with_fifth(hn::And(v, hn::Set(du, 15u)), j)), y + j);
    store_rounded(value(with_fifth(hn::ShiftRight<4>(v), 16 + j)), y + 16 + j);
  }
}

struct DecodeQ5_0 {
  static constexpr int kBlock = 32, kBytes = 22;

  template <class T>
  HWY_INLINE static void decode(const uint8_t *block, T *y) {
    decode_fives(block + 2, block + 6,
                 CenteredValue{hn::Set(DF(), 16.0f), hn::Set(DF(), get_scale(block))}, y);
  }
};

struct DecodeQ5_1 {
  static constexpr int kBlock = 32, kBytes = 24;

  template <class T>
  HWY_INLINE static void decode(const uint8_t *block, T *y) {
    decode_fives(block + 4, block + 8,
                 OffsetValue{hn::Set(DF(), get_scale(block)), hn::Set(DF(), get_scale(block + 2))},
                 y);
  }
};

struct DecodeQ8_0 {
  static constexpr int kBlock = 32, kBytes = 34;

  template <class T>
  HWY_INLINE static void decode(const uint8_t *block, T *y) {
    const VF d = hn::Set(DF(), get_scale(block));
    for (int j = 0; j < kBlock; j += kLanes)
      store_rounded(hn::Mul(load_codes(block + 2 + j), d), y + j);
  }
};

/// The n <= 8 bytes at p, as the low bytes of a number.
template <int kBytes>
HWY_INLINE uint64_t load_word(const uint8_t *p) {
  if constexpr (kBytes == 3 || kBytes == 5 || kBytes == 6) {
    // In two loads: a copy of so many bytes goes through memory.
    constexpr int kFirst = kBytes == 3 ? 2 : 4;
    return load_word<kFirst>(p) | load_word<kBytes - kFirst>(p + kFirst) << 8 * kFirst;
  } else {
    uint64_t word = 0;
    memcpy(&word, p, kBytes);
    return word;
  }
}

/// Where in eight codes' bytes the code of each lane starts: a shuffle that brings its two bytes
/// into the lane, and the bits before it in them.
struct CodePlaces {
  uint8_t bytes[4 * kLanes];
  uint32_t shifts[kLanes];
};
template <int kBits>
constexpr CodePlaces code_places() {
  CodePlaces places{};
  for (int i = 0; i < kLanes; ++i) {
    const int bit = i % 8 * kBits;
    places.bytes[4 * i] = static_cast<uint8_t>(bit / 8);
    places.bytes[4 * i + 1] = static_cast<uint8_t>(bit / 8 + 1);
    places.bytes[4 * i + 2] = places.bytes[4 * i + 3] = 0x80;  // zero
    places.shifts[i] = static_cast<uint32_t>(bit % 8);
  }
  return places;
}

/// The kLanes codes of kBits bits at p, as u32. Reads kLanes * kBits / 8 bytes.
template <int kBits>
HWY_INLINE VU load_packed(const uint8_t *p) {
  const DU du;
  const D8 d8;
  alignas(64) static constexpr CodePlaces kPlaces = code_places<kBits>();
  const hn::Repartition<uint64_t, DF> d64;
  auto words = hn::Set(d64, load_word<kBits>(p));
  if constexpr (kLanes == 16) {
    const hn::Half<decltype(d64)> half;
    words =
        hn::Combine(d64, hn::Set(half, load_word<kBits>(p + kBits)), hn::LowerHalf(half, words));
  }
  const VB bytes = hn::TableLookupBytesOr0(hn::BitCast(d8, words), hn::Load(d8, kPlaces.bytes));
  const VU shifted = hn::Shr(hn::BitCast(du, bytes), hn::Load(du, kPlaces.shifts));
  return hn::And(shifted, hn::Set(du, (1u << kBits) - 1));
}

/// One group of MLX affine: a product and a sum, each rounded to the dtype of the scales.
template <int kBits, class TS, class T>
HWY_INLINE void decode_affine(const uint8_t *codes, int64_t group, float scale, float bias, T *y) {
  const VF s = hn::Set(DF(), scale), b = hn::Set(DF(), bias);
  for (int64_t i = 0; i < group; i += kLanes) {
    VU q;
    if constexpr (kBits == 8)
      q = load_bytes(codes + i);
    else
      q = load_packed<kBits>(codes + i * kBits / 8);
    const VF product = rounded<TS>(hn::Mul(to_float(q), s));
    VF value = hn::Add(product, b);
    if constexpr (!__is_same(TS, T)) value = rounded<TS>(value);
    store_rounded(value, y + i);
  }
}

/// n int8 codes times one scale.
template <class T>
HWY_INLINE void decode_ternary(const uint8_t *codes, int64_t n, float scale, T *y) {
  const VF m = hn::Set(DF(), scale);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_rounded(hn::Mul(load_codes(codes + i), m), y + i);
  if (i < n) {
    uint8_t rest[kLanes] = {};
    T out[kLanes];
    memcpy(rest, codes + i, static_cast<size_t>(n - i));
    store_rounded(hn::Mul(load_codes(rest), m), out);
    memcpy(y + i, out, static_cast<size_t>(n - i) * sizeof(T));
  }
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
