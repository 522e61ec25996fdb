// SPDX-License-Identifier: Apache-2.0
// The meaning of "rms_norm" and "layer_norm": f64, one row after another.

#include <switchyard/ops/norm.h>

#include <failure.hpp>
#include <iterator>

#include "row_wise.hpp"

namespace switchyard::reference {
namespace {

using cpu::failure;
using namespace quant;

constexpr bool kRms = false, kLayer = true;

double vector_at(const sy_tensor *t, std::int64_t i, double absent) noexcept {
  if (t == nullptr) return absent;
  return load(first_byte(*t) + i * (t->dtype.bits / 8), t->dtype);
}

std::int32_t run(const cpu::KernelDef &self, const cpu::Context &, const sy_call &call,
                 sy_error *error) {
  const bool layer = *static_cast<const bool *>(self.data);
  const Rows x(*call.inputs[SY_NORM_IN_X]), y(*call.outputs[SY_NORM_OUT_Y]);
  const sy_tensor *weight = call.inputs[SY_NORM_IN_WEIGHT];
  const sy_tensor *bias = layer ? call.inputs[SY_NORM_IN_BIAS] : nullptr;
  const double eps = static_cast<const sy_norm_params *>(call.params)->eps;
  const auto d = static_cast<double>(x.cols);
  Progress progress(call, x.count * x.cols);
  for (std::int64_t row = 0; row < x.count; ++row) {
    const auto value = [&](std::int64_t i) {
      return static_cast<double>(load(x.at(row, i), x.t.dtype));
    };
    double mean = 0, squares = 0;
    for (std::int64_t i = 0; layer && i < x.cols; ++i) mean += value(i);
    mean /= d;
    for (std::int64_t i = 0; i < x.cols; ++i) squares += (value(i) - mean) * (value(i) - mean);
    const double scale = 1 / std::sqrt(squares / d + eps);
    for (std::int64_t i = 0; i < x.cols; ++i)
      store(y.at(row, i), y.t.dtype,
            static_cast<float>((value(i) - mean) * scale * vector_at(weight, i, 1) +
                               vector_at(bias, i, 0)));
    if (!progress.step(x.cols)) return failure(error, SY_E_CANCELLED, "cancelled");
  }
  return SY_OK;
}

constexpr cpu::KernelDef kKernels[] = {
    row_wise_kernel<20>(SY_OP_RMS_NORM, "rms_norm.any_any.plain", "norm.f64", &kRms, run),
    row_wise_kernel<20>(SY_OP_LAYER_NORM, "layer_norm.any_any.plain", "norm.f64", &kLayer, run),
};

}  // namespace

cpu::KernelList norm_kernels() noexcept { return {kKernels, std::size(kKernels)}; }

}  // namespace switchyard::reference
