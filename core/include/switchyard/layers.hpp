// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What a transformer needs around attention, as calls of an engine: matrix products with plain or
/// quantised weights, norms, gated activations, rotary positions. docs/layers.md has the formulas
/// and their error bounds. Thread-safe as the engine is; no view is kept.
///
///     auto q = engine.quantize(weights, {.format = "q4_0"});        // [outputs, inputs]
///     auto y = switchyard::matmul(engine, x, *q);                   // [..., outputs]
///
/// All take f32, f16 or bf16 of any strides; results have the dtype of the first input and are
/// allocated in C order where no `out` is given (absent in the result otherwise).

#include <switchyard/engine.hpp>

namespace switchyard {

/// What every call here takes besides its arrays.
struct LayerOutput {
  TensorView out{};         ///< caller-owned; must not overlap an input
  RunInfo *info = nullptr;  ///< filled in when given
};

struct MatmulOptions {
  /// Plain weights only. false: w is [K, N], y = x w. true: w is [N, K], y = x w^T.
  bool transpose = false;
  TensorView add{};  ///< [outputs] of f32, added to each row; absent = nothing
  DType dtype{};     ///< of the result, f32 or x's; unset (bits 0): x's, or that of `output.out`
  LayerOutput output{};
};

/// x [..., K] times w [K, N] (or [N, K], transposed), of x's dtype -> [..., N]. Leading dimensions
/// of x that do not lie evenly in memory are copied together first.
SY_API Result<Tensor> matmul(Engine &engine, TensorView x, TensorView w,
                             const MatmulOptions &options = {});
/// The same with quantised weights of shape [N, K], which are always transposed: q4_0, q8_0, tq1_0,
/// tq2_0, mlx_affine4 or mlx_affine8. Other formats are unsupported: dequantize them first.
SY_API Result<Tensor> matmul(Engine &engine, TensorView x, const Quantized &w,
                             const MatmulOptions &options = {});

/// Over the last dimension. `weight` and `bias`: [D], f32 or x's dtype; absent = 1 and 0.
SY_API Result<Tensor> rms_norm(Engine &engine, TensorView x, TensorView weight = {},
                               float eps = 1e-5f, const LayerOutput &output = {});
SY_API Result<Tensor> layer_norm(Engine &engine, TensorView x, TensorView weight = {},
                                 TensorView bias = {}, float eps = 1e-5f,
                                 const LayerOutput &output = {});

/// up * gate / (1 + exp(-gate)), element by element.
SY_API Result<Tensor> swiglu(Engine &engine, TensorView gate, TensorView up,
                             const LayerOutput &output = {});
/// Exact, or with `tanh` the approximation that some models were trained with.
SY_API Result<Tensor> gelu(Engine &engine, TensorView x, bool tanh = false,
                           const LayerOutput &output = {});

struct RopeOptions {
  std::int64_t offset = 0;   ///< position of the first row
  TensorView positions{};    ///< i32 [L] or [B, L], instead of the offset
  bool interleaved = false;  ///< pairs (2j, 2j + 1); false: (j, j + R / 2)
  std::int64_t rotary = 0;   ///< values of a row that turn; 0 = all
  float base = 10000;
  float scale = 1;           ///< of positions
  TensorView frequencies{};  ///< f32 [R / 2], instead of the base
  LayerOutput output{};
};

/// Rotary position embedding of x [B, H, L, D], [H, L, D] or [L, D].
SY_API Result<Tensor> rope(Engine &engine, TensorView x, const RopeOptions &options = {});

}  // namespace switchyard
