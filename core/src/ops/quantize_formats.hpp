// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The quantised formats as data: one table that the operations, the C++ interface, the command
/// line and the documentation share. A new format is one row here, its codec in the reference
/// plugin and its kernels. docs/formats.md states what the bytes mean.

#include <switchyard/ops/quantize.h>
#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <switchyard/tensor.hpp>

namespace switchyard {

enum class QuantFamily {
  blocks,  ///< self-contained blocks of bytes, scale included
  whole,   ///< bytes for the whole tensor, its one scale included
  affine,  ///< packed u32 words, scales and biases per group
  micro,   ///< packed u32 words, a byte of scale per block
  plain,   ///< int8 codes of the values' shape, f32 scales
};

struct QuantFormat {
  std::string_view name;  ///< canonical spelling, lower case
  sy_quant_format id;
  QuantFamily family;
  int block;        ///< values per block; 0 where group_size or granularity decides
  int block_bytes;  ///< bytes per block; 0 where there are no blocks
  int bits;         ///< per code, scales not counted
  bool has_scales;
  bool has_biases;
  std::span<const int> group_sizes;  ///< allowed ones, the default first; empty = none
  std::uint32_t granularities;       ///< bit i = sy_granularity i is allowed
  std::uint32_t scale_rules;         ///< bit i = sy_scale_rule i is allowed

  /// The one array is called `blocks`.
  bool is_blocks() const noexcept {
    return family == QuantFamily::blocks || family == QuantFamily::whole;
  }
  /// Takes a group size when scales are shared as `granularity` (sy_granularity) says.
  bool grouped(std::uint32_t granularity) const noexcept {
    return family == QuantFamily::affine || granularity == SY_GRANULARITY_GROUP;
  }
};

/// All formats of this build, in the order of their numbers.
std::span<const QuantFormat> quant_formats() noexcept;
/// The canonical names, in the same order.
std::span<const std::string_view> quant_format_names() noexcept;

/// nullptr if unknown.
const QuantFormat *find_quant_format(std::uint32_t id) noexcept;
/// By name in any case; an unknown one is a usage error with "did you mean".
Result<const QuantFormat *> parse_quant_format(std::string_view name);

// The words of QuantizeOptions and of the command line; a wrong one is a usage error.
Result<sy_granularity> parse_granularity(std::string_view word);
Result<sy_scale_rule> parse_scale_rule(std::string_view word);
Result<sy_nonfinite> parse_nonfinite(std::string_view word);
Result<sy_rounding> parse_rounding(std::string_view word);
std::string_view granularity_name(std::uint32_t value) noexcept;
std::string_view scale_rule_name(std::uint32_t value) noexcept;
std::string_view nonfinite_name(std::uint32_t value) noexcept;
std::string_view rounding_name(std::uint32_t value) noexcept;

/// A dtype and a shape without an allocation.
struct QuantArray {
  DType dtype{};
  int rank = 0;
  std::array<std::int64_t, SY_MAX_RANK> dims{};
  std::span<const std::int64_t> shape() const noexcept {
    return {dims.data(), static_cast<std::size_t>(rank)};
  }
};

/// The arrays that hold a quantised tensor; all are C-contiguous.
struct QuantLayout {
  const QuantFormat *format = nullptr;
  std::int64_t rows = 0;  ///< product of the leading dimensions
  std::int64_t cols = 0;  ///< length of the last dimension
  QuantArray codes;
  std::optional<QuantArray> scales, biases;
};

/// Values that share a scale along the last dimension and so must divide it: the block, or the
/// group size; 1 for plain codes by tensor, row or channel.
std::int64_t quant_unit(const QuantFormat &format, const sy_quantize_params &params) noexcept;

/// Checks the parameters alone: known format, allowed group size, granularity and rules.
/// Allocates only to describe an error (invalid_argument).
Result<const QuantFormat *> check_quant_params(const sy_quantize_params &params);

/// What the arrays look like for values of `shape` and `dtype`. Errors: as check_quant_params;
/// dtype; shape (rank 0, or a last dimension that is no multiple of the block; the message names
/// the formats that would fit); overflow. Allocates only to describe an error.
Result<QuantLayout> quant_layout(const sy_quantize_params &params,
                                 std::span<const std::int64_t> shape, DType dtype);

/// "q4_0, q8_0 or ternary": what could hold rows of `cols` values.
std::string formats_for_length(std::int64_t cols);

}  // namespace switchyard
