// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A choice of format applied to a tensor: its arrays, and whether rows can be done piece by piece.

#include <switchyard/models.hpp>

#include "ops/quantize_formats.hpp"

namespace switchyard::models {

QuantizeOptions options_of(const TensorChoice &choice, const std::string &nonfinite = "error");

/// Arrays of a quantised tensor.
struct QuantSpec {
  TensorChoice choice;  ///< group size filled in
  QuantLayout layout;
  std::uint64_t bytes = 0;  ///< of all arrays
  bool by_rows = false;     ///< rows are independent: any run of rows can be quantised alone

  bool has_scales() const noexcept { return layout.scales.has_value(); }
  bool has_biases() const noexcept { return layout.biases.has_value(); }
};

/// Errors: as quant_layout and the options' words.
Result<QuantSpec> quant_spec(const TensorChoice &choice, std::span<const std::int64_t> shape,
                             DType dtype);

/// Leading dimensions joined: [rows, K].
struct Matrix {
  std::int64_t rows = 0, cols = 0;
};
Matrix matrix_of(std::span<const std::int64_t> shape) noexcept;

std::uint64_t bytes_of(const QuantArray &array) noexcept;

/// f32, f16 or bf16.
bool is_value_dtype(DType dtype) noexcept;

/// "FORMAT" or "FORMAT:GROUP". Errors: usage.
Result<TensorChoice> parse_choice(const std::string &text);

/// MLX's words for a format that it has itself.
struct MlxMode {
  int bits = 0;
  std::string_view mode;
};
std::optional<MlxMode> mlx_mode(const QuantFormat &format) noexcept;
/// The ggml type that holds the blocks of a format; "" if GGUF has none.
std::string_view ggml_name(const QuantFormat &format) noexcept;
/// The format of a ggml type's name, or nullptr if this build has no codec for it.
const QuantFormat *format_of_ggml(std::string_view name) noexcept;

}  // namespace switchyard::models
