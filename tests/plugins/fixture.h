/* SPDX-License-Identifier: Apache-2.0
 *
 * What the plugin fixtures share: a small plugin with one right kernel for "kmeans.assign". Each
 * fixture defines FIXTURE_ID, spoils one thing, and includes fixture_plugin.h for the rest.
 *
 * Hooks, all optional, defined before this header is included:
 *   FIXTURE_BEFORE_RUN(call)      statement at the start of run
 *   FIXTURE_LABEL(i, n, label, k) the label that is stored for row i
 *   FIXTURE_AFTER_RUN(call)       statement after the outputs are written
 *   FIXTURE_PROBE                 what probe does and returns
 *   FIXTURE_POLLS                 0: progress is never called
 */
#ifndef SWITCHYARD_TESTS_PLUGINS_FIXTURE_H
#define SWITCHYARD_TESTS_PLUGINS_FIXTURE_H

#include <math.h>
#include <stdio.h>
#include <switchyard/ops/kmeans.h>

#ifndef FIXTURE_BEFORE_RUN
#define FIXTURE_BEFORE_RUN(call) (void)(call)
#endif
#ifndef FIXTURE_LABEL
#define FIXTURE_LABEL(i, n, label, k) (label)
#endif
#ifndef FIXTURE_AFTER_RUN
#define FIXTURE_AFTER_RUN(call) (void)(call)
#endif

#ifndef FIXTURE_POLLS
#define FIXTURE_POLLS 1
#endif

static inline int32_t fixture_fail(sy_error *error, int32_t code, const char *message) {
  if (error != NULL && error->struct_size >= sizeof(sy_error)) {
    error->code = code;
    error->index = -1;
    (void)snprintf(error->message, sizeof(error->message), "%s", message);
  }
  return code;
}

static inline void *fixture_data(const sy_tensor *t) {
  return t == NULL ? NULL : (void *)((char *)t->handle + t->byte_offset);
}

/* D* of ops/kmeans.h. */
static inline float fixture_distance(const float *x, const float *c, int64_t d) {
  float a[16] = {0};
  for (int64_t m = 0; m < d; ++m) {
    const float t = x[m] - c[m];
    a[m & 15] = fmaf(t, t, a[m & 15]);
  }
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) a[i] += a[i + half];
  return a[0];
}

static inline int32_t fixture_run(const sy_kernel *self, sy_instance *instance, const sy_call *call,
                                  sy_error *error) {
  const sy_tensor *const x = call->inputs[SY_KMEANS_IN_X];
  const float *const rows = (const float *)fixture_data(x);
  const float *const centroids = (const float *)fixture_data(call->inputs[SY_KMEANS_IN_CENTROIDS]);
  const float *const weights = (const float *)fixture_data(call->inputs[SY_KMEANS_IN_WEIGHTS]);
  int32_t *const labels = (int32_t *)fixture_data(call->outputs[SY_KMEANS_ASSIGN_OUT_LABELS]);
  float *const distances = (float *)fixture_data(call->outputs[SY_KMEANS_ASSIGN_OUT_DISTANCES]);
  double *const partials =
      (double *)fixture_data(call->outputs[SY_KMEANS_ASSIGN_OUT_INERTIA_PARTIALS]);
  const int64_t n = x->shape[0], d = x->shape[1];
  const int64_t k = call->inputs[SY_KMEANS_IN_CENTROIDS]->shape[0];
  double lanes[8] = {0};
  (void)self;
  (void)instance;
  (void)error;
  FIXTURE_BEFORE_RUN(call);
  for (int64_t i = 0; i < n; ++i) {
    const float *const row = rows + i * x->strides[0];
    float best = fixture_distance(row, centroids, d);
    int32_t label = 0;
    for (int64_t j = 1; j < k; ++j) {
      const float other = fixture_distance(row, centroids + j * d, d);
      if (other < best) {
        best = other;
        label = (int32_t)j;
      }
    }
    if (labels != NULL) labels[i] = FIXTURE_LABEL(i, n, label, k);
    if (distances != NULL) distances[i] = best;
    lanes[i % 8] += weights == NULL ? (double)best : (double)weights[i] * (double)best;
    if ((i + 1) % SY_KMEANS_INERTIA_BLOCK == 0 || i + 1 == n) {
      for (int half = 4; half > 0; half /= 2)
        for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
      if (partials != NULL) partials[i / SY_KMEANS_INERTIA_BLOCK] = lanes[0];
      for (int l = 0; l < 8; ++l) lanes[l] = 0;
    }
    if (FIXTURE_POLLS && call->progress != NULL && i % (1 + 1000000 / (d * k)) == 0 &&
        call->progress(call->progress_arg, (double)i / (double)n) != 0)
      return fixture_fail(error, SY_E_CANCELLED, "cancelled");
  }
  FIXTURE_AFTER_RUN(call);
  return SY_OK;
}

static inline int32_t fixture_supports(const sy_kernel *self, sy_instance *instance,
                                       const sy_call *call, sy_error *reason) {
  (void)self;
  (void)instance;
  if (call->inputs[SY_KMEANS_IN_X]->device_kind != SY_DEVICE_HOST)
    return fixture_fail(reason, SY_E_UNSUPPORTED, "tensors must be in host memory");
  return SY_OK;
}

static inline int32_t fixture_probe(const sy_host *host, sy_error *error) {
  (void)host;
  (void)error;
#ifdef FIXTURE_PROBE
  FIXTURE_PROBE;
#else
  return SY_OK;
#endif
}

static inline uint32_t fixture_device_count(const sy_host *host) {
  (void)host;
  return 1;
}

static inline int32_t fixture_device_info(const sy_host *host, uint32_t device, sy_device_info *out,
                                          sy_error *error) {
  (void)host;
  if (device != 0 || out->struct_size < sizeof(*out))
    return fixture_fail(error, SY_E_INVALID_ARGUMENT, "no such device");
  out->kind = SY_DEVICE_HOST;
  (void)snprintf(out->name, sizeof(out->name), "processor");
  (void)snprintf(out->runtime_id, sizeof(out->runtime_id), "fixture 1");
  out->compute_units = 1;
  return SY_OK;
}

/* One instance serves all: it holds nothing. */
struct sy_instance {
  int unused;
};

static inline int32_t fixture_create(const sy_host *host, uint32_t device,
                                     const sy_option *const *options, uint32_t n_options,
                                     sy_instance **out, sy_error *error) {
  static struct sy_instance the_instance;
  (void)host;
  (void)device;
  (void)options;
  if (n_options != 0) return fixture_fail(error, SY_E_INVALID_ARGUMENT, "there are no options");
  *out = &the_instance;
  return SY_OK;
}

static inline void fixture_destroy(sy_instance *instance) { (void)instance; }

static inline uint32_t fixture_kernel_count(const sy_instance *instance) {
  (void)instance;
  return 1;
}

#endif
