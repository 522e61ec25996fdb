/* SPDX-License-Identifier: Apache-2.0
 *
 * switchyard/ops/quantize.h - the operations "quantize" and "dequantize".
 *
 * Formats are byte-exact with their owners. Groups and blocks run along the last
 * dimension, which must be contiguous (stride 1) and a multiple of the block or
 * group; leading dimensions may have any stride. "Rows" are all leading
 * dimensions together. Blocks and groups depend on nothing outside themselves,
 * apart from the one scale of SY_GRANULARITY_TENSOR.
 *
 * Arithmetic, where a rule below says nothing else: f32, in the order written,
 * no fused multiply-add, no reassociation. x of 16 bits is widened first.
 *   RNE(v)   to the nearest integer, ties to even
 *   RHA(v)   to the nearest integer, ties away from zero
 *   trunc(v) toward zero
 *   f16(v)   RNE with subnormals; a scale that would become Inf is SY_E_OVERFLOW
 *   amax     the largest |x|; smax: the signed value of the first x of that size
 *   id       1/d, or 0 where d is 0 or 1/d is not finite; d itself not yet rounded
 *
 * Q4_0   d = smax / -8;  q = min(15, trunc(x * id + 8.5)), stored f16(d), then 16
 *        bytes q[j] | q[j + 16] << 4.          y = (q - 8) * d
 * Q4_1   d = (max - min) / 15; q = min(15, trunc((x - min) * id + 0.5)), stored
 *        f16(d), f16(min), then as Q4_0. Of equal extremes (zeros of either sign) the
 *        first counts.                          y = q * d + min
 * Q5_0   d = smax / -16; q = min(31, trunc(x * id + 16.5)), stored f16(d), 32 bits
 *        of which bit i is q[i] >> 4, then the low halves as Q4_0.  y = (q - 16) * d
 * Q5_1   d = (max - min) / 31; q = min(31, trunc((x - min) * id + 0.5)), stored
 *        f16(d), f16(min), then as Q5_0.        y = q * d + min
 * Q8_0   d = amax / 127; q = RHA(x * id), stored f16(d), then 32 int8.  y = q * d
 * TQ1_0  d = amax; t = RHA(x * id) + 1. Five digits t, the first the most significant
 *        of a number V to base 3, make a byte: (256 V + 242) / 243 rounded down. Byte
 *        m < 32: x[m + 32n]; byte 32 + m, m < 16: x[160 + m + 16n]; byte 48 + j, j < 4:
 *        x[240 + j + 4n], n < 4, and a digit 0; f16(d) comes last. Digit n of a byte b
 *        is ((b * 3^n mod 256) * 3) >> 8.        y = (t - 1) * d
 * TQ2_0  d = amax; t = RHA(x * id) + 1. For each half h of 128 values and m < 32,
 *        byte 32h + m holds t[128h + m + 32n] at bits 2n, n = 0..3; f16(d) comes
 *        last.                                  y = (t - 1) * d
 * Q2_0   d = amax; q = clamp(RHA(x * id) + 1, 0, 3), stored f16(d), then 16 bytes with
 *        q[4j + n] at bits 2n of byte j.        y = (q - 1) * d
 *        TQ1_0, TQ2_0 and Q2_0 with SY_SCALE_ABSMEAN: d = m and t = ternary code + 1
 *        of the block as a Ternary group; then as above.
 * Q4_K, Q6_K  blocks of 256 with searched scales: docs/formats.md.
 * MXFP4  an exponent e for 32 values. FLOOR: max(0, floor(log2(amax)) + 125), where amax
 *        within a few ulp below a power of two counts as that power (docs/formats.md),
 *        0 for zeros. RCEIL: 127 + log2 of the least power of two not below amax / 6,
 *        which MXFP4 rounds to x's dtype first, and 127 where that is 0. q: E2M1 code of
 *        x / 2^(e - 127), ties to the smaller magnitude, at most 6, never -0.
 *        y = E2M1(q) * 2^(e - 127); e = 255: NaN.
 *        MXFP4_GGML: e, then 16 bytes q[j] | q[j + 16] << 4; FLOOR by default.
 *        MXFP4: codes in order, low bits first; e in scales; RCEIL by default.
 * Affine n = 2^bits - 1; s = max((max - min) / n, 1e-7). |min| > |max|: edge = min,
 *        else s = -s, edge = max. q0 = RNE(edge / s); q0 != 0: s = edge / q0 and
 *        bias = edge, else bias = 0. q = clamp(RNE((x - bias) / s), 0, n), divided
 *        truly, s and bias not yet rounded to x's dtype. Code i of a row occupies
 *        bits i * bits ... of its little-endian words.  y = q * s + bias
 * Ternary  m = max(mean |x|, 1e-5); t = clamp(RNE(x * (1 / m)), -1, 1); y = t * m.
 *        The mean's sum is f64: blocks of 4,096 values, value k of a block added to
 *        lane k mod 32, lanes then i += i + 16, 8, 4, 2, 1; blocks joined pairwise,
 *        the left part the largest 4,096 * 2^p values that leave a right part.
 * Tern2  Ternary as 2-bit Affine: q = t + 1, scale = m, bias = -m, repeated for every
 *        group that shares m. 2m must be finite in x's dtype.
 * I2_S   Ternary by tensor: byte 32b + p holds t[128b + p + 32n] + 1 at bits 6 - 2n,
 *        p < 32, n = 0..3; then m as f32 and 28 zero bytes.
 * Int8   scale = amax / 127; q = clamp(RNE(x / scale), -127, 127), or 0 where scale is 0.
 *        SY_ROUNDING_STOCHASTIC: v = x / scale; q = floor(v) + (u < v - floor(v)), where
 *        u = (word i mod 4 of Philox4x32-10(counter {i / 4 low, high, 0, 0}, key = seed
 *        {low, high}) >> 8) * 2^-24 and i is the value's index in logical order.
 *                                               y = q * scale
 *
 * NaN and Inf in x follow sy_quantize_params.nonfinite. dequantize accepts every
 * bit pattern: it reads no memory outside its inputs, whatever the codes are.
 */
#ifndef SWITCHYARD_OPS_QUANTIZE_H
#define SWITCHYARD_OPS_QUANTIZE_H

#include <switchyard/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SY_OP_QUANTIZE "quantize"
#define SY_OP_DEQUANTIZE "dequantize"

/* Stable numbers: they are stored in files and in sy_dtype.format. A kernel whose
 * `supports` does not know a number answers SY_E_UNSUPPORTED; numbers are only added. */
typedef enum sy_quant_format {
  SY_QUANT_NONE = 0,
  /* ggml blocks: one output, u8 [..., K / block * bytes] */
  SY_QUANT_Q4_0 = 1,        /* 32 -> 18 bytes */
  SY_QUANT_Q4_1 = 2,        /* 32 -> 20 */
  SY_QUANT_Q5_0 = 3,        /* 32 -> 22 */
  SY_QUANT_Q5_1 = 4,        /* 32 -> 24 */
  SY_QUANT_Q8_0 = 5,        /* 32 -> 34 bytes */
  SY_QUANT_Q4_K = 6,        /* 256 -> 144 */
  SY_QUANT_Q6_K = 7,        /* 256 -> 210 */
  SY_QUANT_TQ1_0 = 8,       /* 256 -> 54 */
  SY_QUANT_TQ2_0 = 9,       /* 256 -> 66 bytes */
  SY_QUANT_Q2_0 = 10,       /* 64 -> 18 */
  SY_QUANT_MXFP4_GGML = 11, /* 32 -> 17 */
  SY_QUANT_MXFP4 = 12,      /* not blocks: u32 [..., K / 8], scales u8 [..., K / 32] */
  /* MLX affine: u32 [..., K * bits / 32], scales and biases [..., K / group] in x's dtype */
  SY_QUANT_MLX_AFFINE2 = 32,
  SY_QUANT_MLX_AFFINE3 = 33,
  SY_QUANT_MLX_AFFINE4 = 34,
  SY_QUANT_MLX_AFFINE5 = 35,
  SY_QUANT_MLX_AFFINE6 = 36,
  SY_QUANT_MLX_AFFINE8 = 38,
  /* BitNet b1.58 */
  SY_QUANT_TERNARY =
      64,              /* int8 {-1,0,1} of x's shape; scales f32 [1], [rows] or [rows, K / group] */
  SY_QUANT_TERN2 = 65, /* u32 [..., K / 16], scales and biases [..., K / group] in x's dtype */
  SY_QUANT_I2_S = 66,  /* u8 [n / 4 + 32]; K a multiple of 128 */
  /* int8 of x's shape; scales f32 [1], [rows] or [shape[0]] */
  SY_QUANT_INT8 = 80
} sy_quant_format;

/* What shares a scale. */
typedef enum sy_granularity {
  SY_GRANULARITY_TENSOR = 0, /* everything; formats with groups of their own say TENSOR too */
  SY_GRANULARITY_ROW = 1,    /* each row */
  SY_GRANULARITY_GROUP = 2,  /* each group_size values of a row */
  SY_GRANULARITY_CHANNEL = 3 /* each index of the first dimension */
} sy_granularity;

typedef enum sy_scale_rule {
  SY_SCALE_DEFAULT = 0, /* the format owner's rule */
  SY_SCALE_ABSMAX = 1,
  SY_SCALE_ABSMEAN = 2,
  SY_SCALE_FLOOR = 3, /* MXFP4 */
  SY_SCALE_RCEIL = 4  /* MXFP4 */
} sy_scale_rule;

typedef enum sy_nonfinite {
  SY_NONFINITE_ERROR = 0,   /* SY_E_NONFINITE with the index of the first one */
  SY_NONFINITE_SATURATE = 1 /* NaN -> 0, +-Inf -> the largest finite magnitude in x's dtype */
} sy_nonfinite;

typedef enum sy_rounding {
  SY_ROUNDING_NEAREST = 0,
  SY_ROUNDING_STOCHASTIC = 1 /* int8 only: up with the probability of the fraction */
} sy_rounding;

/* Parameters of both operations. Append-only: fields after `nonfinite` count as 0 where struct_size
 * does not reach them. */
typedef struct sy_quantize_params {
  uint32_t struct_size;
  uint32_t format;      /* sy_quant_format */
  uint32_t group_size;  /* affine, tern2: 32, 64, 128; ternary by group: 32..256; otherwise 0 */
  uint32_t granularity; /* sy_granularity; ternary, tern2 and int8 only */
  uint32_t scale_rule;  /* sy_scale_rule */
  uint32_t nonfinite;   /* sy_nonfinite; quantize only */
  uint32_t rounding;    /* sy_rounding; quantize only */
  uint32_t reserved;    /* 0 */
  uint64_t seed;        /* of stochastic rounding; otherwise 0 */
} sy_quantize_params;

/* quantize: x -> blocks | codes [, scales [, biases]]; all outputs contiguous.
 * x is f32, f16 or bf16 with rank >= 1. Slots that a format lacks are NULL. */
enum { SY_QUANTIZE_IN_X = 0, SY_QUANTIZE_INPUTS = 1 };
enum {
  SY_QUANTIZE_OUT_CODES = 0,
  SY_QUANTIZE_OUT_SCALES = 1,
  SY_QUANTIZE_OUT_BIASES = 2,
  SY_QUANTIZE_OUTPUTS = 3
};

/* dequantize: the three arrays above, contiguous -> y (f32, f16 or bf16; stride 1 in the last
 * dimension). The value is computed in f32 (affine: in the dtype of the scales) and rounded to y's
 * dtype. */
enum {
  SY_DEQUANTIZE_IN_CODES = 0,
  SY_DEQUANTIZE_IN_SCALES = 1,
  SY_DEQUANTIZE_IN_BIASES = 2,
  SY_DEQUANTIZE_INPUTS = 3
};
enum { SY_DEQUANTIZE_OUT_Y = 0, SY_DEQUANTIZE_OUTPUTS = 1 };

#ifdef __cplusplus
}
#endif
#endif
