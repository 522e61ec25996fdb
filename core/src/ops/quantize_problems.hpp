// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the specs of quantize and dequantize share: checks of arrays, generated values, comparison.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "op/op_spec.hpp"
#include "ops/quantize_formats.hpp"

namespace switchyard {

/// The params of a call, or an error if they are missing or too short.
Result<const sy_quantize_params *> quantize_params(const sy_call &call);

/// Does the call ask for stochastic rounding? Callers of ABI 1.0 cannot.
inline bool is_stochastic(const sy_quantize_params &params) noexcept {
  return params.struct_size >= sizeof(sy_quantize_params) &&
         params.rounding == SY_ROUNDING_STOCHASTIC;
}

/// Float values with stride 1 in the last dimension and room for all of them in byte_size.
/// `written`: not read-only either, and no element twice.
Status check_values(std::string_view name, const sy_tensor *t, bool written);

/// A contiguous array as `want` says; nullopt: must be absent.
Status check_array(std::string_view name, const sy_tensor *t, const std::optional<QuantArray> &want,
                   bool written);

/// nullopt if both hold the same bytes (NaN equals NaN), else the first difference.
std::optional<std::string> exact_difference(std::string_view name, const sy_tensor *got,
                                            const sy_tensor *want);

double tensor_bytes(const sy_tensor *t) noexcept;  ///< elements times size; 0 if absent

/// The items of a problem's Shape, as both operations read them.
struct QuantProblem {
  std::int64_t n = 0, rows = 1;
  DType dtype = dtypes::f32;
  DType scales_dtype = dtypes::f32;  ///< dequantize of affine formats only
  sy_quantize_params params{};
  std::string data, layout;

  static Result<QuantProblem> parse(const Shape &shape, bool dequantize);
  std::int64_t cols() const noexcept { return rows == 0 ? 0 : n / rows; }
};

/// The Shape of a valid call whose values are `values`.
Shape describe_quant(const sy_quantize_params &params, const sy_tensor &values,
                     const sy_tensor *scales);

/// Shape and strides of `rows` x `cols` values: layout contiguous, strided (gaps between rows),
/// permuted (rank 3, leading dimensions swapped), unaligned, reversed or broadcast.
TensorSpec layout_spec(const QuantProblem &problem);

/// An input with that layout, filled with reproducible values.
Result<Tensor> make_quant_values(const QuantProblem &problem, std::uint64_t seed);

/// Random but valid codes, scales and biases of a layout.
struct QuantArrays {
  Tensor codes, scales, biases;
};
Result<QuantArrays> make_quant_arrays(const QuantProblem &problem, const QuantLayout &layout,
                                      std::uint64_t seed);

/// OpSpec::spot_check of the two operations: up to about 4,096 values of one row.
Result<std::string> spot_check_quantize(const OpSpec &op, const sy_call &done, std::uint64_t pick,
                                        const ReferenceRunner &reference);
Result<std::string> spot_check_dequantize(const OpSpec &op, const sy_call &done, std::uint64_t pick,
                                          const ReferenceRunner &reference);

/// Shapes over formats, dtypes, data and layouts, for conformance tests.
std::vector<Shape> quant_conformance_shapes(bool dequantize);
/// Small shapes of the same class as `like`.
std::vector<Shape> quant_gate_shapes(const Shape &like, bool dequantize);

}  // namespace switchyard
