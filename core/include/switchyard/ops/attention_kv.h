/* SPDX-License-Identifier: Apache-2.0
 *
 * switchyard/ops/attention_kv.h - what "attention" learned after version 1.0: kept keys,
 * paged keys, quantised keys. Everything of ops/attention.h holds; this adds inputs and a
 * longer params struct, which hosts send only where something of it is used.
 *
 * A kernel that was built without this header never gets such calls: it does not pass their
 * verification. Better, a kernel refuses in `supports` inputs that it does not know, and params
 * whose struct_size is larger than what it was built with.
 *
 * Kept keys. The first `keep` keys are visible whatever window_left says. Where keys between
 * them and the others were dropped (a rotating cache), `gap` says how many: with ALiBi the
 * kept keys are that much further away. Nothing else depends on it.
 *
 * Paged keys. With a block table, k is [pages, Hkv, P, Dk] and v [pages, Hkv, P, Dv]; key j of
 * sequence b is slot j % P of page table[b, j / P]. Lkv is M * P, kv_lengths must be there, and
 * neither the table nor a page is read past a sequence's length.
 *
 * Quantised keys and values, of any dtype of q, in the formats of ops/quantize.h; what is meant
 * is attention over the dequantised values. Rows are contiguous in the last dimension, leading
 * dimensions as without quantisation:
 *   SY_QUANT_Q8_0         k u8 [.., Dk / 32 * 34], v likewise
 *   SY_QUANT_MLX_AFFINE4  k u32 [.., Dk / 8], scales and biases [.., Dk / kv_group] in f32, f16 or
 *                         bf16, all four of one dtype; v likewise
 */
#ifndef SWITCHYARD_OPS_ATTENTION_KV_H
#define SWITCHYARD_OPS_ATTENTION_KV_H

#include <switchyard/ops/attention.h>
#include <switchyard/ops/quantize.h>
#include <switchyard/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/* All optional; behind those of ops/attention.h. */
enum {
  SY_ATTENTION_IN_BLOCK_TABLE = 7, /* i32 [B, M], pages in the order of their keys */
  SY_ATTENTION_IN_K_SCALES = 8,    /* of quantised k and v */
  SY_ATTENTION_IN_K_BIASES = 9,
  SY_ATTENTION_IN_V_SCALES = 10,
  SY_ATTENTION_IN_V_BIASES = 11,
  SY_ATTENTION_KV_INPUTS = 12
};

/* Append-only. A call may carry the first member alone: the others are zeros then. */
typedef struct sy_attention_kv_params {
  sy_attention_params base; /* base.struct_size says how much of the whole is there */
  int64_t keep;             /* >= 0 */
  int64_t gap;              /* >= 0 */
  uint32_t kv_format;       /* SY_QUANT_NONE, SY_QUANT_Q8_0 or SY_QUANT_MLX_AFFINE4 */
  uint32_t kv_group; /* values that share a scale: 64 or 32 for SY_QUANT_MLX_AFFINE4, else 0 */
} sy_attention_kv_params;

#ifdef __cplusplus
}
#endif
#endif
