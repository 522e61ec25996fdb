// SPDX-License-Identifier: Apache-2.0
#include "quant_call.hpp"

#include <algorithm>

namespace switchyard::opencl {

const Format kFormatTable[kFormats] = {
    {SY_QUANT_Q4_0, "q4_0", 32, 18, 0, false, 0.5, 0.2},
    {SY_QUANT_Q4_1, "q4_1", 32, 20, 0, false, 0.5, 0.2},
    {SY_QUANT_Q5_0, "q5_0", 32, 22, 0, false, 0.5, 0.25},
    {SY_QUANT_Q5_1, "q5_1", 32, 24, 0, false, 0.5, 0.25},
    {SY_QUANT_Q8_0, "q8_0", 32, 34, 0, false, 0.3, 0.2},
    {SY_QUANT_Q4_K, "q4_k", 256, 144, 0, false, 20, 0.2},
    {SY_QUANT_Q6_K, "q6_k", 256, 210, 0, false, 10, 0.25},
    {SY_QUANT_TQ1_0, "tq1_0", 256, 54, 0, false, 0.5, 0.3},
    {SY_QUANT_TQ2_0, "tq2_0", 256, 66, 0, false, 0.4, 0.2},
    {SY_QUANT_Q2_0, "q2_0", 64, 18, 0, false, 0.4, 0.2},
    {SY_QUANT_MXFP4_GGML, "mxfp4_ggml", 32, 17, 0, false, 0.6, 0.3},
    {SY_QUANT_MXFP4, "mxfp4", 32, 16, 0, false, 0.6, 0.3},
    {SY_QUANT_MLX_AFFINE2, "mlx_affine2", 0, 0, 2, false, 0.6, 0.3},
    {SY_QUANT_MLX_AFFINE3, "mlx_affine3", 0, 0, 3, false, 1.5, 1.5},
    {SY_QUANT_MLX_AFFINE4, "mlx_affine4", 0, 0, 4, false, 0.6, 0.3},
    {SY_QUANT_MLX_AFFINE5, "mlx_affine5", 0, 0, 5, false, 1.5, 1.5},
    {SY_QUANT_MLX_AFFINE6, "mlx_affine6", 0, 0, 6, false, 1.5, 1.5},
    {SY_QUANT_MLX_AFFINE8, "mlx_affine8", 0, 0, 8, false, 0.6, 0.3},
    {SY_QUANT_TERNARY, "ternary", 0, 0, 0, true, 0.8, 0.2},
    {SY_QUANT_TERN2, "tern2", 0, 0, 2, true, 0.8, 0.3},
    {SY_QUANT_I2_S, "i2_s", 128, 32, 0, true, 0.8, 0.2},
    {SY_QUANT_INT8, "int8", 0, 0, 0, true, 0.8, 0.2},
};

const Format &format_of(std::uint32_t id) noexcept {
  for (const Format &format : kFormatTable)
    if (format.id == id) return format;
  return kFormatTable[0];
}

Rows::Rows(const sy_tensor &t) : cols(t.rank > 0 ? t.shape[t.rank - 1] : 1), count(1) {
  for (std::int32_t k = 0; k + 1 < t.rank; ++k) count *= t.shape[k];
}

std::int32_t type_number(sy_dtype type) noexcept {
  return type.bits == 32 ? 0 : type.code == SY_TYPE_BFLOAT ? 2 : 1;
}

RowArguments::RowArguments(const Array &array, const sy_tensor &tensor)
    : type(type_number(tensor.dtype)), flat(1), rank(array.rank), cols(Rows(tensor).cols) {
  std::int64_t dense = 1;
  for (std::int32_t k = array.rank - 1; k >= 0; --k) {
    shape[k] = array.shape[k];
    strides[k] = array.strides[k];
    if (array.shape[k] != 1 && array.strides[k] != dense) flat = 0;
    dense *= array.shape[k];
  }
}

Parts parts_of(const sy_quantize_params &params, const sy_tensor &values) {
  const Rows rows(values);
  const std::int64_t total = rows.total();
  switch (params.granularity) {
    case SY_GRANULARITY_ROW:
      return {rows.cols, rows.count};
    case SY_GRANULARITY_GROUP:
      return {params.group_size, total / params.group_size};
    case SY_GRANULARITY_CHANNEL:
      return {values.shape[0] > 0 ? total / values.shape[0] : 0, values.shape[0]};
    default:
      return {total, 1};
  }
}

std::int64_t tile_units(const Description &about, std::int64_t unit) {
  return about.is_cpu() ? std::max<std::int64_t>(1, 16384 / unit) : 64;
}

std::uint64_t estimate_of(const Description &about, const sy_tensor &values, double value_ns,
                          double code_bytes) {
  const double n = static_cast<double>(Rows(values).total());
  double ns = kLaunchNs + n * value_ns / about.units;
  if (!about.unified) ns += n * (values.dtype.bits / 8 + code_bytes) / kTransferBytesPerNs;
  return static_cast<std::uint64_t>(ns);
}

}  // namespace switchyard::opencl
