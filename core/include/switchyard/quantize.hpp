// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Quantised tensors at work: parts of them without the rest, and quantisation's error without its
/// codes. Thread-safe as the engine is; no view is kept.
///
///     auto q = engine.quantize(weights, {.format = "q4_0"});               // [N, K]
///     auto y = switchyard::dequantize_part(engine, *q, {.first_row = 8, .rows = 2});   // [2, K]
///     auto z = switchyard::round_trip(engine, weights, {.format = "q4_0"});            // [N, K]

#include <switchyard/engine.hpp>

namespace switchyard {

/// Rows and columns of a quantised tensor [..., K]. Rows count all leading dimensions together.
struct QuantizedPart {
  std::int64_t first_row = 0;
  std::int64_t rows = -1;  ///< -1: all from first_row on
  /// Instead of these: any rows in any order, repeated ones too. Not kept.
  std::optional<std::span<const std::int64_t>> row_list{};
  /// Both multiples of what shares a scale along K (the format's block or the group size), but for
  /// plain codes with one scale for a tensor, row or channel.
  std::int64_t first_column = 0;
  std::int64_t columns = -1;  ///< -1: all from first_column on
};

/// The values of that part, [rows, columns], as `Engine::dequantize` gives them; only the part's
/// own codes are read. `out` present: written there (f32, f16 or bf16, contiguous along columns).
/// Errors: shape (a row or column outside, arrays that do not fit q's format and shape; a column
/// within a block, which names the nearest bounds), those of `Engine::dequantize`.
SY_API Result<Tensor> dequantize_part(Engine &engine, const Quantized &q, const QuantizedPart &part,
                                      TensorView out = {}, RunInfo *info = nullptr);

/// x quantised and dequantised again, bit by bit as the two calls give it: what training with a
/// straight-through estimator multiplies with. Values beyond the caches are worked on in pieces
/// that stay there, whose codes never reach memory, except where one scale serves the whole tensor
/// and with stochastic rounding. `out` present: x's shape, f32, f16 or bf16, contiguous along the
/// last dimension; it may be x itself, of which an error then leaves parts overwritten. Else the
/// result is a new array of x's dtype. `options`' output arrays must be absent. Errors: those of
/// `Engine::quantize`, indices counting in x.
SY_API Result<Tensor> round_trip(Engine &engine, TensorView x, const QuantizeOptions &options,
                                 TensorView out = {}, RunInfo *info = nullptr);

}  // namespace switchyard
