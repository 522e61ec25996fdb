// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What quantize and dequantize share: sizes of the formats, rows of a tensor, build options.

#include <switchyard/ops/quantize.h>

#include "instance.hpp"
#include "launch.hpp"

namespace switchyard::opencl {

/// A format as the kernels see it.
struct Format {
  std::uint32_t id;
  const char *name;
  std::int32_t unit;   ///< values of a block; 0: a group, as the call says; parts have no unit
  std::int32_t bytes;  ///< of a block
  std::int32_t bits;   ///< of a code, affine formats
  bool parts;          ///< scales belong to parts of the tensor
  double quantize_ns, dequantize_ns;  ///< the author's measurement, a value on one unit
};
inline constexpr std::size_t kFormats = 22;
extern const Format kFormatTable[kFormats];
const Format &format_of(std::uint32_t id) noexcept;

/// A tensor as rows along its last dimension.
struct Rows {
  explicit Rows(const sy_tensor &tensor);
  std::int64_t cols, count;
  std::int64_t total() const { return cols * count; }
};

/// The values' tensor as the kernels' arguments: type, flat, rank, shape, strides, cols.
struct RowArguments {
  RowArguments(const Array &array, const sy_tensor &tensor);
  std::int32_t type, flat, rank;
  std::int64_t shape[SY_MAX_RANK] = {}, strides[SY_MAX_RANK] = {}, cols;
};

/// 0: f32, 1: f16, 2: bf16, as in common.cl.
std::int32_t type_number(sy_dtype type) noexcept;

/// How many values share a scale, and how many such parts there are.
struct Parts {
  std::int64_t size, count;
};
Parts parts_of(const sy_quantize_params &params, const sy_tensor &values);

/// Units of a tile: a few thousand values on a processor, one for each work-item elsewhere.
std::int64_t tile_units(const Description &about, std::int64_t unit);

/// Time of a call that moves `values` values at `value_ns` each.
std::uint64_t estimate_of(const Description &about, const sy_tensor &values, double value_ns,
                          double code_bytes);

}  // namespace switchyard::opencl
