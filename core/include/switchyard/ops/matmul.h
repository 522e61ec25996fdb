/* SPDX-License-Identifier: Apache-2.0
 *
 * switchyard/ops/matmul.h - the operation "matmul": y = x w^T (+ add).
 *
 *   y[m, n] = sum_k x[m, k] w[n, k]  (+ add[n])
 *
 * w has one row for each column of y, as linear layers, GGUF and MLX store it; a plain w
 * may have any strides, so that the transposed view of a [K, N] array is x times it. K = 0
 * gives add, or zeros.
 *
 * Plain w (format 0): products and sums in f32 or wider, in any order; a 16-bit kernel may
 * take subnormal products as zero. The result differs from the exact one by at most
 *   (8 + K / 4) 2^-24 |x[m]| |w[n]|   (Euclidean norms)
 * before it is rounded to y's dtype. A NaN anywhere in x[m] or w[n] gives NaN.
 *
 * Quantised w: the products are sums of integers, and what is left to f32 has a fixed order,
 * so that every kernel gives the same bits.
 *   1. Each block of B values of x becomes int8 (B = 32; 256 for TQ1_0 and TQ2_0), in f32:
 *      amax = the largest |x|, dx = amax / 127, id = 1 / dx, or 0 where dx is 0 or 1 / dx is
 *      not finite; a = RNE(x id), which lies in -127..127. A block that holds NaN or an
 *      infinity has a = 0 and dx = NaN.
 *   2. y[m, n] has 16 partial sums acc[0..15], +0 at first. For the blocks b = 0, 1, ... in
 *      order and each lane l that holds values of block b:
 *        p      = sum over the lane's values i of the block of (weight code i) * a[i], an integer
 *        acc[l] = fma(p, dw * dx, acc[l])
 *      and for the affine formats then
 *        acc[l] = fma(bias, dx * (sum of the lane's a[i]), acc[l])
 *      Weight codes: Q4_0 q - 8, Q8_0 q, TQ1_0 and TQ2_0 t - 1, affine q; dw, bias: the scale and
 *      bias of the block's group, widened to f32. Lane of value i of block b:
 *        Q4_0, Q8_0, MLX affine 8   8 (b mod 2) + i / 4
 *        MLX affine 4               8 (b mod 2) + 4 (i mod 2) + i / 8
 *        TQ2_0                      8 (i / 128) + i mod 32 / 4
 *        TQ1_0                      i mod 64 / 4
 *   3. acc[l] += acc[l + 8] for l < 8, then acc[l] += acc[l + 4], + 2, + 1; y = acc[0] (+ add[n]),
 *      rounded to y's dtype.
 * x of 16 bits is widened first. NaN equals NaN whatever its bits.
 */
#ifndef SWITCHYARD_OPS_MATMUL_H
#define SWITCHYARD_OPS_MATMUL_H

#include <switchyard/ops/quantize.h>
#include <switchyard/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SY_OP_MATMUL "matmul"

enum {
  SY_MATMUL_IN_X = 0,      /* [M, K] f32, f16 or bf16, any strides */
  SY_MATMUL_IN_W = 1,      /* [N, K] of x's dtype, any strides; or the codes of N rows of K values,
                              contiguous, as ops/quantize.h says */
  SY_MATMUL_IN_SCALES = 2, /* affine formats: [N, K / group], f32, f16 or bf16, contiguous */
  SY_MATMUL_IN_BIASES = 3, /* affine formats: like the scales */
  SY_MATMUL_IN_ADD = 4,    /* f32 [N], contiguous; optional */
  SY_MATMUL_INPUTS = 5
};

enum {
  SY_MATMUL_OUT_Y = 0, /* [M, N], f32 or x's dtype; no two elements in one place */
  SY_MATMUL_OUTPUTS = 1
};

/* Append-only. */
typedef struct sy_matmul_params {
  uint32_t struct_size;
  uint32_t format;     /* SY_QUANT_NONE: w is plain; SY_QUANT_Q4_0, Q8_0, TQ1_0, TQ2_0,
                          MLX_AFFINE4, MLX_AFFINE8: quantised. Others are SY_E_UNSUPPORTED */
  uint32_t group_size; /* affine: 32, 64, 128; otherwise 0 */
  uint32_t flags;      /* zero */
} sy_matmul_params;

#ifdef __cplusplus
}
#endif
#endif
