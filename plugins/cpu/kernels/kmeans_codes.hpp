// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Values as small integers, the 32-bit words in which they are multiplied, and their sums. Part of
/// the kernel sources (needs SY_ISA).

#include <string.h>

#include "kmeans_products_intrinsics.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

/// rint((x - origin) rate), ties to even, limited to -most..most, of d values, eight at a time:
/// sink(m, codes) gets those of columns m..m+7, zero beyond the last. Without an origin it is 0.
template <class Code, class Sink>
HWY_INLINE void encode(const float *HWY_RESTRICT x, const float *HWY_RESTRICT origin, int64_t d,
                       double rate, double most, const Sink &sink) {
  const hn::CappedTag<double, 8> f64;
  const hn::Rebind<float, decltype(f64)> f32;
  const hn::Rebind<int32_t, decltype(f64)> i32;
  const hn::Rebind<Code, decltype(f64)> narrow;
  constexpr int64_t kStep = hn::MaxLanes(f64);
  for (int64_t m = 0; m < d; m += 8) {
    alignas(16) Code codes[8];
    for (int64_t at = 0; at < 8; at += kStep) {
      const int64_t left = d - m - at;
      const auto read = [&](const float *from) HWY_ATTR {
        const float *p = from + m + at;
        const auto v = left >= kStep ? hn::LoadU(f32, p)
                       : left > 0
                           ? hn::MaskedLoad(hn::FirstN(f32, static_cast<size_t>(left)), f32, p)
                           : hn::Zero(f32);
        return hn::PromoteTo(f64, v);
      };
      auto v = read(x);
      if (origin != nullptr) v = hn::Sub(v, read(origin));
      const auto scaled = hn::Mul(v, hn::Set(f64, rate));
      const auto limited =
          hn::Min(hn::Max(hn::Round(scaled), hn::Set(f64, -most)), hn::Set(f64, most));
      hn::StoreU(hn::DemoteTo(narrow, hn::DemoteTo(i32, limited)), narrow, codes + at);
    }
    sink(m, codes);
  }
}

/// fn(block, word) for the codes of the columns m..m+7 of d.
template <class Code, class Fn>
HWY_INLINE void each_word(int64_t d, int64_t m, const Code *eight, const Fn &fn) {
  constexpr int64_t kCodes = 4 / sizeof(Code);
  for (int64_t i = 0; i < 8 && m + i < d; i += kCodes) {
    uint32_t word;
    memcpy(&word, eight + i, sizeof word);
    fn((m + i) / kCodes, word);
  }
}

using Ints = hn::RebindToSigned<Points>;
constexpr int64_t kCodePanel = 2 * kLanes;  // points in a panel of codes

HWY_INLINE hn::Vec<Ints> load_words(const uint32_t *x) {
  return hn::BitCast(Ints(), hn::Load(hn::RebindToUnsigned<Points>(), x));
}

/// One centroid's sums with a panel of codes.
template <class Products>
struct PanelSums {
  hn::Vec<Ints> at0, at1;
  HWY_INLINE explicit PanelSums(int32_t first) : at0(hn::Set(Ints(), first)), at1(at0) {}
  HWY_INLINE void add(hn::Vec<Ints> x0, hn::Vec<Ints> x1, uint32_t word) {
    const auto c = hn::Set(Ints(), static_cast<int32_t>(word));
    Products::add(at0, x0, c);
    Products::add(at1, x1, c);
  }
};

/// Codes of centroids in words, kGroup of them side by side: [groups][words][kGroup].
struct WordColumns {
  struct Scope {  // what products need of the processor, for rows of d codes
    explicit Scope(int64_t) {}
  };
  static int64_t words_of(int64_t words) { return words; }
  static uint64_t code_words(uint64_t groups, int64_t words) {
    return groups * static_cast<uint64_t>(words * kGroup);
  }
  static int64_t word_at(int64_t g, int64_t r, int64_t word, int64_t words) {
    return (g * words + word) * kGroup + r;
  }
  static void clear_group(void *codes, int64_t g, int64_t words) {
    memset(static_cast<int32_t *>(codes) + g * words * kGroup, 0,
           static_cast<size_t>(words * kGroup) * sizeof(int32_t));
  }
};

/// take(j, sums, sums) for the k centroids, and those that pad their last group, in their order:
/// starts[j] and the products of panel [blocks][kCodePanel] with codes [groups][blocks][kGroup].
template <class Products, class Take>
HWY_INLINE void each_sum(const uint32_t *HWY_RESTRICT panel, int64_t blocks, int64_t k,
                         const uint32_t *HWY_RESTRICT codes, const int32_t *starts,
                         const Take &take) {
  using Sums = PanelSums<Products>;
  for (int64_t j = 0; j < k; j += kGroup) {
    const int32_t *first = starts + j;
    // By name: as an array they would be kept in memory too. Narrow groups need four of them.
    constexpr int64_t kMore = kGroup == 8 ? 4 : 0;
    Sums s0(first[0]), s1(first[1]), s2(first[2]), s3(first[3]), s4(first[kMore]),
        s5(first[kMore + 1]), s6(first[kMore + 2]), s7(first[kMore + 3]);
    const uint32_t *HWY_RESTRICT x = panel;
    for (int64_t b = 0; b < blocks; ++b, x += kCodePanel, codes += kGroup) {
      const auto x0 = load_words(x), x1 = load_words(x + kLanes);
      s0.add(x0, x1, codes[0]);
      s1.add(x0, x1, codes[1]);
      s2.add(x0, x1, codes[2]);
      s3.add(x0, x1, codes[3]);
      if constexpr (kGroup == 8) {
        s4.add(x0, x1, codes[4]);
        s5.add(x0, x1, codes[5]);
        s6.add(x0, x1, codes[6]);
        s7.add(x0, x1, codes[7]);
      }
    }
    take(j, s0.at0, s0.at1);
    take(j + 1, s1.at0, s1.at1);
    take(j + 2, s2.at0, s2.at1);
    take(j + 3, s3.at0, s3.at1);
    if constexpr (kGroup == 8) {
      take(j + 4, s4.at0, s4.at1);
      take(j + 5, s5.at0, s5.at1);
      take(j + 6, s6.at0, s6.at1);
      take(j + 7, s7.at0, s7.at1);
    }
  }
}

/// For Int8Method.
template <class Products>
struct CodeColumns : WordColumns, Products {
  template <class Take>
  static HWY_INLINE void each_sum(const uint32_t *panel, int64_t words, int64_t k,
                                  const uint32_t *codes, const int32_t *starts, const Take &take) {
    cpu::each_sum<Products>(panel, words, k, codes, starts, take);
  }
};

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
