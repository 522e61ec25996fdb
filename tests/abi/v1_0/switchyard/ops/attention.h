/* SPDX-License-Identifier: Apache-2.0
 *
 * switchyard/ops/attention.h - the operation "attention" (MHA, GQA, MQA).
 *
 * For batch b, query head h, key head g = h / (Hq / Hkv):
 *   t(i, j)  = scale * sum_e q[b,h,i,e] k[b,g,j,e]
 *   t(i, j)  = softcap * tanh(t / softcap)            if softcap > 0
 *   t(i, j) += alibi[h] * (j - i - o) + mask[b,h,i,j] (additive mask)
 *   t(i, j)  = -inf                                   where not visible
 *   o[b,h,i] = sum_j softmax_j(t)(i, j) v[b,g,j];  lse[b,h,i] = log sum_j exp t(i, j)
 * with the sinks' exp(sink[h]) added once to the softmax's denominator (and lse).
 *
 * Position offset o = Lkv - Lq for SY_CAUSAL_BOTTOM_RIGHT and for windows without
 * a causal rule, 0 for SY_CAUSAL_TOP_LEFT. Visible(i, j): causal: j <= i + o; window:
 * i + o - left <= j <= i + o + right (a negative bound = unlimited); bool mask: true.
 * With top-left causality the window uses o = 0 too. With kv_lengths, Lkv means the
 * sequence's own length here. An additive mask of -inf hides a key just as false does.
 *
 * A row that sees nothing (or only scores of -inf), or Lkv = 0: output 0, lse -inf
 * (with a sink: the sink). A NaN or +Inf visible score gives a NaN row, its lse too;
 * masked keys never leak NaN from k.
 * Arithmetic in f32 or wider; probabilities may be rounded to 16 bits only for
 * 16-bit inputs. docs/attention.md states the error bounds.
 *
 * Strides may be anything legal, zero and non-unit in the last dimension included
 * (outputs: no overlap). A zero head stride of k and v marks expanded GQA.
 */
#ifndef SWITCHYARD_OPS_ATTENTION_H
#define SWITCHYARD_OPS_ATTENTION_H

#include <switchyard/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SY_OP_ATTENTION "attention"

enum {
  SY_ATTENTION_IN_Q = 0,     /* [B, Hq, Lq, Dk] f32, f16 or bf16 */
  SY_ATTENTION_IN_K = 1,     /* [B, Hkv, Lkv, Dk], q's dtype; Hq % Hkv == 0 */
  SY_ATTENTION_IN_V = 2,     /* [B, Hkv, Lkv, Dv], q's dtype */
  SY_ATTENTION_IN_MASK = 3,  /* [B, Hq, Lq, Lkv] by zero strides; bool (true = attend) or f32, f16,
                                bf16 (added); optional */
  SY_ATTENTION_IN_SINKS = 4, /* f32 [Hq]; optional */
  SY_ATTENTION_IN_ALIBI = 5, /* f32 [Hq] slopes; optional */
  SY_ATTENTION_IN_KV_LENGTHS =
      6, /* i32 [B] keys that exist per sequence; optional; keys past it are never read */
  SY_ATTENTION_INPUTS = 7
};

enum {
  SY_ATTENTION_OUT_O = 0,   /* [B, Hq, Lq, Dv], q's dtype */
  SY_ATTENTION_OUT_LSE = 1, /* f32 [B, Hq, Lq]; optional */
  SY_ATTENTION_OUTPUTS = 2
};

typedef enum sy_causal {
  SY_CAUSAL_NONE = 0,
  SY_CAUSAL_TOP_LEFT = 1,    /* j <= i */
  SY_CAUSAL_BOTTOM_RIGHT = 2 /* j <= i + Lkv - Lq: queries are the last Lq positions */
} sy_causal;

/* Append-only. */
typedef struct sy_attention_params {
  uint32_t struct_size;
  uint32_t causal;      /* sy_causal */
  float scale;          /* finite; hosts fill in 1/sqrt(Dk) */
  float softcap;        /* 0 = none, else > 0 */
  int64_t window_left;  /* -1 = unlimited */
  int64_t window_right; /* -1 = unlimited */
  uint32_t flags;       /* zero */
  uint32_t reserved;
} sy_attention_params;

#ifdef __cplusplus
}
#endif
#endif
