// SPDX-License-Identifier: Apache-2.0
/// The inner loops of quantised matmul over a way `Dot` to multiply bytes. One struct for each
/// format says how a step of a weight row is read and multiplied. Internal linkage, like
/// matmul_lanes_intrinsics.hpp.

// GCC 12 takes the undefined upper parts that its own intrinsics leave for our mistake.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include "matmul_int8.hpp"
#include "matmul_lanes_intrinsics.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace matmul {
namespace {

/// One step of one row of x.
struct StepOfX {
  const int8_t *codes;
  const int32_t *sums;
  const float *scales, *products;
};

/// Low nibbles of p's 16 bytes, then high ones.
SY_ALWAYS __m256i nibbles_of_one(const uint8_t *p) {
  const __m128i bytes = load16(p);
  const __m256i both =
      _mm256_inserti128_si256(_mm256_castsi128_si256(bytes), _mm_srli_epi16(bytes, 4), 1);
  return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/// Q4_0 and Q8_0: 64 values a step; scales before the codes.
template <class Dot>
struct Q4_0 {
  static constexpr int kValues = 64;
  static constexpr bool kHalves = true, kAffine = false;
  struct Step {
    Bytes codes;
    Floats scale;
  };
  template <bool kHalf>
  SY_ALWAYS Step load(const Weights &w, int64_t n, int64_t step) {
    const uint8_t *p = w.codes + n * w.row_bytes + step * 36;
    if constexpr (kHalf) {
      return {low_half(nibbles_of_one(p + 2)), halves(p, p)};
    } else {
      return {nibbles(p + 2, p + 20), halves(p, p + 18)};
    }
  }
  SY_ALWAYS Ints multiply(const Step &w, const StepOfX &x) {
    return Dot::dot(load_ints(x.sums), w.codes, load64(x.codes));
  }
};

template <class Dot>
struct Q8_0 {
  static constexpr int kValues = 64;
  static constexpr bool kHalves = true, kAffine = false;
  struct Step {
    Bytes codes;
    Floats scale;
  };
  template <bool kHalf>
  SY_ALWAYS Step load(const Weights &w, int64_t n, int64_t step) {
    const uint8_t *p = w.codes + n * w.row_bytes + step * 68;
    Bytes codes;
    if constexpr (kHalf)
      codes = low_half(load32(p + 2));
    else
      codes = join32(load32(p + 2), load32(p + 36));
    if constexpr (Dot::kFull) codes = flip(codes);
    return {codes, halves(p, kHalf ? p : p + 34)};
  }
  SY_ALWAYS Ints multiply(const Step &w, const StepOfX &x) {
    if constexpr (Dot::kFull)
      return Dot::dot(load_ints(x.sums), w.codes, load64(x.codes));
    else
      return Dot::dot_signed(w.codes, load64(x.codes));
  }
};

struct AffineStep {
  Bytes codes;
  Floats scale, bias;
};

/// Scales or biases of the two blocks of a step.
SY_ALWAYS Floats group_values(const Weights &w, const uint8_t *values, int64_t n, int64_t step,
                              bool half) {
  const int64_t size = w.bits / 8, row = n * w.groups;
  const int64_t first = 2 * step, second = half ? first : first + 1;
  const uint8_t *a = values + (row + (first >> w.blocks_shift)) * size;
  const uint8_t *b = values + (row + (second >> w.blocks_shift)) * size;
  if (w.bits == 32) return singles(a, b);
  return w.type == SY_TYPE_BFLOAT ? brains(a, b) : halves(a, b);
}

template <class Dot>
struct Affine4 {
  static constexpr int kValues = 64;
  static constexpr bool kHalves = true, kAffine = true;
  using Step = AffineStep;
  template <bool kHalf>
  SY_ALWAYS Step load(const Weights &w, int64_t n, int64_t step) {
    const uint8_t *p = w.codes + n * w.row_bytes + step * 32;
    Bytes codes;
    if constexpr (kHalf)
      codes = low_half(nibbles_of_one(p));
    else
      codes = nibbles(p, p + 16);
    return {codes, group_values(w, w.scales, n, step, kHalf),
            group_values(w, w.biases, n, step, kHalf)};
  }
  SY_ALWAYS Ints multiply(const Step &w, const StepOfX &x) {
    return Dot::dot(no_ints(), w.codes, load64(x.codes));
  }
};

template <class Dot>
struct Affine8 {
  static constexpr int kValues = 64;
  static constexpr bool kHalves = true, kAffine = true;
  using Step = AffineStep;
  template <bool kHalf>
  SY_ALWAYS Step load(const Weights &w, int64_t n, int64_t step) {
    const uint8_t *p = w.codes + n * w.row_bytes + step * 64;
    Bytes codes;
    if constexpr (kHalf)
      codes = low_half(load32(p));
    else
      codes = load64(p);
    if constexpr (!Dot::kFull) codes = flip(codes);
    return {codes, group_values(w, w.scales, n, step, kHalf),
            group_values(w, w.biases, n, step, kHalf)};
  }
  SY_ALWAYS Ints multiply(const Step &w, const StepOfX &x) {
    if constexpr (Dot::kFull)
      return Dot::dot(no_ints(), w.codes, load64(x.codes));
    else
      return add(load_ints(x.sums), Dot::dot_signed(w.codes, load64(x.codes)));
  }
};

/// The ternary formats: 256 values a step, one scale behind the codes.
struct TernaryStep {
  Bytes c0, c1, c2, c3;
  Floats scale;
};

template <class Dot>
SY_ALWAYS Ints multiply_ternary(const TernaryStep &w, const StepOfX &x) {
  Ints low = Dot::dot(load_ints(x.sums), w.c0, load64(x.codes));
  Ints high = Dot::dot(no_ints(), w.c1, load64(x.codes + 64));
  low = Dot::dot(low, w.c2, load64(x.codes + 128));
  high = Dot::dot(high, w.c3, load64(x.codes + 192));
  return add(low, high);
}

template <class Dot>
struct TQ2_0 {
  static constexpr int kValues = 256;
  static constexpr bool kHalves = false, kAffine = false;
  using Step = TernaryStep;
  template <bool>
  SY_ALWAYS Step load(const Weights &w, int64_t n, int64_t step) {
    const uint8_t *p = w.codes + n * w.row_bytes + step * 66;
    const Bytes v = load64(p);
    return {shifted_pairs<0>(v), shifted_pairs<2>(v), shifted_pairs<4>(v), shifted_pairs<6>(v),
            halves(p + 64, p + 64)};
  }
  SY_ALWAYS Ints multiply(const Step &w, const StepOfX &x) { return multiply_ternary<Dot>(w, x); }
};

SY_ALWAYS __m256i tripled(__m256i v) { return _mm256_add_epi8(_mm256_add_epi8(v, v), v); }
SY_ALWAYS __m128i tripled(__m128i v) { return _mm_add_epi8(_mm_add_epi8(v, v), v); }

template <class Dot>
struct TQ1_0 {
  static constexpr int kValues = 256;
  static constexpr bool kHalves = false, kAffine = false;
  using Step = TernaryStep;
  template <bool>
  SY_ALWAYS Step load(const Weights &w, int64_t n, int64_t step) {
    const uint8_t *p = w.codes + n * w.row_bytes + step * 54;
    // Digit by digit a byte is multiplied by 3; its next digit then stands on top.
    const __m256i v0 = load32(p), v1 = tripled(v0), v2 = tripled(v1), v3 = tripled(v2),
                  v4 = tripled(v3);
    const __m128i u0 = load16(p + 32), u1 = tripled(u0), u2 = tripled(u1), u3 = tripled(u2),
                  u4 = tripled(u3);
    uint32_t last;
    memcpy(&last, p + 48, sizeof(last));
    const __m128i h0 = _mm_cvtsi32_si128(static_cast<int>(last)), h1 = tripled(h0),
                  h2 = tripled(h1), h3 = tripled(h2);
    const __m128i h = _mm_unpacklo_epi64(_mm_unpacklo_epi32(h0, h1), _mm_unpacklo_epi32(h2, h3));
    return {top_digit(join32(v0, v1)), top_digit(join32(v2, v3)),
            top_digit(join32(v4, _mm256_set_m128i(u1, u0))),
            top_digit(join32(_mm256_set_m128i(u3, u2), _mm256_set_m128i(h, u4))),
            halves(p + 52, p + 52)};
  }
  SY_ALWAYS Ints multiply(const Step &w, const StepOfX &x) { return multiply_ternary<Dot>(w, x); }
};

template <class F, bool kHalf, int NR, int MR>
SY_ALWAYS void add_step(const Weights &w, const Activations &a, int64_t n, int64_t m, int64_t step,
                        Floats (&acc)[NR][MR]) {
  typename F::Step weights[NR];
#pragma GCC unroll 4
  for (int r = 0; r < NR; ++r) weights[r] = F::template load<kHalf>(w, n + r, step);
#pragma GCC unroll 4
  for (int c = 0; c < MR; ++c) {
    const int64_t at = (m + c) * a.steps + step;
    const StepOfX x{a.codes + at * F::kValues, a.sums + at * 16, a.scales + at * 16,
                    F::kAffine ? a.products + at * 16 : nullptr};
#pragma GCC unroll 4
    for (int r = 0; r < NR; ++r) {
      const Floats p = floats(F::multiply(weights[r], x));
      const Floats d = mul(weights[r].scale, load_floats(x.scales));
      acc[r][c] = kHalf ? fma_low(p, d, acc[r][c]) : fma(p, d, acc[r][c]);
      if constexpr (F::kAffine) {
        const Floats q = load_floats(x.products);
        acc[r][c] =
            kHalf ? fma_low(weights[r].bias, q, acc[r][c]) : fma(weights[r].bias, q, acc[r][c]);
      }
    }
  }
}

template <class F, int NR, int MR>
SY_ALWAYS void multiply_tile(const Weights &w, const Activations &a, int64_t n, int64_t m,
                             int64_t rows, float *out) {
  Floats acc[NR][MR];
#pragma GCC unroll 4
  for (int r = 0; r < NR; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < MR; ++c) acc[r][c] = no_floats();
  const int64_t whole = F::kHalves ? w.blocks / 2 : w.blocks;
  for (int64_t step = 0; step < whole; ++step) add_step<F, false>(w, a, n, m, step, acc);
  if constexpr (F::kHalves)
    if (w.blocks % 2 != 0) add_step<F, true>(w, a, n, m, whole, acc);
#pragma GCC unroll 4
  for (int r = 0; r < NR; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < MR; ++c) out[r * rows + m + c] = sum16(acc[r][c]);
}

template <class F, int NR>
SY_ALWAYS void multiply_rows(const Weights &w, const Activations &a, int64_t rows, int64_t n,
                             float *out) {
  int64_t m = 0;
  for (; m + 4 <= rows; m += 4) multiply_tile<F, NR, 4>(w, a, n, m, rows, out);
  for (; m < rows; ++m) multiply_tile<F, NR, 1>(w, a, n, m, rows, out);
}

template <class F>
void rows_of(const Weights &w, const Activations &a, int64_t rows, int64_t n0, int64_t n1,
             float *out) {
  int64_t n = n0;
  for (; n + 2 <= n1; n += 2, out += 2 * rows) multiply_rows<F, 2>(w, a, rows, n, out);
  if (n < n1) multiply_rows<F, 1>(w, a, rows, n, out);
}

template <class Dot>
inline constexpr Int8Format kFormatTable[kInt8Formats] = {
    {SY_QUANT_Q4_0, -8, 32, 18, Order::natural, false, rows_of<Q4_0<Dot>>},
    {SY_QUANT_Q8_0, Dot::kFull ? -128 : 0, 32, 34, Order::natural, false, rows_of<Q8_0<Dot>>},
    {SY_QUANT_TQ1_0, -1, 256, 54, Order::natural, false, rows_of<TQ1_0<Dot>>},
    {SY_QUANT_TQ2_0, -1, 256, 66, Order::halves, false, rows_of<TQ2_0<Dot>>},
    {SY_QUANT_MLX_AFFINE4, 0, 32, 16, Order::even_odd, true, rows_of<Affine4<Dot>>},
    {SY_QUANT_MLX_AFFINE8, Dot::kFull ? 0 : 128, 32, 32, Order::natural, true,
     rows_of<Affine8<Dot>>},
};

}  // namespace
}  // namespace matmul
}  // namespace SY_ISA
}  // namespace switchyard::cpu

#pragma GCC diagnostic pop
