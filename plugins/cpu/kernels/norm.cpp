// SPDX-License-Identifier: Apache-2.0
/// rms_norm and layer_norm: each row is read into f32 once, then summed and scaled there.
#include <switchyard/ops/norm.h>

#include "rowwise.hpp"

namespace switchyard::cpu {
inline namespace SY_ISA {
namespace norm {
namespace {

using namespace rowwise;

constexpr bool kRms = false, kLayer = true;

bool is_layer(const KernelDef &self) { return *static_cast<const bool *>(self.data); }

/// Sum of f(v) over n values, four vectors of partial sums at a time.
template <class F>
HWY_INLINE float sum_of(const float *x, int64_t n, F f) {
  const DF df;
  VF a = hn::Zero(df), b = a, c = a, d = a;
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    a = f(hn::LoadU(df, x + i), a);
    b = f(hn::LoadU(df, x + i + kLanes), b);
    c = f(hn::LoadU(df, x + i + 2 * kLanes), c);
    d = f(hn::LoadU(df, x + i + 3 * kLanes), d);
  }
  for (; i + kLanes <= n; i += kLanes) a = f(hn::LoadU(df, x + i), a);
  if (i < n) {
    float rest[kLanes];
    // What is past the end repeats the first value and is taken off again by the mask.
    for (int64_t j = 0; j < kLanes; ++j) rest[j] = i + j < n ? x[i + j] : 0;
    b = hn::IfThenElse(hn::FirstN(df, static_cast<size_t>(n - i)), f(hn::LoadU(df, rest), b), b);
  }
  return hn::GetLane(hn::SumOfLanes(df, hn::Add(hn::Add(a, b), hn::Add(c, d))));
}

/// values = (values - mean) * scale * weight + bias.
HWY_INLINE void apply(float *values, int64_t n, float mean, float scale, const float *weight,
                      const float *bias) {
  const DF df;
  const VF m = hn::Set(df, mean), s = hn::Set(df, scale);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    VF v = hn::Mul(hn::Sub(hn::LoadU(df, values + i), m), s);
    if (weight != nullptr) v = hn::Mul(v, hn::LoadU(df, weight + i));
    if (bias != nullptr) v = hn::Add(v, hn::LoadU(df, bias + i));
    hn::StoreU(v, df, values + i);
  }
  for (; i < n; ++i) {
    float v = (values[i] - mean) * scale;
    if (weight != nullptr) v *= weight[i];
    if (bias != nullptr) v += bias[i];
    values[i] = v;
  }
}

uint64_t row_bytes(const sy_call &call) {
  const RowsOf x(*call.inputs[SY_NORM_IN_X]);
  return (static_cast<uint64_t>(x.cols) * sizeof(float) + 63) & ~uint64_t{63};
}

/// Weight and bias as f32, then a row for each thread.
uint64_t workspace(const KernelDef &, const Context &ctx, const sy_call &call) {
  return row_bytes(call) * (2 + uint64_t{thread_count(ctx, call)});
}

/// The vector itself where it is f32, else a copy in `room`; NULL if absent.
const float *as_f32(const sy_tensor *t, float *room) {
  if (t == nullptr) return nullptr;
  const RowsOf rows(*t);
  if (t->dtype.bits == 32) return rows.at<const float>(0, 0);
  with_type(t->dtype, [&]<class T>(T *) { widen_row(rows.at<const T>(0, 0), 1, rows.cols, room); });
  return room;
}

int32_t run(const KernelDef &self, const Context &ctx, const sy_call &call, sy_error *error) {
  const bool layer = is_layer(self);
  const RowsOf x(*call.inputs[SY_NORM_IN_X]), y(*call.outputs[SY_NORM_OUT_Y]);
  if (call.workspace_size < workspace(self, ctx, call))
    return failure(error, SY_E_INTERNAL, "the workspace is smaller than workspace_size asked for");
  char *room = static_cast<char *>(call.workspace);
  const uint64_t bytes = row_bytes(call);
  const float *weight = as_f32(call.inputs[SY_NORM_IN_WEIGHT], reinterpret_cast<float *>(room));
  const float *bias =
      layer ? as_f32(call.inputs[SY_NORM_IN_BIAS], reinterpret_cast<float *>(room + bytes))
            : nullptr;
  const float eps = static_cast<const sy_norm_params *>(call.params)->eps;
  const auto n = static_cast<float>(x.cols);
  return with_type(x.t->dtype, [&]<class T>(T *) {
    return for_pieces(
        ctx, call, x, INT64_MAX, error, [&](Worker &worker, int64_t row, int64_t, int64_t cols) {
          auto *values = reinterpret_cast<float *>(room + (2 + worker.index) * bytes);
          widen_row(x.at<const T>(row, 0), x.step, cols, values);
          float mean = 0;
          if (layer)
            mean = sum_of(values, cols, [](VF v, VF sum) HWY_ATTR { return hn::Add(sum, v); }) / n;
          const float squares = sum_of(values, cols, [mean](VF v, VF sum) HWY_ATTR {
            const VF c = hn::Sub(v, hn::Set(DF(), mean));
            return hn::MulAdd(c, c, sum);
          });
          apply(values, cols, mean, 1.0f / __builtin_sqrtf(squares / n + eps), weight, bias);
          store_row(values, cols, y.at<T>(row, 0), y.step);
        });
  });
}

int32_t supports(const KernelDef &, const Context &, const sy_call &call, sy_error *reason) {
  return inputs_in_host_memory(call, reason);
}

uint64_t estimate(const KernelDef &, const Context &ctx, const sy_call &call) {
  return time_of(ctx, call, RowsOf(*call.inputs[SY_NORM_IN_X]), 2, 0.15);
}

constexpr KernelDef kernel(const char *op, const char *name, const bool *layer) {
  return {op,
          name,
          "norm." SY_TEXT(SY_ISA),
          SY_TRAIT_DETERMINISTIC,
          layer,
          supports,
          estimate,
          workspace,
          run,
          nullptr,
          nullptr};
}
constexpr KernelDef kKernels[] = {
    kernel(SY_OP_RMS_NORM, "rms_norm.any_any.rows", &kRms),
    kernel(SY_OP_LAYER_NORM, "layer_norm.any_any.rows", &kLayer),
};

}  // namespace
}  // namespace norm

KernelList norm_kernels() noexcept {
  return {norm::kKernels, sizeof(norm::kKernels) / sizeof(norm::kKernels[0])};
}

}  // namespace SY_ISA
}  // namespace switchyard::cpu
