/* SPDX-License-Identifier: Apache-2.0
 *
 * A plugin as its author wrote it for ABI 1.0, built against the headers of that day (v1_0/). It
 * must keep building, loading and passing its gate, whatever today's headers say. Do not modernise
 * it.
 */
#include <stdio.h>
#include <string.h>
#include <switchyard/ops/quantize.h>

struct sy_instance {
  const sy_host *host;
};

static struct sy_instance the_instance;

static int32_t fail(sy_error *error, int32_t code, int64_t index, const char *message) {
  if (error != NULL && error->struct_size >= sizeof(*error)) {
    error->code = code;
    error->index = index;
    (void)snprintf(error->message, sizeof(error->message), "%s", message);
  }
  return code;
}

static float half_to_float(const uint8_t *bytes) {
  const uint32_t h = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8;
  const uint32_t sign = (h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 1023u;
  float value;
  if (exponent == 0) {
    value = (float)fraction * 0x1p-24f; /* exact */
    return sign != 0 ? -value : value;
  }
  const uint32_t bits =
      sign | (exponent == 31 ? 0x7F800000u : (exponent + 112u) << 23) | fraction << 13;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

/* Q8_0 to f32, contiguous. */
static int32_t supports(const sy_kernel *self, sy_instance *instance, const sy_call *call,
                        sy_error *reason) {
  const sy_quantize_params *params = (const sy_quantize_params *)call->params;
  const sy_tensor *codes = call->inputs[SY_DEQUANTIZE_IN_CODES];
  const sy_tensor *y = call->outputs[SY_DEQUANTIZE_OUT_Y];
  int64_t expected = 1;
  (void)self;
  (void)instance;
  if (params->format != SY_QUANT_Q8_0)
    return fail(reason, SY_E_UNSUPPORTED, -1, "only q8_0 is offered");
  if (y->dtype.code != SY_TYPE_FLOAT || y->dtype.bits != 32)
    return fail(reason, SY_E_UNSUPPORTED, -1, "y must be f32");
  if (codes->device_kind != SY_DEVICE_HOST || y->device_kind != SY_DEVICE_HOST)
    return fail(reason, SY_E_UNSUPPORTED, -1, "tensors must be in host memory");
  for (int32_t i = y->rank - 1; i >= 0; --i) {
    if (y->shape[i] > 1 && y->strides[i] != expected)
      return fail(reason, SY_E_UNSUPPORTED, -1, "y must be contiguous");
    expected *= y->shape[i];
  }
  return SY_OK;
}

static int32_t run(const sy_kernel *self, sy_instance *instance, const sy_call *call,
                   sy_error *error) {
  const sy_tensor *codes = call->inputs[SY_DEQUANTIZE_IN_CODES];
  const sy_tensor *y = call->outputs[SY_DEQUANTIZE_OUT_Y];
  const uint8_t *block = (const uint8_t *)codes->handle + codes->byte_offset;
  float *out = (float *)(void *)((char *)y->handle + y->byte_offset);
  int64_t count = 1;
  (void)self;
  (void)instance;
  (void)error;
  for (int32_t i = 0; i < y->rank; ++i) count *= y->shape[i];
  for (int64_t i = 0; i < count; i += 32, block += 34) {
    const float d = half_to_float(block);
    for (int64_t j = 0; j < 32; ++j) {
      int8_t q;
      memcpy(&q, block + 2 + j, 1);
      out[i + j] = (float)q * d;
    }
  }
  return SY_OK;
}

static const sy_kernel kernel = {
    sizeof(sy_kernel),
    SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC,
    SY_OP_DEQUANTIZE,
    "dequantize.q8_0_f32.frozen",
    "exact",
    NULL,
    supports,
    NULL,
    NULL,
    run,
    NULL,
    NULL,
};

static int32_t probe(const sy_host *host, sy_error *error) {
  if (host->struct_size < sizeof(sy_host) || host->abi_major != SY_ABI_MAJOR)
    return fail(error, SY_E_ABI, -1, "the host is older than this plugin");
  return SY_OK;
}

static uint32_t device_count(const sy_host *host) {
  (void)host;
  return 1;
}

static int32_t device_info(const sy_host *host, uint32_t device, sy_device_info *out,
                           sy_error *error) {
  (void)host;
  if (device != 0 || out->struct_size < sizeof(*out))
    return fail(error, SY_E_INVALID_ARGUMENT, -1, "no such device");
  out->kind = SY_DEVICE_HOST;
  (void)snprintf(out->name, sizeof(out->name), "processor");
  (void)snprintf(out->runtime_id, sizeof(out->runtime_id), "frozen 1");
  return SY_OK;
}

static int32_t create(const sy_host *host, uint32_t device, const sy_option *const *options,
                      uint32_t n_options, sy_instance **out, sy_error *error) {
  (void)device;
  (void)options;
  if (n_options != 0) return fail(error, SY_E_INVALID_ARGUMENT, -1, "there are no options");
  the_instance.host = host;
  *out = &the_instance;
  return SY_OK;
}

static void destroy(sy_instance *instance) { (void)instance; }

static uint32_t kernel_count(const sy_instance *instance) {
  (void)instance;
  return 1;
}

static const sy_kernel *kernel_at(const sy_instance *instance, uint32_t index) {
  (void)instance;
  return index == 0 ? &kernel : NULL;
}

SY_EXPORT_PLUGIN("frozen_1_0") = {
    sizeof(sy_plugin),
    SY_ABI_MAJOR,
    SY_ABI_MINOR,
    "frozen_1_0",
    "1.0",
    "",
    0,
    0,
    probe,
    device_count,
    device_info,
    create,
    destroy,
    kernel_count,
    kernel_at,
    NULL,
};
