/* SPDX-License-Identifier: Apache-2.0
 *
 * One kernel of "dequantize": q8_0 to f32, block by block, as switchyard/ops/quantize.h says.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <switchyard/ops/quantize.h>

enum { BLOCK = 32, BLOCK_BYTES = 34 };

static int32_t fail(sy_error *error, int32_t code, const char *message) {
  if (error != NULL && error->struct_size >= sizeof(*error)) {
    error->code = code;
    error->index = -1;
    (void)snprintf(error->message, sizeof(error->message), "%s", message);
  }
  return code;
}

static void *data(const sy_tensor *t) { return (char *)t->handle + t->byte_offset; }

static float from_f16(const uint8_t *p) {
  uint16_t h;
  memcpy(&h, p, sizeof(h));
  const int exponent = h >> 10 & 31, fraction = h & 1023;
  float value = 0;
  if (exponent == 31)
    value = fraction != 0 ? NAN : INFINITY;
  else if (exponent == 0)
    value = ldexpf((float)fraction, -24);
  else
    value = ldexpf((float)(1024 + fraction), exponent - 25);
  return (h & 0x8000u) != 0 ? -value : value;
}

static int32_t run(const sy_kernel *self, sy_instance *instance, const sy_call *call,
                   sy_error *error) {
  const sy_tensor *const y = call->outputs[SY_DEQUANTIZE_OUT_Y];
  const uint8_t *block = (const uint8_t *)data(call->inputs[SY_DEQUANTIZE_IN_CODES]);
  const int64_t cols = y->shape[y->rank - 1];
  int64_t rows = 1, until_poll = 0;
  for (int k = 0; k + 1 < y->rank; ++k) rows *= y->shape[k];
  (void)self;
  (void)instance;
  for (int64_t row = 0; row < rows; ++row) {
    int64_t offset = 0, rest = row;
    for (int k = y->rank - 2; k >= 0; --k) {
      offset += rest % y->shape[k] * y->strides[k];
      rest /= y->shape[k];
    }
    float *const to = (float *)data(y) + offset;
    for (int64_t i = 0; i < cols; i += BLOCK, block += BLOCK_BYTES) {
      const float d = from_f16(block);
      for (int j = 0; j < BLOCK; ++j) to[i + j] = (float)(int8_t)block[2 + j] * d;
      if (--until_poll < 0 && call->progress != NULL) {
        const double done = (double)(row * cols + i) / (double)(rows * cols);
        if (call->progress(call->progress_arg, done) != 0)
          return fail(error, SY_E_CANCELLED, "cancelled");
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
  const sy_tensor *const y = call->outputs[SY_DEQUANTIZE_OUT_Y];
  (void)self;
  (void)instance;
  if (params->format != SY_QUANT_Q8_0)
    return fail(reason, SY_E_UNSUPPORTED, "only the format q8_0 is offered");
  if (y->dtype.code != SY_TYPE_FLOAT || y->dtype.bits != 32)
    return fail(reason, SY_E_UNSUPPORTED, "only f32 is offered");
  if (y->device_kind != SY_DEVICE_HOST)
    return fail(reason, SY_E_UNSUPPORTED, "tensors must be in host memory");
  return SY_OK;
}

/* A guess in ns; the dispatcher measures. */
static uint64_t estimate(const sy_kernel *self, sy_instance *instance, const sy_call *call) {
  const sy_tensor *const y = call->outputs[SY_DEQUANTIZE_OUT_Y];
  double n = 1;
  (void)self;
  (void)instance;
  for (int k = 0; k < y->rank; ++k) n *= (double)y->shape[k];
  return (uint64_t)(100 + n);
}

const sy_kernel the_kernel = {
    .struct_size = sizeof(sy_kernel),
    .traits = SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC,
    .op = SY_OP_DEQUANTIZE,
    .name = "dequantize.q8_0_f32.plain",
    .numerics_class = "exact",
    .supports = supports,
    .estimate = estimate,
    .run = run,
};
