// SPDX-License-Identifier: Apache-2.0
// Dot products of bf16 pairs (AVX512-BF16) and int8 quadruples (AVX512-VNNI), which Highway 1.0 has
// no word for.
#include <immintrin.h>

#include "kernels.hpp"

namespace switchyard::limits {
namespace {

struct Bf16 {
  using V = __m512;
  static V set(int v) { return _mm512_set1_ps(static_cast<float>(v)); }
  static V dot(V sum, __m512i x) { return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)x); }
  static V add(V a, V b) { return _mm512_add_ps(a, b); }
  static float first(V v) { return _mm512_cvtss_f32(v); }
};

struct Int8 {
  using V = __m512i;
  static V set(int v) { return _mm512_set1_epi32(v); }
  static V dot(V sum, __m512i x) { return _mm512_dpbusd_epi32(sum, x, x); }
  static V add(V a, V b) { return _mm512_add_epi32(a, b); }
  static float first(V v) { return static_cast<float>(_mm512_cvtsi512_si32(v)); }
};

/// Twelve chains, more than latency times throughput of both; variables of their own, because an
/// array of them would live in memory.
template <class T>
void dots(uint64_t rounds, float *sink) noexcept {
  const int start = static_cast<int>(*sink) & 0xFF;
  auto a = T::set(start + 1), b = T::set(start + 2), c = T::set(start + 3), d = T::set(start + 4),
       e = T::set(start + 5), f = T::set(start + 6), g = T::set(start + 7), h = T::set(start + 8),
       i = T::set(start + 9), j = T::set(start + 10), k = T::set(start + 11),
       l = T::set(start + 12);
  const __m512i x = _mm512_set1_epi16(0x3C00);  // 2^-7 as bf16
  for (uint64_t r = 0; r < rounds; ++r) {
    a = T::dot(a, x);
    b = T::dot(b, x);
    c = T::dot(c, x);
    d = T::dot(d, x);
    e = T::dot(e, x);
    f = T::dot(f, x);
    g = T::dot(g, x);
    h = T::dot(h, x);
    i = T::dot(i, x);
    j = T::dot(j, x);
    k = T::dot(k, x);
    l = T::dot(l, x);
  }
  const auto low = T::add(T::add(T::add(a, b), T::add(c, d)), T::add(e, f));
  *sink = T::first(T::add(low, T::add(T::add(T::add(g, h), T::add(i, j)), T::add(k, l))));
}

}  // namespace

const ComputeKernel bf16_avx512 = {"bf16", "avx512_bf16", 2.0 * 32 * 12, dots<Bf16>};
const ComputeKernel int8_avx512 = {"int8", "avx512_vnni", 2.0 * 64 * 12, dots<Int8>};

}  // namespace switchyard::limits
