// SPDX-License-Identifier: Apache-2.0
/// 64 bytes, 16 integers or 16 floats as one value, in one register or two: what the inner loops of
/// quantised matmul are written in. Highway 1.0 has no word for products of unsigned and signed
/// bytes. Included by one source file for each way to multiply, hence no include guard's worth of
/// sharing: everything has internal linkage, because the files are built for different processors.

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace matmul {
namespace {

#define SY_ALWAYS [[gnu::always_inline]] static inline

SY_ALWAYS short load_short(const void *p) {
  short v;
  memcpy(&v, p, sizeof(v));
  return v;
}
SY_ALWAYS float load_float(const void *p) {
  float v;
  memcpy(&v, p, sizeof(v));
  return v;
}
SY_ALWAYS __m128i load16(const void *p) { return _mm_loadu_si128(static_cast<const __m128i *>(p)); }
SY_ALWAYS __m256i load32(const void *p) {
  return _mm256_loadu_si256(static_cast<const __m256i *>(p));
}

/// Lanes 0..7 added to 8..15, then 4, 2 and 1 apart.
SY_ALWAYS float sum8(__m256 v) {
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

#if defined(__AVX512BW__)

using Bytes = __m512i;
using Ints = __m512i;
using Floats = __m512;

SY_ALWAYS Bytes load64(const void *p) { return _mm512_loadu_si512(p); }
SY_ALWAYS Bytes join32(__m256i low, __m256i high) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
SY_ALWAYS Bytes low_half(__m256i low) { return _mm512_zextsi256_si512(low); }
/// Low nibbles of p's 16 bytes, then high ones, then q's.
SY_ALWAYS Bytes nibbles(const void *p, const void *q) {
  const __m512i low = _mm512_broadcast_i32x4(load16(p));
  const __m512i both = _mm512_mask_broadcast_i32x4(low, 0xFF00, load16(q));
  const __m512i shifts = _mm512_broadcast_i64x4(_mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
  return _mm512_and_si512(_mm512_srlv_epi32(both, shifts), _mm512_set1_epi8(15));
}
SY_ALWAYS Bytes flip(Bytes v) { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); }
template <int kBits>
SY_ALWAYS Bytes shifted_pairs(Bytes v) {
  return _mm512_and_si512(_mm512_srli_epi16(v, kBits), _mm512_set1_epi8(3));
}
/// v * 3 >> 8 for bytes: averages, which round up, of v - 1 give 3/4 of v as it is needed.
SY_ALWAYS Bytes top_digit(Bytes v) {
  const Bytes less = _mm512_subs_epu8(v, _mm512_set1_epi8(1));
  const Bytes half = _mm512_avg_epu8(less, _mm512_setzero_si512());
  return shifted_pairs<6>(_mm512_avg_epu8(less, half));
}
SY_ALWAYS Ints load_ints(const int32_t *p) { return _mm512_loadu_si512(p); }
SY_ALWAYS Ints no_ints() { return _mm512_setzero_si512(); }
SY_ALWAYS Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
SY_ALWAYS Floats no_floats() { return _mm512_setzero_ps(); }
SY_ALWAYS Floats load_floats(const float *p) { return _mm512_loadu_ps(p); }
SY_ALWAYS Floats floats(Ints v) { return _mm512_cvtepi32_ps(v); }
SY_ALWAYS Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
SY_ALWAYS Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
/// In lanes 0..7 only.
SY_ALWAYS Floats fma_low(Floats a, Floats b, Floats c) {
  return _mm512_mask3_fmadd_ps(a, b, c, 0x00FF);
}
/// a in lanes 0..7, b in the others.
SY_ALWAYS Floats halves(const void *a, const void *b) {
  const __m256i low = _mm256_set1_epi16(load_short(a));
  return _mm512_cvtph_ps(_mm256_mask_broadcastw_epi16(low, 0xFF00, _mm_loadu_si16(b)));
}
SY_ALWAYS Floats brains(const void *a, const void *b) {
  const __m256i low = _mm256_set1_epi16(load_short(a));
  const __m256i both = _mm256_mask_broadcastw_epi16(low, 0xFF00, _mm_loadu_si16(b));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(both), 16));
}
SY_ALWAYS Floats singles(const void *a, const void *b) {
  return _mm512_mask_broadcastss_ps(_mm512_set1_ps(load_float(a)), 0xFF00,
                                    _mm_set_ss(load_float(b)));
}
SY_ALWAYS float sum16(Floats v) {
  return sum8(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}

/// Products of unsigned and signed bytes without VNNI. Pairs must stay below 2^15.
struct Pairs {
  static constexpr bool kFull = false;
  SY_ALWAYS Ints dot(Ints sum, Bytes u, Bytes s) {
    const __m512i pairs = _mm512_maddubs_epi16(u, s);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
  /// Both signed; s is at least -127.
  SY_ALWAYS Ints dot_signed(Bytes w, Bytes s) {
    const __m512i turned =
        _mm512_mask_sub_epi8(s, _mm512_movepi8_mask(w), _mm512_setzero_si512(), s);
    return dot(no_ints(), _mm512_abs_epi8(w), turned);
  }
};

#else

struct Bytes {
  __m256i a, b;
};
struct Ints {
  __m256i a, b;
};
struct Floats {
  __m256 a, b;
};

SY_ALWAYS Bytes load64(const void *p) {
  return {load32(p), load32(static_cast<const uint8_t *>(p) + 32)};
}
SY_ALWAYS Bytes join32(__m256i low, __m256i high) { return {low, high}; }
SY_ALWAYS Bytes low_half(__m256i low) { return {low, _mm256_setzero_si256()}; }
SY_ALWAYS Bytes nibbles(const void *p, const void *q) {
  const __m256i shifts = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4), mask = _mm256_set1_epi8(15);
  const __m256i low = _mm256_srlv_epi32(_mm256_broadcastsi128_si256(load16(p)), shifts);
  const __m256i high = _mm256_srlv_epi32(_mm256_broadcastsi128_si256(load16(q)), shifts);
  return {_mm256_and_si256(low, mask), _mm256_and_si256(high, mask)};
}
SY_ALWAYS Bytes flip(Bytes v) {
  const __m256i top = _mm256_set1_epi8(-128);
  return {_mm256_xor_si256(v.a, top), _mm256_xor_si256(v.b, top)};
}
template <int kBits>
SY_ALWAYS Bytes shifted_pairs(Bytes v) {
  const __m256i mask = _mm256_set1_epi8(3);
  return {_mm256_and_si256(_mm256_srli_epi16(v.a, kBits), mask),
          _mm256_and_si256(_mm256_srli_epi16(v.b, kBits), mask)};
}
SY_ALWAYS __m256i three_quarters(__m256i v) {
  const __m256i less = _mm256_subs_epu8(v, _mm256_set1_epi8(1));
  return _mm256_avg_epu8(less, _mm256_avg_epu8(less, _mm256_setzero_si256()));
}
SY_ALWAYS Bytes top_digit(Bytes v) {
  return shifted_pairs<6>(Bytes{three_quarters(v.a), three_quarters(v.b)});
}
SY_ALWAYS Ints load_ints(const int32_t *p) { return {load32(p), load32(p + 8)}; }
SY_ALWAYS Ints no_ints() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
SY_ALWAYS Ints add(Ints x, Ints y) {
  return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
SY_ALWAYS Floats no_floats() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
SY_ALWAYS Floats load_floats(const float *p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
SY_ALWAYS Floats floats(Ints v) { return {_mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b)}; }
SY_ALWAYS Floats mul(Floats x, Floats y) {
  return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
SY_ALWAYS Floats fma(Floats x, Floats y, Floats z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
SY_ALWAYS Floats fma_low(Floats x, Floats y, Floats z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), z.b};
}
SY_ALWAYS Floats halves(const void *a, const void *b) {
  return {_mm256_cvtph_ps(_mm_set1_epi16(load_short(a))),
          _mm256_cvtph_ps(_mm_set1_epi16(load_short(b)))};
}
SY_ALWAYS __m256 brain(const void *p) {
  return _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(load_short(p)) * 65536));
}
SY_ALWAYS Floats brains(const void *a, const void *b) { return {brain(a), brain(b)}; }
SY_ALWAYS Floats singles(const void *a, const void *b) {
  return {_mm256_set1_ps(load_float(a)), _mm256_set1_ps(load_float(b))};
}
SY_ALWAYS float sum16(Floats v) { return sum8(_mm256_add_ps(v.a, v.b)); }

struct Pairs {
  static constexpr bool kFull = false;
  SY_ALWAYS __m256i dot_one(__m256i sum, __m256i u, __m256i s) {
    return _mm256_add_epi32(sum,
                            _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1)));
  }
  SY_ALWAYS Ints dot(Ints sum, Bytes u, Bytes s) {
    return {dot_one(sum.a, u.a, s.a), dot_one(sum.b, u.b, s.b)};
  }
  SY_ALWAYS Ints dot_signed(Bytes w, Bytes s) {
    return dot(no_ints(), Bytes{_mm256_abs_epi8(w.a), _mm256_abs_epi8(w.b)},
               Bytes{_mm256_sign_epi8(s.a, w.a), _mm256_sign_epi8(s.b, w.b)});
  }
};

#endif

}  // namespace
}  // namespace matmul
}  // namespace SY_ISA
}  // namespace switchyard::cpu
