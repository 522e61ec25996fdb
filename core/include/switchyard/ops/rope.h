/* SPDX-License-Identifier: Apache-2.0
 *
 * switchyard/ops/rope.h - the operation "rope": rotary position embedding.
 *
 * Row i of sequence b stands at position p = positions[b, i], or offset + i without positions. With
 * R = rotary (0: all of D), for each pair j < R / 2 and its two values u, v:
 *   angle = p * scale * f[j],   f[j] = frequencies[j], or base^(-2j / R) without
 *   u' = u cos(angle) - v sin(angle)
 *   v' = v cos(angle) + u sin(angle)
 * u, v = x[2j], x[2j + 1] for SY_ROPE_INTERLEAVED (GPT-J, the original LLaMA weights), x[j],
 * x[j + R/2] for SY_ROPE_HALVES (GPT-NeoX, Hugging Face's LLaMA). Values from R on are copied.
 *
 * The angle is exact to f64; f[j] as f32 where frequencies are given. The result differs from the
 * exact one by at most 2^-20 (|u| + |v|) before it is rounded to y's dtype, for |angle| < 2^30.
 */
#ifndef SWITCHYARD_OPS_ROPE_H
#define SWITCHYARD_OPS_ROPE_H

#include <switchyard/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SY_OP_ROPE "rope"

enum {
  SY_ROPE_IN_X = 0,           /* [B, H, L, D] f32, f16 or bf16, any strides */
  SY_ROPE_IN_POSITIONS = 1,   /* i32 [B, L], any strides; optional */
  SY_ROPE_IN_FREQUENCIES = 2, /* f32 [R / 2], contiguous; optional */
  SY_ROPE_INPUTS = 3
};

enum {
  SY_ROPE_OUT_Y = 0, /* x's shape and dtype; no two elements in one place */
  SY_ROPE_OUTPUTS = 1
};

typedef enum sy_rope_style { SY_ROPE_HALVES = 0, SY_ROPE_INTERLEAVED = 1 } sy_rope_style;

/* Append-only. */
typedef struct sy_rope_params {
  uint32_t struct_size;
  uint32_t style;  /* sy_rope_style */
  int64_t offset;  /* of the first row, 0 .. 2^40; unused with positions */
  uint32_t rotary; /* even, at most D; 0 = all of D, which is even then */
  float base;      /* finite, > 0; unused with frequencies */
  float scale;     /* of positions, finite: 1, or 1 / factor for linear interpolation */
  uint32_t flags;  /* zero */
} sy_rope_params;

#ifdef __cplusplus
}
#endif
#endif
