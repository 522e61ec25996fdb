/* SPDX-License-Identifier: Apache-2.0
 *
 * One kernel of "quantize": q8_0 from f32, block by block, as switchyard/ops/quantize.h says.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <switchyard/ops/quantize.h>

enum { BLOCK = 32, BLOCK_BYTES = 34 };

static int32_t fail(sy_error *error, int32_t code, int64_t index, const char *message) {
  if (error != NULL && error->struct_size >= sizeof(*error)) {
    error->code = code;
    error->index = index;
    (void)snprintf(error->message, sizeof(error->message), "%s", message);
  }
  return code;
}

static void *data(const sy_tensor *t) { return (char *)t->handle + t->byte_offset; }

/* IEEE binary16, to nearest even, for values that are not negative. */
static uint16_t to_f16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  if (value >= 65520.0f) return 0x7C00u;
  if (value < 0x1p-14f) return (uint16_t)rintf(value * 0x1p24f);
  bits += 0xFFFu + (bits >> 13 & 1u);
  return (uint16_t)((bits >> 13) - (112u << 10));
}

static int32_t encode(const float *x, uint8_t *block, int64_t index, sy_error *error) {
  float amax = 0;
  for (int j = 0; j < BLOCK; ++j) {
    if (!isfinite(x[j]))
      return fail(error, SY_E_NONFINITE, index + j, "a value of x is NaN or Inf");
    if (fabsf(x[j]) > amax) amax = fabsf(x[j]);
  }
  const float d = amax / 127.0f;
  const float id = d != 0 && isfinite(1.0f / d) ? 1.0f / d : 0.0f;
  const uint16_t stored = to_f16(d);
  if (stored == 0x7C00u)
    return fail(error, SY_E_OVERFLOW, index, "a scale does not fit into 16 bits");
  memcpy(block, &stored, sizeof(stored));
  for (int j = 0; j < BLOCK; ++j) block[2 + j] = (uint8_t)(int8_t)roundf(x[j] * id);
  return SY_OK;
}

static int32_t run(const sy_kernel *self, sy_instance *instance, const sy_call *call,
                   sy_error *error) {
  const sy_tensor *const x = call->inputs[SY_QUANTIZE_IN_X];
  uint8_t *out = (uint8_t *)data(call->outputs[SY_QUANTIZE_OUT_CODES]);
  const int64_t cols = x->shape[x->rank - 1];
  int64_t rows = 1, until_poll = 0;
  for (int k = 0; k + 1 < x->rank; ++k) rows *= x->shape[k];
  (void)self;
  (void)instance;
  for (int64_t row = 0; row < rows; ++row) {
    int64_t offset = 0, rest = row;
    for (int k = x->rank - 2; k >= 0; --k) {
      offset += rest % x->shape[k] * x->strides[k];
      rest /= x->shape[k];
    }
    const float *const from = (const float *)data(x) + offset;
    for (int64_t i = 0; i < cols; i += BLOCK, out += BLOCK_BYTES) {
      const int32_t status = encode(from + i, out, row * cols + i, error);
      if (status != SY_OK) return status;
      if (--until_poll < 0 && call->progress != NULL) {
        const double done = (double)(row * cols + i) / (double)(rows * cols);
        if (call->progress(call->progress_arg, done) != 0)
          return fail(error, SY_E_CANCELLED, -1, "cancelled");
        until_poll = 10000;
      }
    }
  }
  return SY_OK;
}

/* Which calls it takes: from the description alone, cheaply. */
static int32_t supports(const sy_kernel *self, sy_instance *instance, const sy_call *call,
                        sy_error *reason) {
  const sy_quantize_params *const params = (const sy_quantize_params *)call->params;
  const sy_tensor *const x = call->inputs[SY_QUANTIZE_IN_X];
  (void)self;
  (void)instance;
  if (params->format != SY_QUANT_Q8_0)
    return fail(reason, SY_E_UNSUPPORTED, -1, "only the format q8_0 is offered");
  if (x->dtype.code != SY_TYPE_FLOAT || x->dtype.bits != 32)
    return fail(reason, SY_E_UNSUPPORTED, -1, "only f32 is offered");
  if (params->nonfinite != SY_NONFINITE_ERROR)
    return fail(reason, SY_E_UNSUPPORTED, -1, "saturating is not offered");
  if (x->device_kind != SY_DEVICE_HOST)
    return fail(reason, SY_E_UNSUPPORTED, -1, "tensors must be in host memory");
  return SY_OK;
}

/* A guess in ns; the dispatcher measures. */
static uint64_t estimate(const sy_kernel *self, sy_instance *instance, const sy_call *call) {
  const sy_tensor *const x = call->inputs[SY_QUANTIZE_IN_X];
  double n = 1;
  (void)self;
  (void)instance;
  for (int k = 0; k < x->rank; ++k) n *= (double)x->shape[k];
  return (uint64_t)(100 + 3 * n);
}

const sy_kernel the_kernel = {
    .struct_size = sizeof(sy_kernel),
    .traits = SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC,
    .op = SY_OP_QUANTIZE,
    .name = "quantize.f32_q8_0.plain",
    .numerics_class = "exact",
    .supports = supports,
    .estimate = estimate,
    .run = run,
};
