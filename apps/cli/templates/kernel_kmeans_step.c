/* SPDX-License-Identifier: Apache-2.0
 *
 * One kernel of "kmeans.step": plain loops, bit by bit as switchyard/ops/kmeans.h says.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <switchyard/ops/kmeans.h>

static int32_t fail(sy_error *error, int32_t code, const char *message) {
  if (error != NULL && error->struct_size >= sizeof(*error)) {
    error->code = code;
    error->index = -1;
    (void)snprintf(error->message, sizeof(error->message), "%s", message);
  }
  return code;
}

static void *data(const sy_tensor *t) {
  return t == NULL ? NULL : (char *)t->handle + t->byte_offset;
}

/* Sixteen sums, so that vectors of any width give the same bits. */
static float distance(const float *x, const float *c, int64_t d) {
  float a[16] = {0};
  for (int64_t m = 0; m < d; ++m) {
    const float t = x[m] - c[m];
    a[m & 15] = fmaf(t, t, a[m & 15]);
  }
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) a[i] += a[i + half];
  return a[0];
}

static int32_t nearest(const float *x, const float *centroids, int64_t k, int64_t d, float *best) {
  int32_t label = 0;
  *best = distance(x, centroids, d);
  for (int64_t j = 1; j < k; ++j) {
    const float other = distance(x, centroids + j * d, d);
    if (other < *best) {
      *best = other;
      label = (int32_t)j;
    }
  }
  return label;
}

/* Adds rows' distances to eight lanes; a whole block, or the end, gives one inertia partial. */
typedef struct inertia {
  double lanes[8];
  double *partials;
} inertia;

static void add_row(inertia *sums, int64_t i, int64_t n, double value) {
  sums->lanes[i % 8] += value;
  if ((i + 1) % SY_KMEANS_INERTIA_BLOCK != 0 && i + 1 != n) return;
  for (int half = 4; half > 0; half /= 2)
    for (int l = 0; l < half; ++l) sums->lanes[l] += sums->lanes[l + half];
  if (sums->partials != NULL) sums->partials[i / SY_KMEANS_INERTIA_BLOCK] = sums->lanes[0];
  memset(sums->lanes, 0, sizeof(sums->lanes));
}

static int32_t run(const sy_kernel *self, sy_instance *instance, const sy_call *call,
                   sy_error *error) {
  const sy_tensor *const x = call->inputs[SY_KMEANS_IN_X];
  const float *const rows = (const float *)data(x);
  const float *const centroids = (const float *)data(call->inputs[SY_KMEANS_IN_CENTROIDS]);
  const float *const weights = (const float *)data(call->inputs[SY_KMEANS_IN_WEIGHTS]);
  const int32_t *const shifts = (const int32_t *)data(call->inputs[SY_KMEANS_IN_SHIFTS]);
  const int32_t *const previous = (const int32_t *)data(call->inputs[SY_KMEANS_IN_PREVIOUS_LABELS]);
  const int weight_shift = ((const sy_kmeans_params *)call->params)->weight_shift;
  int32_t *const labels = (int32_t *)data(call->outputs[SY_KMEANS_STEP_OUT_LABELS]);
  int64_t *const sums = (int64_t *)data(call->outputs[SY_KMEANS_STEP_OUT_SUMS]);
  int64_t *const counts = (int64_t *)data(call->outputs[SY_KMEANS_STEP_OUT_COUNTS]);
  int64_t *const totals = (int64_t *)data(call->outputs[SY_KMEANS_STEP_OUT_WEIGHTS]);
  int64_t *const changed = (int64_t *)data(call->outputs[SY_KMEANS_STEP_OUT_CHANGED]);
  float *const distances = (float *)data(call->outputs[SY_KMEANS_STEP_OUT_DISTANCES]);
  const int64_t n = x->shape[0], d = x->shape[1];
  const int64_t k = call->inputs[SY_KMEANS_IN_CENTROIDS]->shape[0];
  const int64_t rows_per_poll = 1 + 1000000 / (d * k);
  inertia sums_of_distances = {{0},
                               (double *)data(call->outputs[SY_KMEANS_STEP_OUT_INERTIA_PARTIALS])};
  (void)self;
  (void)instance;
  memset(sums, 0, (size_t)(k * d) * sizeof(*sums));
  memset(counts, 0, (size_t)k * sizeof(*counts));
  if (totals != NULL) memset(totals, 0, (size_t)k * sizeof(*totals));
  *changed = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float *const row = rows + i * x->strides[0];
    const double weight = weights == NULL ? 1.0 : (double)weights[i];
    float best;
    const int32_t label = nearest(row, centroids, k, d, &best);
    labels[i] = label;
    if (distances != NULL) distances[i] = best;
    for (int64_t m = 0; m < d; ++m)
      sums[label * d + m] += (int64_t)rint(ldexp(weight * (double)row[m], shifts[m]));
    if (totals != NULL) totals[label] += (int64_t)rint(ldexp(weight, weight_shift));
    ++counts[label];
    *changed += previous == NULL || previous[i] != label;
    add_row(&sums_of_distances, i, n, weights == NULL ? (double)best : weight * (double)best);
    if (i % rows_per_poll == 0 && call->progress != NULL &&
        call->progress(call->progress_arg, (double)i / (double)n) != 0)
      return fail(error, SY_E_CANCELLED, "cancelled");
  }
  return SY_OK;
}

/* Which calls it takes: from the description alone, cheaply. */
static int32_t supports(const sy_kernel *self, sy_instance *instance, const sy_call *call,
                        sy_error *reason) {
  (void)self;
  (void)instance;
  if (call->inputs[SY_KMEANS_IN_X]->device_kind != SY_DEVICE_HOST)
    return fail(reason, SY_E_UNSUPPORTED, "tensors must be in host memory");
  if (((const sy_kmeans_params *)call->params)->flags != 0)
    return fail(reason, SY_E_UNSUPPORTED, "flags are not offered");
  return SY_OK;
}

/* A guess in ns; the dispatcher measures. */
static uint64_t estimate(const sy_kernel *self, sy_instance *instance, const sy_call *call) {
  const sy_tensor *const x = call->inputs[SY_KMEANS_IN_X];
  const double k = (double)call->inputs[SY_KMEANS_IN_CENTROIDS]->shape[0];
  (void)self;
  (void)instance;
  return (uint64_t)(200 + 2 * (double)x->shape[0] * (double)x->shape[1] * k);
}

const sy_kernel the_kernel = {
    .struct_size = sizeof(sy_kernel),
    .traits = SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC,
    .op = SY_OP_KMEANS_STEP,
    .name = "kmeans.step.f32_i32.plain",
    .numerics_class = "exact",
    .supports = supports,
    .estimate = estimate,
    .run = run,
};
