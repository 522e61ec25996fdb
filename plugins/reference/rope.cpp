// SPDX-License-Identifier: Apache-2.0
// The meaning of "rope": angles, sines and products in f64.

#include <switchyard/ops/rope.h>

#include <failure.hpp>
#include <iterator>

#include "row_wise.hpp"

namespace switchyard::reference {
namespace {

using cpu::failure;
using namespace quant;

std::int32_t run(const cpu::KernelDef &, const cpu::Context &, const sy_call &call,
                 sy_error *error) {
  const auto &p = *static_cast<const sy_rope_params *>(call.params);
  const Rows x(*call.inputs[SY_ROPE_IN_X]), y(*call.outputs[SY_ROPE_OUT_Y]);
  const sy_tensor *positions = call.inputs[SY_ROPE_IN_POSITIONS];
  const sy_tensor *frequencies = call.inputs[SY_ROPE_IN_FREQUENCIES];
  const std::int64_t heads = x.t.shape[1], length = x.t.shape[2];
  const std::int64_t rotary = p.rotary == 0 ? x.cols : std::int64_t{p.rotary};
  Progress progress(call, x.count * x.cols);
  for (std::int64_t row = 0; row < x.count; ++row) {
    const std::int64_t i = row % length, b = row / length / heads;
    double position = static_cast<double>(p.offset + i);
    if (positions != nullptr) {
      std::int32_t at = 0;
      std::memcpy(
          &at, first_byte(*positions) + 4 * (b * positions->strides[0] + i * positions->strides[1]),
          sizeof at);
      position = at;
    }
    for (std::int64_t j = 0; j < rotary / 2; ++j) {
      const double exponent = -2.0 * static_cast<double>(j) / static_cast<double>(rotary);
      const double frequency = frequencies != nullptr
                                   ? load(first_byte(*frequencies) + 4 * j, {SY_TYPE_FLOAT, 32, 0})
                                   : std::pow(static_cast<double>(p.base), exponent);
      const double angle = position * static_cast<double>(p.scale) * frequency;
      const bool interleaved = p.style == SY_ROPE_INTERLEAVED;
      const std::int64_t first = interleaved ? 2 * j : j;
      const std::int64_t second = interleaved ? 2 * j + 1 : j + rotary / 2;
      const double u = load(x.at(row, first), x.t.dtype), v = load(x.at(row, second), x.t.dtype);
      const double c = std::cos(angle), s = std::sin(angle);
      store(y.at(row, first), y.t.dtype, static_cast<float>(u * c - v * s));
      store(y.at(row, second), y.t.dtype, static_cast<float>(v * c + u * s));
    }
    for (std::int64_t e = rotary; e < x.cols; ++e)
      std::memcpy(y.at(row, e), x.at(row, e), x.t.dtype.bits / 8);
    if (!progress.step(x.cols)) return failure(error, SY_E_CANCELLED, "cancelled");
  }
  return SY_OK;
}

constexpr cpu::KernelDef kKernels[] = {
    row_wise_kernel<60>(SY_OP_ROPE, "rope.any_any.plain", "rope.f64", nullptr, run)};

}  // namespace

cpu::KernelList rope_kernels() noexcept { return {kKernels, std::size(kKernels)}; }

}  // namespace switchyard::reference
