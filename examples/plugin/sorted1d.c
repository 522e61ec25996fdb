/* SPDX-License-Identifier: Apache-2.0
 *
 * sorted1d - a third-party plugin: k-means on one-dimensional data (grey values, prices, code books
 * of quantisers) by sorting the centroids and searching. O(n log k) where general kernels need
 * O(n k); the results are the same bits.
 *
 * Why the same: the distance fl(fl(x - c)^2) never falls as c moves away from x, because rounding
 * keeps order. So the smallest distance is found beside x in the sorted list, and all centroids
 * with that distance stand side by side there; the label is the lowest of their numbers.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <switchyard/ops/kmeans.h>

/* ----------------------------------------------------------------- helpers */

static int32_t fail(sy_error *error, int32_t code, int64_t index, const char *message) {
  if (error != NULL && error->struct_size >= sizeof(*error)) {
    error->code = code;
    error->index = index;
    (void)snprintf(error->message, sizeof(error->message), "%s", message);
  }
  return code;
}

static void *data(const sy_tensor *t) {
  return t == NULL ? NULL : (void *)((char *)t->handle + t->byte_offset);
}

/* --------------------------------------------------------- sorted centroids */

/* Distinct centroids, ascending, each with the lowest of its numbers. Lies in the call's workspace.
 */
typedef struct sorted_list {
  float *value;
  int32_t *label;
  int64_t count;
} sorted_list;

typedef struct item {
  uint32_t key; /* orders like the float */
  int32_t label;
} item;

static uint64_t workspace_bytes(int64_t k) {
  return (uint64_t)k * (sizeof(float) + sizeof(int32_t) + 2 * sizeof(item));
}

static uint32_t order_key(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

/* Stable, so that equal centroids stay in the order of their numbers. */
static void radix_sort(item *items, item *spare, int64_t count) {
  for (unsigned shift = 0; shift < 32; shift += 8) {
    int64_t start[257] = {0};
    for (int64_t i = 0; i < count; ++i) ++start[(items[i].key >> shift & 255u) + 1];
    for (int digit = 0; digit < 256; ++digit) start[digit + 1] += start[digit];
    for (int64_t i = 0; i < count; ++i) spare[start[items[i].key >> shift & 255u]++] = items[i];
    item *const sorted = spare;
    spare = items;
    items = sorted;
  }
}

static sorted_list sort_centroids(const sy_call *call, const float *centroids, int64_t k) {
  item *const items = (item *)call->workspace;
  item *const spare = items + k;
  sorted_list list = {(float *)(void *)(spare + k), NULL, 0};
  list.label = (int32_t *)(void *)(list.value + k);
  for (int64_t j = 0; j < k; ++j) {
    items[j].key = order_key(centroids[j] + 0.0f); /* -0 becomes +0 */
    items[j].label = (int32_t)j;
  }
  radix_sort(items, spare, k);
  for (int64_t j = 0; j < k; ++j) {
    const float value = centroids[items[j].label];
    if (list.count > 0 && list.value[list.count - 1] == value) continue;
    list.value[list.count] = value;
    list.label[list.count++] = items[j].label;
  }
  return list;
}

static float distance(float x, float c) {
  const float t = x - c;
  return t * t;
}

/* The label of x; its distance goes to *best. */
static int32_t nearest(const sorted_list *list, float x, float *best) {
  const float *first = list->value;
  int64_t length = list->count;
  while (length > 1) { /* ends at the last value below x, or at the first of all */
    const int64_t half = length / 2;
    first += first[half] < x ? half : 0;
    length -= half;
  }
  int64_t left = first - list->value, right = left + 1;
  *best = distance(x, list->value[left]);
  int32_t label = list->label[left];
  if (right < list->count && distance(x, list->value[right]) <= *best) {
    const float other = distance(x, list->value[right]);
    if (other < *best || list->label[right] < label) label = list->label[right];
    if (other < *best) left = right; /* the left one is farther, and so is all before it */
    *best = other;
    for (++right; right < list->count && distance(x, list->value[right]) == *best; ++right)
      if (list->label[right] < label) label = list->label[right];
  }
  for (--left; left >= 0 && distance(x, list->value[left]) == *best; --left)
    if (list->label[left] < label) label = list->label[left];
  return label;
}

/* Labels, distances and inertia partials, each where wanted. */
static int32_t assign(const sy_call *call, int32_t *labels, float *distances, double *partials,
                      sy_error *error) {
  const sy_tensor *const x = call->inputs[SY_KMEANS_IN_X];
  const sy_tensor *const centroids = call->inputs[SY_KMEANS_IN_CENTROIDS];
  const float *const rows = (const float *)data(x);
  const int64_t n = x->shape[0], k = centroids->shape[0];
  if (call->workspace == NULL || call->workspace_size < workspace_bytes(k))
    return fail(error, SY_E_INTERNAL, -1, "the workspace is too small");
  const sorted_list list = sort_centroids(call, (const float *)data(centroids), k);
  double lanes[8] = {0};
  for (int64_t i = 0; i < n; ++i) {
    const float value = rows[i * x->strides[0]];
    float best;
    if ((call->flags & SY_CALL_UNTRUSTED_FINITE) != 0 && !isfinite(value))
      return fail(error, SY_E_NONFINITE, i, "a value of x is NaN or Inf");
    const int32_t label = nearest(&list, value, &best);
    if (labels != NULL) labels[i] = label;
    if (distances != NULL) distances[i] = best;
    lanes[i % 8] += (double)best;
    if ((i + 1) % SY_KMEANS_INERTIA_BLOCK == 0 || i + 1 == n) {
      for (int half = 4; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
      if (partials != NULL) partials[i / SY_KMEANS_INERTIA_BLOCK] = lanes[0];
      memset(lanes, 0, sizeof(lanes));
      if (call->progress != NULL &&
          call->progress(call->progress_arg, (double)(i + 1) / (double)n) != 0)
        return fail(error, SY_E_CANCELLED, -1, "cancelled");
    }
  }
  return SY_OK;
}

/* ----------------------------------------------------------------- kernels */

static int32_t supports(const sy_kernel *self, sy_instance *instance, const sy_call *call,
                        sy_error *reason) {
  const sy_tensor *const x = call->inputs[SY_KMEANS_IN_X];
  (void)self;
  (void)instance;
  if (x->device_kind != SY_DEVICE_HOST)
    return fail(reason, SY_E_UNSUPPORTED, -1, "tensors must be in host memory");
  if (((const sy_kmeans_params *)call->params)->flags != 0)
    return fail(reason, SY_E_UNSUPPORTED, -1, "flags are not offered");
  if (x->shape[1] != 1)
    return fail(reason, SY_E_UNSUPPORTED, -1, "only one-dimensional points (d = 1) are sorted");
  if (call->inputs[SY_KMEANS_IN_WEIGHTS] != NULL)
    return fail(reason, SY_E_UNSUPPORTED, -1, "sample weights are not offered");
  return SY_OK;
}

static uint64_t estimate(const sy_kernel *self, sy_instance *instance, const sy_call *call) {
  const double n = (double)call->inputs[SY_KMEANS_IN_X]->shape[0];
  const double k = (double)call->inputs[SY_KMEANS_IN_CENTROIDS]->shape[0];
  (void)self;
  (void)instance;
  return (uint64_t)(12.0 * k + n * (5.0 + 2.0 * log2(k + 1.0))) + 200;
}

static uint64_t workspace_size(const sy_kernel *self, sy_instance *instance, const sy_call *call) {
  (void)self;
  (void)instance;
  return workspace_bytes(call->inputs[SY_KMEANS_IN_CENTROIDS]->shape[0]);
}

static int32_t run_assign(const sy_kernel *self, sy_instance *instance, const sy_call *call,
                          sy_error *error) {
  (void)self;
  (void)instance;
  return assign(call, (int32_t *)data(call->outputs[SY_KMEANS_ASSIGN_OUT_LABELS]),
                (float *)data(call->outputs[SY_KMEANS_ASSIGN_OUT_DISTANCES]),
                (double *)data(call->outputs[SY_KMEANS_ASSIGN_OUT_INERTIA_PARTIALS]), error);
}

static int32_t run_step(const sy_kernel *self, sy_instance *instance, const sy_call *call,
                        sy_error *error) {
  const sy_tensor *const x = call->inputs[SY_KMEANS_IN_X];
  const float *const rows = (const float *)data(x);
  const int64_t n = x->shape[0], k = call->inputs[SY_KMEANS_IN_CENTROIDS]->shape[0];
  const int32_t *const shifts = (const int32_t *)data(call->inputs[SY_KMEANS_IN_SHIFTS]);
  const int32_t *const previous = (const int32_t *)data(call->inputs[SY_KMEANS_IN_PREVIOUS_LABELS]);
  int32_t *const labels = (int32_t *)data(call->outputs[SY_KMEANS_STEP_OUT_LABELS]);
  int64_t *const sums = (int64_t *)data(call->outputs[SY_KMEANS_STEP_OUT_SUMS]);
  int64_t *const counts = (int64_t *)data(call->outputs[SY_KMEANS_STEP_OUT_COUNTS]);
  int64_t *const changed = (int64_t *)data(call->outputs[SY_KMEANS_STEP_OUT_CHANGED]);
  const double scale = ldexp(1.0, shifts[0]); /* times a power of two: exact */
  (void)self;
  (void)instance;
  const int32_t status =
      assign(call, labels, (float *)data(call->outputs[SY_KMEANS_STEP_OUT_DISTANCES]),
             (double *)data(call->outputs[SY_KMEANS_STEP_OUT_INERTIA_PARTIALS]), error);
  if (status != SY_OK) return status;
  memset(sums, 0, (size_t)k * sizeof(*sums));
  memset(counts, 0, (size_t)k * sizeof(*counts));
  *changed = 0;
  for (int64_t i = 0; i < n; ++i) {
    sums[labels[i]] += llrint((double)rows[i * x->strides[0]] * scale);
    ++counts[labels[i]];
    *changed += previous == NULL || previous[i] != labels[i];
  }
  return SY_OK;
}

#define TRAITS (SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC)
static const sy_kernel step_kernel = {
    sizeof(sy_kernel),
    TRAITS,
    SY_OP_KMEANS_STEP,
    "kmeans.step.f32_i32.sorted1d",
    "exact",
    NULL,
    supports,
    estimate,
    workspace_size,
    run_step,
    NULL,
    NULL,
};
static const sy_kernel assign_kernel = {
    sizeof(sy_kernel),
    TRAITS,
    SY_OP_KMEANS_ASSIGN,
    "kmeans.assign.f32_i32.sorted1d",
    "exact",
    NULL,
    supports,
    estimate,
    workspace_size,
    run_assign,
    NULL,
    NULL,
};

/* ------------------------------------------------------------------ plugin */

/* Nothing is kept between calls, so that one instance serves all engines. */
struct sy_instance {
  int unused;
};
static struct sy_instance the_instance;

static int32_t probe(const sy_host *host, sy_error *error) {
  (void)host;
  (void)error;
  return SY_OK; /* runs on every processor */
}

static uint32_t device_count(const sy_host *host) {
  (void)host;
  return 1;
}

static int32_t device_info(const sy_host *host, uint32_t device, sy_device_info *out,
                           sy_error *error) {
  (void)host;
  if (device != 0 || out->struct_size < sizeof(*out))
    return fail(error, SY_E_INVALID_ARGUMENT, -1, "there is one device, 0");
  out->kind = SY_DEVICE_HOST;
  (void)snprintf(out->name, sizeof(out->name), "processor, one thread");
  (void)snprintf(out->runtime_id, sizeof(out->runtime_id), "sorted1d 1");
  out->compute_units = 1;
  return SY_OK;
}

static int32_t create(const sy_host *host, uint32_t device, const sy_option *const *options,
                      uint32_t n_options, sy_instance **out, sy_error *error) {
  (void)host;
  (void)device;
  (void)options;
  if (n_options != 0) return fail(error, SY_E_INVALID_ARGUMENT, -1, "this plugin has no options");
  *out = &the_instance;
  return SY_OK;
}

static void destroy(sy_instance *instance) { (void)instance; }

static uint32_t kernel_count(const sy_instance *instance) {
  (void)instance;
  return 2;
}

static const sy_kernel *kernel_at(const sy_instance *instance, uint32_t index) {
  (void)instance;
  return index == 0 ? &step_kernel : index == 1 ? &assign_kernel : NULL;
}

SY_EXPORT_PLUGIN("sorted1d") = {
    sizeof(sy_plugin),
    SY_ABI_MAJOR,
    SY_ABI_MINOR,
    "sorted1d",
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
