// SPDX-License-Identifier: Apache-2.0
// The meaning of "swiglu" and "gelu": f64, one value at a time.

#include <switchyard/ops/activation.h>

#include <failure.hpp>
#include <iterator>
#include <numbers>

#include "row_wise.hpp"

namespace switchyard::reference {
namespace {

using cpu::failure;
using namespace quant;

constexpr bool kSwiglu = false, kGelu = true;

double gelu(double x, bool tanh) noexcept {
  if (!tanh) return x * std::erfc(-x / std::numbers::sqrt2) / 2;
  const double inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  return x * (1 + std::tanh(inner)) / 2;
}

std::int32_t run(const cpu::KernelDef &self, const cpu::Context &, const sy_call &call,
                 sy_error *error) {
  const bool is_gelu = *static_cast<const bool *>(self.data);
  const Rows x(*call.inputs[0]), other(*call.inputs[is_gelu ? 0 : SY_SWIGLU_IN_UP]),
      y(*call.outputs[SY_ACTIVATION_OUT_Y]);
  const std::uint32_t flags = static_cast<const sy_activation_params *>(call.params)->flags;
  Progress progress(call, x.count * x.cols);
  for (std::int64_t row = 0; row < x.count; ++row) {
    for (std::int64_t i = 0; i < x.cols; ++i) {
      const double v = load(x.at(row, i), x.t.dtype), up = load(other.at(row, i), x.t.dtype);
      const double result =
          is_gelu ? gelu(v, (flags & SY_GELU_TANH) != 0) : v / (1 + std::exp(-v)) * up;
      store(y.at(row, i), y.t.dtype, static_cast<float>(result));
    }
    if (!progress.step(x.cols)) return failure(error, SY_E_CANCELLED, "cancelled");
  }
  return SY_OK;
}

constexpr cpu::KernelDef kKernels[] = {
    row_wise_kernel<40>(SY_OP_SWIGLU, "swiglu.any_any.plain", "activation.f64", &kSwiglu, run),
    row_wise_kernel<40>(SY_OP_GELU, "gelu.any_any.plain", "activation.f64", &kGelu, run),
};

}  // namespace

cpu::KernelList activation_kernels() noexcept { return {kKernels, std::size(kKernels)}; }

}  // namespace switchyard::reference
