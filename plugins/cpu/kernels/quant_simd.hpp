// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Vector helpers of the quantisation kernels: loads of f32, f16 and bf16 as f32, rounded stores,
/// codes as bytes. For kernel sources only (needs SY_ISA). Plain arithmetic must not be fused into
/// multiply-adds: the build sets -ffp-contract=off.

#include <hwy/cache_control.h>
#include <hwy/highway.h>
#include <stdint.h>
#include <string.h>
#include <switchyard/plugin.h>

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace quant {

namespace hn = hwy::HWY_NAMESPACE;
using hwy::bfloat16_t;
using hwy::float16_t;

using DF = hn::ScalableTag<float>;
using DU = hn::RebindToUnsigned<DF>;
using DI = hn::RebindToSigned<DF>;
using VF = hn::Vec<DF>;
using VU = hn::Vec<DU>;
inline constexpr int kLanes = static_cast<int>(hn::MaxLanes(DF()));  ///< floats in a vector

inline constexpr uint32_t kInfBits = 0x7F800000u;
/// 1.5 * 2^23: adding it rounds |v| < 2^22 to the nearest even integer, which then stands in the
/// low bits of the sum (two's complement).
inline constexpr float kMagic = 12582912.0f;

template <class T>
HWY_INLINE VF load_f32(const T *p) {
  const DF df;
  if constexpr (sizeof(T) == 4) {
    return hn::LoadU(df, p);
  } else {
    return hn::PromoteTo(df, hn::LoadU(hn::Rebind<T, DF>(), p));
  }
}

/// The upper halves of lanes hold v rounded to bf16 (nearest, ties to even); NaN stays NaN.
HWY_INLINE VU bf16_high_halves(VF v) {
  const DU du;
  const VU bits = hn::BitCast(du, v);
  const VU even = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const VU rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7FFF)), even);
  const VU nan = hn::Or(bits, hn::Set(du, 0x400000));
  return hn::IfThenElse(hn::RebindMask(du, hn::Ne(v, v)), nan, rounded);
}

/// Rounds to T (nearest, ties to even).
template <class T>
HWY_INLINE void store_rounded(VF v, T *p) {
  if constexpr (sizeof(T) == 4) {
    hn::StoreU(v, DF(), p);
  } else if constexpr (__is_same(T, float16_t)) {
    const hn::Rebind<float16_t, DF> dh;
    hn::StoreU(hn::DemoteTo(dh, v), dh, p);
  } else {
    const hn::Rebind<uint16_t, DF> dh;
    hn::StoreU(hn::TruncateTo(dh, hn::ShiftRight<16>(bf16_high_halves(v))), dh,
               reinterpret_cast<uint16_t *>(p));
  }
}

/// v rounded to T, as f32.
template <class T>
HWY_INLINE VF rounded(VF v) {
  if constexpr (sizeof(T) == 4) {
    return v;
  } else if constexpr (__is_same(T, float16_t)) {
    return hn::PromoteTo(DF(), hn::DemoteTo(hn::Rebind<float16_t, DF>(), v));
  } else {
    return hn::BitCast(DF(), hn::And(bf16_high_halves(v), hn::Set(DU(), 0xFFFF0000u)));
  }
}

HWY_INLINE uint32_t bits_of(float v) { return __builtin_bit_cast(uint32_t, v); }
HWY_INLINE float float_of(uint32_t v) { return __builtin_bit_cast(float, v); }

/// The bits of v rounded to f16.
HWY_INLINE uint16_t f16_bits(float v) {
  const hn::CappedTag<float, 4> d4;
  const hn::Rebind<float16_t, decltype(d4)> dh;
  const hn::Rebind<uint16_t, decltype(d4)> du;
  return hn::GetLane(hn::BitCast(du, hn::DemoteTo(dh, hn::Set(d4, v))));
}

template <class T>
HWY_INLINE float load_scalar(const T *p) {
  if constexpr (sizeof(T) == 4) {
    return *p;
  } else {
    uint16_t h;
    memcpy(&h, p, sizeof(h));
    if constexpr (__is_same(T, bfloat16_t)) {
      return float_of(static_cast<uint32_t>(h) << 16);
    } else {
      const hn::CappedTag<float, 4> d4;
      const hn::Rebind<uint16_t, decltype(d4)> du;
      const hn::Rebind<float16_t, decltype(d4)> dh;
      return hn::GetLane(hn::PromoteTo(d4, hn::BitCast(dh, hn::Set(du, h))));
    }
  }
}

template <class T>
HWY_INLINE void store_scalar(float v, T *p) {
  if constexpr (sizeof(T) == 4) {
    *p = v;
  } else if constexpr (__is_same(T, float16_t)) {
    const uint16_t h = f16_bits(v);
    memcpy(p, &h, sizeof(h));
  } else {
    const uint32_t b = bits_of(v);
    const uint32_t h = v != v ? (b >> 16 | 0x40u) : ((b + 0x7FFFu + (b >> 16 & 1u)) >> 16);
    const uint16_t h16 = static_cast<uint16_t>(h);
    memcpy(p, &h16, sizeof(h16));
  }
}

template <class T>
inline constexpr float kLargestFinite = sizeof(T) == 4             ? 3.40282347e+38f
                                        : __is_same(T, bfloat16_t) ? 3.38953139e+38f
                                                                   : 65504.0f;

/// The low byte of each lane, in order: kLanes bytes.
HWY_INLINE void store_bytes(VU v, uint8_t *p) {
#if HWY_TARGET <= HWY_AVX3
  _mm_storeu_si128(reinterpret_cast<__m128i *>(p), _mm512_cvtepi32_epi8(v.raw));
#else
  const hn::Rebind<uint8_t, DU> d8;
  hn::StoreU(hn::TruncateTo(d8, v), d8, p);
#endif
}

/// The low byte of each pair of lanes, in order: kLanes / 2 bytes.
HWY_INLINE void store_pair_bytes(VU v, uint8_t *p) {
#if HWY_TARGET <= HWY_AVX3
  _mm_storel_epi64(reinterpret_cast<__m128i *>(p), _mm512_cvtepi64_epi8(v.raw));
#else
  const hn::RepartitionToWide<DU> d64;
  const hn::Rebind<uint8_t, decltype(d64)> d8;
  hn::StoreU(hn::TruncateTo(d8, hn::BitCast(d64, v)), d8, p);
#endif
}

/// Bit i = lane i.
template <class M>
HWY_INLINE uint32_t mask_bits(M m) {
#if HWY_TARGET <= HWY_AVX3
  return static_cast<uint32_t>(m.raw);
#else
  return static_cast<uint32_t>(hn::detail::BitsFromMask(m));
#endif
}

/// |v| as bits: integers that order like magnitudes, infinities above all numbers, NaN above those.
HWY_INLINE VU magnitude_bits(VF v) {
  return hn::And(hn::BitCast(DU(), v), hn::Set(DU(), 0x7FFFFFFFu));
}

/// 1/d, and 0 where there is none.
HWY_INLINE float inverse(float d) {
  const float id = 1.0f / d;  // infinite for 0 and the least subnormals
  return (bits_of(id) & 0x7FFFFFFFu) == kInfBits ? 0.0f : id;
}

/// Narrowing works within 16 bytes: of the result, 32-bit lane 4b + k holds four codes of vector k,
/// part b. This puts them in order.
struct LaneOrder {
  int32_t lanes[kLanes];
};
constexpr LaneOrder order_of_narrowed() {
  LaneOrder order{};
  constexpr int kParts = kLanes / 4;
  for (int k = 0; k < 4; ++k)
    for (int b = 0; b < kParts; ++b) order.lanes[k * kParts + b] = 4 * b + k;
  return order;
}
alignas(64) inline constexpr LaneOrder kNarrowed = order_of_narrowed();

using D8 = hn::Repartition<uint8_t, DF>;
using VB = hn::Vec<D8>;
inline constexpr int kCodes = 4 * kLanes;  ///< codes of a byte each that fill a register

/// v rounded to the nearest integer, ties to even; |v| < 2^22.
HWY_INLINE hn::Vec<DI> to_int(VF v) {
#if HWY_TARGET <= HWY_AVX3
  return hn::Vec<DI>{_mm512_cvtps_epi32(v.raw)};
#elif HWY_ARCH_X86
  return hn::Vec<DI>{_mm256_cvtps_epi32(v.raw)};
#else
  return hn::NearestInt(v);
#endif
}

using VW = hn::Vec<hn::Repartition<int16_t, DF>>;

/// What ReorderDemote2To made of vectors a, b and of c, d: their lanes in order as bytes, of -128
/// to 127 with `kSigned`, else of 0 to 255.
template <bool kSigned>
HWY_INLINE VB narrow16(VW low, VW high) {
#if HWY_TARGET <= HWY_AVX3
  const VB bytes{kSigned ? _mm512_packs_epi16(low.raw, high.raw)
                         : _mm512_packus_epi16(low.raw, high.raw)};
#else
  const VB bytes{kSigned ? _mm256_packs_epi16(low.raw, high.raw)
                         : _mm256_packus_epi16(low.raw, high.raw)};
#endif
  const auto order = hn::SetTableIndices(DI(), kNarrowed.lanes);
  return hn::BitCast(D8(), hn::TableLookupLanes(hn::BitCast(DI(), bytes), order));
}

/// The lanes of a, b, c, d in order as bytes.
template <bool kSigned>
HWY_INLINE VB narrow(hn::Vec<DI> a, hn::Vec<DI> b, hn::Vec<DI> c, hn::Vec<DI> d) {
  const hn::Repartition<int16_t, DF> d16;
  return narrow16<kSigned>(hn::ReorderDemote2To(d16, a, b), hn::ReorderDemote2To(d16, c, d));
}

/// a0 + wa * a1 of neighbouring bytes, in 16 bits; b0 + wb * b1 of neighbouring 16 bits, in 32.
HWY_INLINE VB join_bytes(VB codes, int weight) {
#if HWY_TARGET <= HWY_AVX3
  return VB{
      _mm512_maddubs_epi16(codes.raw, _mm512_set1_epi16(static_cast<short>(weight << 8 | 1)))};
#else
  return VB{
      _mm256_maddubs_epi16(codes.raw, _mm256_set1_epi16(static_cast<short>(weight << 8 | 1)))};
#endif
}
HWY_INLINE VU join_words(VB words, int weight) {
#if HWY_TARGET <= HWY_AVX3
  return VU{_mm512_madd_epi16(words.raw, _mm512_set1_epi32(weight << 16 | 1))};
#else
  return VU{_mm256_madd_epi16(words.raw, _mm256_set1_epi32(weight << 16 | 1))};
#endif
}

/// Packs codes of kBits bits, a byte each, low bits first: kCodes * kBits / 8 bytes at `out`.
template <int kBits>
HWY_INLINE void pack_codes(VB codes, uint8_t *out) {
  if constexpr (kBits == 8) {
    hn::StoreU(codes, D8(), out);
  } else if constexpr (kBits == 4) {
    const VB pairs = join_bytes(codes, 16);
#if HWY_TARGET <= HWY_AVX3
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(out), _mm512_cvtepi16_epi8(pairs.raw));
#else
    const __m256i packed = _mm256_packus_epi16(pairs.raw, pairs.raw);
    _mm_storeu_si128(reinterpret_cast<__m128i *>(out),
                     _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
#endif
  } else {
    const VU fours = join_words(join_bytes(codes, 1 << kBits), 1 << 2 * kBits);
    if constexpr (kBits == 2) {
      store_bytes(fours, out);
    } else {
      const hn::Repartition<uint64_t, DF> d64;
      const auto low = hn::Set(d64, 0xFFFFFFFFu);
      const auto w = hn::BitCast(d64, fours);
      const auto eights =
          hn::Or(hn::And(w, low), hn::ShiftRight<32 - 4 * kBits>(hn::AndNot(low, w)));
      // kBits bytes of every eight.
      alignas(16) static constexpr uint8_t kKeep[3][16] = {
          {0, 1, 2, 8, 9, 10, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128},
          {0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 128, 128, 128, 128, 128, 128},
          {0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 128, 128, 128, 128}};
      const VB keep = hn::LoadDup128(D8(), kKeep[kBits == 3 ? 0 : kBits - 4]);
      alignas(64) uint8_t spread[kCodes];
      hn::Store(hn::TableLookupBytesOr0(hn::BitCast(D8(), eights), keep), D8(), spread);
      const hn::Full128<uint8_t> d128;
      constexpr size_t kPart = 2 * kBits, kBytes = kCodes / 16 * kPart;
      for (size_t at = 0, k = 0; at < kBytes; at += kPart, k += 16) {
        if (at + 16 <= kBytes)  // the next one overwrites what this has too much
          hn::StoreU(hn::Load(d128, spread + k), d128, out + at);
        else
          memcpy(out + at, spread + k, kPart);
      }
    }
  }
}

}  // namespace quant
}  // namespace SY_ISA
}  // namespace switchyard::cpu
