/* SPDX-License-Identifier: Apache-2.0
 *
 * One kernel of "attention": f32, causal rules and windows, any strides; a row of scores is never
 * kept (the running maximum rescales what was added so far). switchyard/ops/attention.h says what
 * is computed.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <switchyard/ops/attention.h>

static int32_t fail(sy_error *error, int32_t code, const char *message) {
  if (error != NULL && error->struct_size >= sizeof(*error)) {
    error->code = code;
    error->index = -1;
    (void)snprintf(error->message, sizeof(error->message), "%s", message);
  }
  return code;
}

/* The first element of row (b, h, i). */
static float *row_of(const sy_tensor *t, int64_t b, int64_t h, int64_t i) {
  float *const first = (float *)(void *)((char *)t->handle + t->byte_offset);
  return first + b * t->strides[0] + h * t->strides[1] + i * t->strides[2];
}

typedef struct keys {
  int64_t begin, end;
} keys;

/* What query i of lq sees of lkv keys. */
static keys visible(const sy_attention_params *p, int64_t i, int64_t lq, int64_t lkv) {
  const int64_t at = p->causal == SY_CAUSAL_TOP_LEFT ? i : i + lkv - lq;
  keys k = {0, lkv};
  if (p->window_left >= 0 && p->window_left < at) k.begin = at - p->window_left;
  if (p->window_right >= 0 && p->window_right < lkv && at + p->window_right + 1 < k.end)
    k.end = at + p->window_right + 1;
  if (p->causal != SY_CAUSAL_NONE && at + 1 < k.end) k.end = at + 1;
  return k;
}

static int32_t run(const sy_kernel *self, sy_instance *instance, const sy_call *call,
                   sy_error *error) {
  const sy_attention_params *const p = (const sy_attention_params *)call->params;
  const sy_tensor *const q = call->inputs[SY_ATTENTION_IN_Q];
  const sy_tensor *const k = call->inputs[SY_ATTENTION_IN_K];
  const sy_tensor *const v = call->inputs[SY_ATTENTION_IN_V];
  const sy_tensor *const o = call->outputs[SY_ATTENTION_OUT_O];
  const sy_tensor *const lse = call->outputs[SY_ATTENTION_OUT_LSE];
  const int64_t hq = q->shape[1], lq = q->shape[2], lkv = k->shape[2];
  const int64_t dk = q->shape[3], dv = v->shape[3];
  const int64_t rows = q->shape[0] * hq * lq;
  double *const sum = (double *)call->workspace;
  (void)self;
  (void)instance;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t i = row % lq, h = row / lq % hq, b = row / lq / hq;
    const int64_t g = h / (hq / k->shape[1]);
    const float *const query = row_of(q, b, h, i);
    const keys seen = visible(p, i, lq, lkv);
    double max = -INFINITY, total = 0;
    int poisoned = 0;
    memset(sum, 0, (size_t)dv * sizeof(*sum));
    for (int64_t j = seen.begin; j < seen.end; ++j) {
      const float *const key = row_of(k, b, g, j);
      const float *const value = row_of(v, b, g, j);
      double t = 0;
      for (int64_t e = 0; e < dk; ++e)
        t += (double)query[e * q->strides[3]] * (double)key[e * k->strides[3]];
      t *= (double)p->scale;
      if (isnan(t) || t == INFINITY) poisoned = 1;
      if (poisoned || t == -INFINITY) continue;
      if (t > max) {
        const double shrink = exp(max - t);
        for (int64_t e = 0; e < dv; ++e) sum[e] *= shrink;
        total *= shrink;
        max = t;
      }
      const double weight = exp(t - max);
      total += weight;
      for (int64_t e = 0; e < dv; ++e) sum[e] += weight * (double)value[e * v->strides[3]];
    }
    float *const out = row_of(o, b, h, i);
    for (int64_t e = 0; e < dv; ++e)
      out[e * o->strides[3]] = poisoned ? NAN : total == 0 ? 0.0f : (float)(sum[e] / total);
    if (lse != NULL)
      *row_of(lse, b, h, i) = poisoned ? NAN : total == 0 ? -INFINITY : (float)(max + log(total));
    if (call->progress != NULL &&
        call->progress(call->progress_arg, (double)row / (double)rows) != 0)
      return fail(error, SY_E_CANCELLED, "cancelled");
  }
  return SY_OK;
}

/* Which calls it takes: from the description alone, cheaply. */
static int32_t supports(const sy_kernel *self, sy_instance *instance, const sy_call *call,
                        sy_error *reason) {
  const sy_attention_params *const p = (const sy_attention_params *)call->params;
  const sy_tensor *const q = call->inputs[SY_ATTENTION_IN_Q];
  (void)self;
  (void)instance;
  if (q->dtype.code != SY_TYPE_FLOAT || q->dtype.bits != 32)
    return fail(reason, SY_E_UNSUPPORTED, "only f32 is offered");
  if (p->struct_size > sizeof(*p))
    return fail(reason, SY_E_UNSUPPORTED, "no parameters of later versions are offered");
  if (p->softcap != 0) return fail(reason, SY_E_UNSUPPORTED, "no softcap is offered");
  for (uint32_t i = SY_ATTENTION_IN_MASK; i < call->n_inputs; ++i)
    if (call->inputs[i] != NULL)
      return fail(reason, SY_E_UNSUPPORTED, "no masks, sinks, slopes or lengths are offered");
  if (q->device_kind != SY_DEVICE_HOST)
    return fail(reason, SY_E_UNSUPPORTED, "tensors must be in host memory");
  return SY_OK;
}

/* A guess in ns; the dispatcher measures. */
static uint64_t estimate(const sy_kernel *self, sy_instance *instance, const sy_call *call) {
  const sy_tensor *const q = call->inputs[SY_ATTENTION_IN_Q];
  const sy_tensor *const v = call->inputs[SY_ATTENTION_IN_V];
  const double scores =
      (double)(q->shape[0] * q->shape[1]) * (double)q->shape[2] * (double)v->shape[2];
  (void)self;
  (void)instance;
  return (uint64_t)(200 + scores * (double)(q->shape[3] + v->shape[3]));
}

static uint64_t workspace_size(const sy_kernel *self, sy_instance *instance, const sy_call *call) {
  (void)self;
  (void)instance;
  return (uint64_t)call->inputs[SY_ATTENTION_IN_V]->shape[3] * sizeof(double);
}

const sy_kernel the_kernel = {
    .struct_size = sizeof(sy_kernel),
    .traits = SY_TRAIT_DETERMINISTIC,
    .op = SY_OP_ATTENTION,
    .name = "attention.f32_f32.plain",
    .numerics_class = "@NAME@.attention", /* a promise of equal bits: invent one of your own */
    .supports = supports,
    .estimate = estimate,
    .workspace_size = workspace_size,
    .run = run,
};
