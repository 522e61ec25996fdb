// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The products of Int8Scores by AVX-512 VNNI, which the caller has asked for. Part of the kernel
/// sources (needs SY_ISA, 512-bit vectors).

#include "kmeans_codes.hpp"
#include "kmeans_score_int8.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

/// For Int8Scores.
struct VnniGroups : WordColumns {
  static constexpr int32_t kOffset = 128;  // the first factor is unsigned
  static constexpr uint64_t kSums = 0;
  using I = hn::Vec<Ints>;

  /// take(g, sums) for the first groups.
  template <class Take>
  static HWY_INLINE void each_group(const int32_t *HWY_RESTRICT c, const int32_t *start,
                                    const uint32_t *panel, int32_t *, int64_t words,
                                    int64_t group_count, const Take &take) {
    for (int64_t g = 0; g < group_count; ++g) {
      const int32_t *first = start + g * kGroup;
      // By name: as an array they would be kept in memory too.
      Sums a(first[0]), b(first[1]), d(first[2]), e(first[3]), f(first[4]), h(first[5]),
          i(first[6]), j(first[7]);
      const uint32_t *HWY_RESTRICT x = panel;
      for (int64_t word = 0; word < words; ++word, x += kPanel, c += kGroup) {
        const I x0 = load_words(x), x1 = load_words(x + kLanes), x2 = load_words(x + 2 * kLanes);
        a.add(x0, x1, x2, c[0]);
        b.add(x0, x1, x2, c[1]);
        d.add(x0, x1, x2, c[2]);
        e.add(x0, x1, x2, c[3]);
        f.add(x0, x1, x2, c[4]);
        h.add(x0, x1, x2, c[5]);
        i.add(x0, x1, x2, c[6]);
        j.add(x0, x1, x2, c[7]);
      }
      const GroupSums sums = {{a.at0, a.at1, a.at2}, {b.at0, b.at1, b.at2}, {d.at0, d.at1, d.at2},
                              {e.at0, e.at1, e.at2}, {f.at0, f.at1, f.at2}, {h.at0, h.at1, h.at2},
                              {i.at0, i.at1, i.at2}, {j.at0, j.at1, j.at2}};
      take(g, sums);
    }
  }

 private:
  /// One centroid against a panel.
  struct Sums {
    I at0, at1, at2;
    HWY_INLINE explicit Sums(int32_t first) : at0(hn::Set(Ints(), first)), at1(at0), at2(at0) {}
    HWY_INLINE void add(I x0, I x1, I x2, int32_t four) {
      const I p = hn::Set(Ints(), four);
      ByteProducts::add(at0, x0, p);
      ByteProducts::add(at1, x1, p);
      ByteProducts::add(at2, x2, p);
    }
  };
};

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
