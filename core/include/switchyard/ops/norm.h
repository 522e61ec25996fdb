/* SPDX-License-Identifier: Apache-2.0
 *
 * switchyard/ops/norm.h - the operations "rms_norm" and "layer_norm", over the last dimension.
 *
 * For each row x[0 .. D-1]:
 *   rms_norm     y[i] = x[i] r weight[i],                  r = 1 / sqrt(mean(x^2) + eps)
 *   layer_norm   y[i] = (x[i] - mean) r weight[i] + bias[i], r = 1 / sqrt(mean((x - mean)^2) + eps)
 * An absent weight counts as 1, an absent bias as 0. Sums in f32 or wider, in any order.
 *
 * The result differs from the exact one by at most
 *   (8 + D / 32) 2^-24 (|weight[i]| r max|x| + |bias[i]|)
 * before it is rounded to y's dtype, provided that squares neither overflow nor underflow f32. A
 * NaN in a row makes all of its results NaN.
 */
#ifndef SWITCHYARD_OPS_NORM_H
#define SWITCHYARD_OPS_NORM_H

#include <switchyard/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SY_OP_RMS_NORM "rms_norm"
#define SY_OP_LAYER_NORM "layer_norm"

enum {
  SY_NORM_IN_X = 0,      /* [..., D] f32, f16 or bf16, any strides; D >= 1 */
  SY_NORM_IN_WEIGHT = 1, /* [D] f32 or x's dtype, contiguous; optional */
  SY_RMS_NORM_INPUTS = 2,
  SY_NORM_IN_BIAS = 2, /* layer_norm only: like the weight; optional */
  SY_LAYER_NORM_INPUTS = 3
};

enum {
  SY_NORM_OUT_Y = 0, /* x's shape and dtype; no two elements in one place */
  SY_NORM_OUTPUTS = 1
};

/* Of both. Append-only. */
typedef struct sy_norm_params {
  uint32_t struct_size;
  float eps; /* finite, >= 0 */
} sy_norm_params;

#ifdef __cplusplus
}
#endif
#endif
