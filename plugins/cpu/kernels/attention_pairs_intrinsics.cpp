// SPDX-License-Identifier: Apache-2.0
// Products of bf16 pairs by AVX512-BF16's vdpbf16ps, for which Highway 1.0 has no word. All
// functions of this file but the one that hands out the table are compiled for it and have internal
// linkage.
#include "attention_pairs.hpp"

#if defined(__AVX512BW__)
#include <string.h>
// After the headers that others share.
#pragma GCC push_options
#pragma GCC target("avx512bf16")
#include <immintrin.h>

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace attention {
namespace {

constexpr int kRows = 16, kKeys = 8;

[[gnu::always_inline]] inline __m512bh spread(const void *pair) {
  int32_t word;
  memcpy(&word, pair, sizeof(word));
  return reinterpret_cast<__m512bh>(_mm512_set1_epi32(word));
}
[[gnu::always_inline]] inline __m512bh load(const uint32_t *pairs) {
  return reinterpret_cast<__m512bh>(_mm512_loadu_si512(pairs));
}

template <int NV>
void score(const uint32_t *__restrict q_t, const char *const *keys, int64_t pairs, float scale,
           float *__restrict s) {
  __m512 acc[kKeys][NV];
#pragma GCC unroll 8
  for (int a = 0; a < kKeys; ++a)
#pragma GCC unroll 3
    for (int n = 0; n < NV; ++n) acc[a][n] = _mm512_setzero_ps();
  for (int64_t e = 0; e < pairs; ++e) {
    __m512bh q[NV];
#pragma GCC unroll 3
    for (int n = 0; n < NV; ++n) q[n] = load(q_t + (e * NV + n) * kRows);
#pragma GCC unroll 8
    for (int a = 0; a < kKeys; ++a) {
      const __m512bh k = spread(keys[a] + 4 * e);
#pragma GCC unroll 3
      for (int n = 0; n < NV; ++n) acc[a][n] = _mm512_dpbf16_ps(acc[a][n], q[n], k);
    }
  }
  const __m512 c = _mm512_set1_ps(scale);
#pragma GCC unroll 8
  for (int a = 0; a < kKeys; ++a)
#pragma GCC unroll 3
    for (int n = 0; n < NV; ++n)
      _mm512_storeu_ps(s + (a * NV + n) * kRows, _mm512_mul_ps(acc[a][n], c));
}

template <int ND, int NV>
void value(const uint32_t *__restrict p, int32_t pairs, const uint32_t *__restrict v,
           int64_t v_stride, const float *alpha, float *__restrict o_t) {
  __m512 acc[ND][NV];
#pragma GCC unroll 8
  for (int a = 0; a < ND; ++a)
#pragma GCC unroll 3
    for (int n = 0; n < NV; ++n)
      acc[a][n] = _mm512_mul_ps(_mm512_loadu_ps(o_t + (a * NV + n) * kRows),
                                _mm512_loadu_ps(alpha + n * kRows));
  for (int32_t i = 0; i < pairs; ++i, p += NV * kRows, v += v_stride) {
    __m512bh w[NV];
#pragma GCC unroll 3
    for (int n = 0; n < NV; ++n) w[n] = load(p + n * kRows);
#pragma GCC unroll 8
    for (int a = 0; a < ND; ++a) {
      const __m512bh x = spread(v + a);
#pragma GCC unroll 3
      for (int n = 0; n < NV; ++n) acc[a][n] = _mm512_dpbf16_ps(acc[a][n], w[n], x);
    }
  }
#pragma GCC unroll 8
  for (int a = 0; a < ND; ++a)
#pragma GCC unroll 3
    for (int n = 0; n < NV; ++n) _mm512_storeu_ps(o_t + (a * NV + n) * kRows, acc[a][n]);
}

constexpr PairTiles kTiles = {{score<1>, score<2>, score<3>},
                              {value<kKeys, 1>, value<kKeys, 2>, value<kKeys, 3>},
                              {value<1, 1>, value<1, 2>, value<1, 3>}};

}  // namespace
}  // namespace attention
}  // namespace SY_ISA
}  // namespace switchyard::cpu
#pragma GCC pop_options
#endif

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace attention {

const PairTiles *pair_tiles() noexcept {
#if defined(__AVX512BW__)
  return &kTiles;
#else
  return nullptr;
#endif
}

}  // namespace attention
}  // namespace SY_ISA
}  // namespace switchyard::cpu
