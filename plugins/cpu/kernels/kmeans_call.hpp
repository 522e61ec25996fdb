// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The tensors of a k-means call as plain pointers. Part of the kernel sources (needs SY_ISA).

#include <stdint.h>
#include <switchyard/ops/kmeans.h>

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace {

struct KMeansCall {
  bool step = false;
  int64_t n = 0, d = 0, k = 0;
  const float *x = nullptr;
  int64_t stride = 0;  ///< elements from one row of x to the next
  const float *centroids = nullptr, *weights = nullptr;
  const int32_t *shifts = nullptr, *previous = nullptr;
  int32_t weight_shift = 0;
  double rate = 0;  ///< SY_KMEANS_INT8: codes a unit of x
  int32_t *labels = nullptr;
  float *distances = nullptr;
  double *partials = nullptr;
  int64_t *sums = nullptr, *counts = nullptr, *totals = nullptr, *changed = nullptr;

  const float *row(int64_t i) const { return x + i * stride; }
  const float *centroid(int64_t j) const { return centroids + j * d; }
};

template <class T>
T *tensor_data(const sy_tensor *t) {
  if (t == nullptr) return nullptr;
  return reinterpret_cast<T *>(reinterpret_cast<uintptr_t>(t->handle) + t->byte_offset);
}

[[maybe_unused]] KMeansCall kmeans_call(const sy_call &call, bool step) {
  const sy_tensor &x = *call.inputs[SY_KMEANS_IN_X];
  const sy_tensor *const *out = call.outputs;
  KMeansCall k;
  k.step = step;
  k.n = x.shape[0];
  k.d = x.shape[1];
  k.k = call.inputs[SY_KMEANS_IN_CENTROIDS]->shape[0];
  k.x = tensor_data<const float>(&x);
  k.stride = x.strides[0];
  k.centroids = tensor_data<const float>(call.inputs[SY_KMEANS_IN_CENTROIDS]);
  k.weights = tensor_data<const float>(call.inputs[SY_KMEANS_IN_WEIGHTS]);
  if (!step) {
    k.labels = tensor_data<int32_t>(out[SY_KMEANS_ASSIGN_OUT_LABELS]);
    k.distances = tensor_data<float>(out[SY_KMEANS_ASSIGN_OUT_DISTANCES]);
    k.partials = tensor_data<double>(out[SY_KMEANS_ASSIGN_OUT_INERTIA_PARTIALS]);
    return k;
  }
  k.shifts = tensor_data<const int32_t>(call.inputs[SY_KMEANS_IN_SHIFTS]);
  k.previous = tensor_data<const int32_t>(call.inputs[SY_KMEANS_IN_PREVIOUS_LABELS]);
  if (const auto *p = static_cast<const sy_kmeans_params *>(call.params); p != nullptr) {
    k.weight_shift = p->weight_shift;
    if ((p->flags & SY_KMEANS_INT8) != 0 && p->largest > 0)
      k.rate = 127.0 / static_cast<double>(p->largest);
  }
  k.labels = tensor_data<int32_t>(out[SY_KMEANS_STEP_OUT_LABELS]);
  k.sums = tensor_data<int64_t>(out[SY_KMEANS_STEP_OUT_SUMS]);
  k.counts = tensor_data<int64_t>(out[SY_KMEANS_STEP_OUT_COUNTS]);
  k.totals = tensor_data<int64_t>(out[SY_KMEANS_STEP_OUT_WEIGHTS]);
  k.partials = tensor_data<double>(out[SY_KMEANS_STEP_OUT_INERTIA_PARTIALS]);
  k.changed = tensor_data<int64_t>(out[SY_KMEANS_STEP_OUT_CHANGED]);
  k.distances = tensor_data<float>(out[SY_KMEANS_STEP_OUT_DISTANCES]);
  return k;
}

[[maybe_unused]] uint32_t kmeans_flags(const sy_call &call) {
  return call.params != nullptr ? static_cast<const sy_kmeans_params *>(call.params)->flags : 0;
}

/// Cuts a block of memory into 64-byte aligned arrays; with a null base it only measures.
struct Carver {
  uintptr_t base = 0;
  uint64_t used = 0;
  template <class T>
  T *take(uint64_t count) {
    T *p = base == 0 ? nullptr : reinterpret_cast<T *>(base + used);
    used += (count * sizeof(T) + 63) & ~uint64_t{63};
    return p;
  }
};

[[maybe_unused]] inline int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
[[maybe_unused]] inline int64_t ceil_of(int64_t a, int64_t b) { return a / b + (a % b != 0); }

}  // namespace
}  // namespace SY_ISA
}  // namespace switchyard::cpu
