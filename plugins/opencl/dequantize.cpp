// SPDX-License-Identifier: Apache-2.0
/// The operation "dequantize": kernels/dequantize.cl.
#include <algorithm>

#include "quant_call.hpp"

namespace switchyard::opencl {
namespace {

constexpr double kStreamBytes = 24 << 20;  // written by a call: more goes past the cache

std::int32_t supports(const KernelDef &self, const Description &about, const sy_call &call,
                      sy_error *reason) {
  if (static_cast<const sy_quantize_params *>(call.params)->format != self.tag)
    return cpu::failure(reason, SY_E_UNSUPPORTED, "this kernel is for another format");
  if (!about.keeps_denormals)
    return cpu::failure(reason, SY_E_UNSUPPORTED,
                        "the device flushes f32 denormals: small values would differ");
  return SY_OK;
}

std::uint64_t estimate(const KernelDef &self, const Description &about, const sy_call &call) {
  return estimate_of(about, *call.outputs[SY_DEQUANTIZE_OUT_Y], format_of(self.tag).dequantize_ns,
                     1);
}

/// Can whole vectors go past the cache? Only to addresses that are multiples of their size.
bool can_stream(const Description &about, const sy_tensor &y, const RowArguments &rows) {
  const double bytes = static_cast<double>(Rows(y).total()) * (y.dtype.bits / 8);
  const auto address = reinterpret_cast<std::uintptr_t>(y.handle) + y.byte_offset;
  return about.is_cpu() && y.device_kind == SY_DEVICE_HOST && rows.flat != 0 &&
         bytes >= kStreamBytes && address % 64 == 0;
}

std::int32_t run(const KernelDef &self, Device &device, const sy_call &call, sy_error *error) {
  const auto &params = *static_cast<const sy_quantize_params *>(call.params);
  const Format &format = format_of(self.tag);
  const sy_tensor &y_tensor = *call.outputs[SY_DEQUANTIZE_OUT_Y];
  const sy_tensor *scales_tensor = input_of(call, SY_DEQUANTIZE_IN_SCALES);
  Job job(device, call, error);
  const Array codes = job.input(input_of(call, SY_DEQUANTIZE_IN_CODES)),
              scales = job.input(scales_tensor),
              biases = job.input(input_of(call, SY_DEQUANTIZE_IN_BIASES)),
              y = job.output(&y_tensor);
  const RowArguments rows(y, y_tensor);
  const std::int64_t total = Rows(y_tensor).total();
  const bool plain = self.tag == SY_QUANT_TERNARY || self.tag == SY_QUANT_INT8;
  const std::int64_t unit = plain ? 128 : format.unit != 0 ? format.unit : 32;
  std::int64_t part = params.group_size;  // of the affine formats
  if (plain) part = parts_of(params, y_tensor).size;
  const std::int64_t units = (total + unit - 1) / unit;
  const std::int64_t tile = tile_units(device.about(), unit);
  std::string options = "-DFORMAT=" + std::to_string(self.tag) + " -DUNIT=" + std::to_string(unit) +
                        " -DTILE=" + std::to_string(tile);
  if (format.bytes != 0) options += " -DBYTES=" + std::to_string(format.bytes);
  if (format.bits != 0) options += " -DBITS=" + std::to_string(format.bits);
  job.kernel("dequantize.cl", options, "dequantize");
  job.arg(units).arg(total).arg(std::max<std::int64_t>(part, 1)).arg(rows.type).arg(rows.flat);
  const bool stream = device.zero_copy() && can_stream(device.about(), y_tensor, rows);
  job.arg(static_cast<std::int32_t>(stream ? 1 : 0));
  job.arg(rows.rank).dims(rows.shape).dims(rows.strides).arg(rows.cols);
  job.arg(scales_tensor != nullptr ? type_number(scales_tensor->dtype) : 0);
  job.arg(codes).arg(scales).arg(biases).arg(y);
  job.run(0, static_cast<std::uint64_t>((units + tile - 1) / tile),
          static_cast<double>(tile * unit) * format.dequantize_ns);
  return job.finish();
}

constexpr KernelDef kernel(const char *name, std::uint32_t format) {
  return {SY_OP_DEQUANTIZE, name, true, format, supports, estimate, run};
}

constexpr KernelDef kKernels[] = {
    kernel("dequantize.q4_0_any.tiles", SY_QUANT_Q4_0),
    kernel("dequantize.q4_1_any.tiles", SY_QUANT_Q4_1),
    kernel("dequantize.q5_0_any.tiles", SY_QUANT_Q5_0),
    kernel("dequantize.q5_1_any.tiles", SY_QUANT_Q5_1),
    kernel("dequantize.q8_0_any.tiles", SY_QUANT_Q8_0),
    kernel("dequantize.q4_k_any.tiles", SY_QUANT_Q4_K),
    kernel("dequantize.q6_k_any.tiles", SY_QUANT_Q6_K),
    kernel("dequantize.tq1_0_any.tiles", SY_QUANT_TQ1_0),
    kernel("dequantize.tq2_0_any.tiles", SY_QUANT_TQ2_0),
    kernel("dequantize.q2_0_any.tiles", SY_QUANT_Q2_0),
    kernel("dequantize.mxfp4_ggml_any.tiles", SY_QUANT_MXFP4_GGML),
    kernel("dequantize.mxfp4_any.tiles", SY_QUANT_MXFP4),
    kernel("dequantize.mlx_affine2_any.tiles", SY_QUANT_MLX_AFFINE2),
    kernel("dequantize.mlx_affine3_any.tiles", SY_QUANT_MLX_AFFINE3),
    kernel("dequantize.mlx_affine4_any.tiles", SY_QUANT_MLX_AFFINE4),
    kernel("dequantize.mlx_affine5_any.tiles", SY_QUANT_MLX_AFFINE5),
    kernel("dequantize.mlx_affine6_any.tiles", SY_QUANT_MLX_AFFINE6),
    kernel("dequantize.mlx_affine8_any.tiles", SY_QUANT_MLX_AFFINE8),
    kernel("dequantize.ternary_any.tiles", SY_QUANT_TERNARY),
    kernel("dequantize.tern2_any.tiles", SY_QUANT_TERN2),
    kernel("dequantize.i2_s_any.tiles", SY_QUANT_I2_S),
    kernel("dequantize.int8_any.tiles", SY_QUANT_INT8),
};

}  // namespace

KernelList dequantize_kernels() noexcept { return {kKernels, kFormats}; }

}  // namespace switchyard::opencl
