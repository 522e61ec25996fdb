// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Sums of products of small integers, four bytes of codes in each 32-bit lane. As text: Highway
/// has no word for the first, and promises no order of lanes for the second. Part of the kernel
/// sources (needs SY_ISA).

#include "kmeans_panel.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

#if HWY_TARGET <= HWY_AVX3
/// Four codes a lane, by AVX-512 VNNI, which the caller has asked for. Rows hold code + 128.
struct ByteProducts {
  using Code = int8_t;
  static constexpr int64_t kCodes = 4;
  static constexpr uint32_t kFlip = 0x80808080;  // adds 128 to each code of a row
  static constexpr int32_t kOffset = 128;
  template <class V>
  static HWY_INLINE void add(V &sum, V x, V c) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(x.raw), "v"(c.raw));
  }
};

/// Two 16-bit integers a lane, by AVX-512 VNNI too.
struct VnniPairs {
  template <class V>
  static HWY_INLINE void add(V &sum, V x, V c) {
    asm("vpdpwssd %2, %1, %0" : "+v"(sum.raw) : "v"(x.raw), "v"(c.raw));
  }
};
#endif

/// Two codes a lane.
struct PairProducts {
  using Code = int16_t;
  static constexpr int64_t kCodes = 2;
  static constexpr uint32_t kFlip = 0;
  static constexpr int32_t kOffset = 0;
  template <class V>
  static HWY_INLINE void add(V &sum, V x, V c) {
    V products;
    asm("vpmaddwd %2, %1, %0" : "=v"(products.raw) : "v"(x.raw), "v"(c.raw));
    sum = hn::Add(sum, products);
  }
};

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
