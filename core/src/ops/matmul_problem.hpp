// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the parts of matmul's OpSpec share.

#include <switchyard/ops/matmul.h>

#include "op/op_spec.hpp"
#include "ops/quantize_formats.hpp"

namespace switchyard::matmul_op {

/// A valid call with its tensors and sizes by name.
struct View {
  const sy_tensor *x, *w, *scales, *biases, *add, *y;
  const sy_matmul_params *params;
  std::int64_t m, n, k;
  bool quantised() const noexcept { return params->format != SY_QUANT_NONE; }
};
View view(const sy_call &call) noexcept;

/// The formats a matmul multiplies with as they are.
bool is_offered(std::uint32_t format) noexcept;
/// Values of x that share a scale: 32, or 256 for TQ1_0 and TQ2_0.
std::int64_t block_of(std::uint32_t format) noexcept;
/// The same format and groups as the operation quantize names them.
sy_quantize_params quantize_params(std::uint32_t format, std::uint32_t group_size) noexcept;

Shape describe(const sy_call &call);
Result<Problem> make_problem(const Shape &shape, std::uint64_t seed);
std::vector<Shape> conformance_shapes();
std::vector<Shape> gate_shapes(const Shape &like);
/// Quantised weights: to the bit. Plain ones: within the bound that ops/matmul.h states.
std::optional<std::string> compare(const sy_call &got, const sy_call &want);

}  // namespace switchyard::matmul_op
