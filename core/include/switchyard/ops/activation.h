/* SPDX-License-Identifier: Apache-2.0
 *
 * switchyard/ops/activation.h - the operations "swiglu" and "gelu", element by element.
 *
 *   swiglu   y = up * gate / (1 + exp(-gate))
 *   gelu     y = x (1 + erf(x / sqrt(2))) / 2, or, with SY_GELU_TANH,
 *            y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
 *
 * Computed in f32 or wider. The result differs from the exact one, before it is rounded to y's
 * dtype, by at most
 *   swiglu   2^-20 |y| + 2^-110 |up|
 *   gelu     2^-20 |x|
 * NaN gives NaN; gate or x of -inf gives 0 or NaN, of +inf the limit.
 */
#ifndef SWITCHYARD_OPS_ACTIVATION_H
#define SWITCHYARD_OPS_ACTIVATION_H

#include <switchyard/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SY_OP_SWIGLU "swiglu"
#define SY_OP_GELU "gelu"

enum {
  SY_SWIGLU_IN_GATE = 0, /* [..., D] f32, f16 or bf16, any strides */
  SY_SWIGLU_IN_UP = 1,   /* the gate's shape and dtype, strides of its own */
  SY_SWIGLU_INPUTS = 2,
  SY_GELU_IN_X = 0, /* [..., D] f32, f16 or bf16, any strides */
  SY_GELU_INPUTS = 1
};

enum {
  SY_ACTIVATION_OUT_Y = 0, /* the first input's shape and dtype; no two elements in one place */
  SY_ACTIVATION_OUTPUTS = 1
};

enum {
  SY_GELU_TANH = 1u << 0 /* gelu: the tanh approximation is what is asked for */
};

/* Of both. Append-only. */
typedef struct sy_activation_params {
  uint32_t struct_size;
  uint32_t flags; /* SY_GELU_TANH for gelu; swiglu: zero */
} sy_activation_params;

#ifdef __cplusplus
}
#endif
#endif
