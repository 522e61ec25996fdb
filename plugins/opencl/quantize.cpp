// SPDX-License-Identifier: Apache-2.0
/// The operation "quantize": kernels/quantize.cl for blocks and groups, kernels/parts.cl where a
/// scale belongs to a row, a channel or all of the tensor.
#include <algorithm>
#include <mxfp4.hpp>

#include "quant_call.hpp"

namespace switchyard::opencl {
namespace {

constexpr std::int64_t kBlock = 4096, kPiece = 128;  // as in parts.cl
/// Of one launch: errors are told as 32-bit places.
constexpr std::int64_t kMostValues = std::int64_t{1} << 30;
constexpr std::uint32_t kNowhere = 0xFFFFFFFFu;

bool takes_mean(const sy_quantize_params &params) {
  const bool own_rule = params.format == SY_QUANT_TERNARY || params.format == SY_QUANT_TERN2 ||
                        params.format == SY_QUANT_I2_S;
  return own_rule || params.scale_rule == SY_SCALE_ABSMEAN;
}

std::int32_t supports(const KernelDef &self, const Description &about, const sy_call &call,
                      sy_error *reason) {
  const auto &params = *static_cast<const sy_quantize_params *>(call.params);
  if (params.format != self.tag)
    return cpu::failure(reason, SY_E_UNSUPPORTED, "this kernel is for another format");
  if (!about.keeps_denormals)
    return cpu::failure(reason, SY_E_UNSUPPORTED,
                        "the device flushes f32 denormals: small scales would differ");
  if (!about.exact_division)
    return cpu::failure(reason, SY_E_UNSUPPORTED,
                        "the device rounds f32 divisions or square roots incorrectly");
  if (takes_mean(params) && !about.fp64)
    return cpu::failure(reason, SY_E_UNSUPPORTED,
                        "the device has no f64, which means of magnitudes are taken in");
  return SY_OK;
}

std::uint64_t estimate(const KernelDef &self, const Description &about, const sy_call &call) {
  return estimate_of(about, *call.inputs[SY_QUANTIZE_IN_X], format_of(self.tag).quantize_ns, 1);
}

std::string log2_slack() {
  std::string text;
  for (const unsigned count : cpu::kLog2Slack.of) text += std::to_string(count) + ",";
  text.pop_back();
  return text;
}

class Quantizer {
 public:
  Quantizer(Device &device, const sy_call &call, sy_error *error)
      : job_(device, call, error),
        params_(*static_cast<const sy_quantize_params *>(call.params)),
        format_(format_of(params_.format)),
        x_tensor_(*call.inputs[SY_QUANTIZE_IN_X]),
        x_(job_.input(&x_tensor_)),
        codes_(job_.output(call.outputs[SY_QUANTIZE_OUT_CODES])),
        scales_(job_.output(output_of(call, SY_QUANTIZE_OUT_SCALES))),
        biases_(job_.output(output_of(call, SY_QUANTIZE_OUT_BIASES))),
        rows_(x_, x_tensor_),
        total_(Rows(x_tensor_).total()),
        flags_(job_.scratch(2 * sizeof(std::uint32_t))) {}

  std::int32_t run() {
    if (format_.parts)
      parts();
    else
      blocks();
    return job_.finish();
  }

 private:
  Job &rows_of() {
    return job_.arg(rows_.type)
        .arg(rows_.flat)
        .arg(rows_.rank)
        .dims(rows_.shape)
        .dims(rows_.strides)
        .arg(rows_.cols);
  }
  std::int32_t saturate() const { return params_.nonfinite == SY_NONFINITE_SATURATE ? 1 : 0; }

  /// What a launch noted, made an error. `first`: value index of the launch; `unit`: values that
  /// share a fate (a bad value in one hides its overflow).
  void judge(std::int64_t first, std::int64_t unit, const char *overflow_message,
             bool overflow_counts_units) {
    std::uint32_t at[2] = {kNowhere, kNowhere};
    job_.read(flags_, 0, at, sizeof(at));
    if (!job_.ok() || (at[0] == kNowhere && at[1] == kNowhere)) return;
    const std::int64_t bad = at[0] == kNowhere ? INT64_MAX : first + at[0];
    const std::int64_t over = at[1] == kNowhere       ? INT64_MAX
                              : overflow_counts_units ? std::int64_t{at[1]} * unit
                                                      : first + at[1];
    if (bad != INT64_MAX && (over == INT64_MAX || bad / unit <= over / unit))
      job_.failure().set(SY_E_NONFINITE,
                         "a value is NaN or infinite (index names the first); clean the input or "
                         "ask for nonfinite=saturate",
                         bad);
    else
      job_.failure().set(SY_E_OVERFLOW, overflow_message, over);
  }

  void blocks() {
    const std::int64_t unit = format_.unit != 0 ? format_.unit : params_.group_size;
    const std::int64_t bytes = format_.unit != 0 ? format_.bytes : unit * format_.bits / 8;
    const std::int64_t tile = tile_units(job_.device().about(), unit);
    std::string options = "-DFORMAT=" + std::to_string(format_.id) +
                          " -DUNIT=" + std::to_string(unit) + " -DBYTES=" + std::to_string(bytes) +
                          " -DTILE=" + std::to_string(tile);
    if (format_.bits != 0) options += " -DBITS=" + std::to_string(format_.bits);
    if (format_.id == SY_QUANT_MXFP4_GGML || format_.id == SY_QUANT_MXFP4)
      options += " -DLOG2_SLACK=" + log2_slack();
    const char *sources =
        unit == 256 ? "blocks.cl blocks_k.cl quantize.cl" : "blocks.cl quantize.cl";
    const std::int64_t units = total_ / unit, tiles = (units + tile - 1) / tile;
    const std::int64_t most = kMostValues / (tile * unit);
    for (std::int64_t first = 0; first < tiles && job_.ok(); first += most) {
      const std::int64_t end = std::min(tiles, first + most), value = first * tile * unit;
      job_.fill(flags_, kNowhere, 2 * sizeof(std::uint32_t));
      job_.kernel(sources, options, "quantize");
      job_.arg(units).arg(value);
      rows_of().arg(saturate()).arg(static_cast<std::int32_t>(params_.scale_rule)).arg(x_);
      job_.arg(codes_).arg(scales_).arg(biases_).arg(flags_);
      const double all = static_cast<double>(tiles);
      job_.run(static_cast<std::uint64_t>(first), static_cast<std::uint64_t>(end),
               static_cast<double>(tile * unit) * format_.quantize_ns,
               {static_cast<double>(first) / all, static_cast<double>(end - first) / all});
      judge(value, unit,
            format_.bits != 0
                ? "the range of a group does not fit f32 (index names the group's first value); "
                  "scale the input down"
                : "the scale of a block does not fit f16 (index names the block's first value); "
                  "scale the input down or take a format with f32 scales",
            false);
    }
  }

  void parts() {
    const Parts part = parts_of(params_, x_tensor_);
    if (part.count == 0 || (total_ == 0 && format_.id == SY_QUANT_TERN2)) return;
    const Description &about = job_.device().about();
    const std::int64_t tile = tile_units(about, kPiece);
    const std::string options =
        "-DFORMAT=" + std::to_string(format_.id) + " -DTILE=" + std::to_string(tile);
    const std::int64_t per_part = (part.size + kBlock - 1) / kBlock;
    const std::int64_t blocks = per_part * part.count, group = job_.group();
    const cl_mem partials = job_.scratch(static_cast<std::uint64_t>(blocks) * sizeof(double));
    const cl_mem scales = job_.scratch(static_cast<std::uint64_t>(part.count) * sizeof(float));
    const std::int64_t unit = std::max<std::int64_t>(part.size, 1);
    const char *overflow =
        "twice the scale does not fit the scales' dtype (index names the first value that shares "
        "it); scale the input down";
    const double block_ns =
        static_cast<double>(std::min(part.size, kBlock)) * format_.quantize_ns / 2;

    job_.fill(flags_, kNowhere, 2 * sizeof(std::uint32_t));
    const std::int64_t most = kMostValues / kBlock;
    for (std::int64_t b = 0; b < blocks && job_.ok(); b += most) {
      // A launch's first value: that of block b.
      const std::int64_t value = b / per_part * part.size + b % per_part * kBlock;
      const std::int64_t end = std::min(blocks, b + most);
      job_.kernel("parts.cl", options, "measure");
      job_.arg(total_).arg(part.size);
      rows_of().arg(saturate()).arg(x_).arg(per_part).arg(end).arg(value).arg(partials).arg(flags_);
      job_.run(static_cast<std::uint64_t>(b / group),
               static_cast<std::uint64_t>((end + group - 1) / group),
               block_ns * static_cast<double>(group), {0, 0.5});
      if (blocks > most) judge(value, unit, overflow, true);
    }
    job_.kernel("parts.cl", options, "combine");
    job_.arg(total_).arg(part.size).arg(per_part).arg(part.count).arg(rows_.type);
    job_.arg(partials).arg(scales);
    job_.arg(format_.id == SY_QUANT_I2_S ? codes_ : scales_).arg(flags_);
    job_.run(0, static_cast<std::uint64_t>((part.count + group - 1) / group), 0);
    judge(0, unit, overflow, true);

    const std::int64_t pieces = (total_ + kPiece - 1) / kPiece;
    const bool stochastic = params_.struct_size >= sizeof(sy_quantize_params) &&
                            params_.rounding == SY_ROUNDING_STOCHASTIC;
    job_.kernel("parts.cl", options, "encode");
    job_.arg(total_).arg(unit);
    rows_of().arg(saturate()).arg(x_).arg(part.count);
    job_.arg(static_cast<std::int32_t>(stochastic ? 1 : 0));
    job_.arg(static_cast<std::int64_t>(stochastic ? params_.seed : 0));
    job_.arg(static_cast<std::int64_t>(std::max(params_.group_size, 1u))).arg(scales);
    job_.arg(codes_).arg(scales_).arg(biases_);
    job_.run(0, static_cast<std::uint64_t>((pieces + tile - 1) / tile),
             static_cast<double>(tile * kPiece) * format_.quantize_ns / 2, {0.5, 0.5});
  }

  Job job_;
  const sy_quantize_params &params_;
  const Format &format_;
  const sy_tensor &x_tensor_;
  const Array x_, codes_, scales_, biases_;
  const RowArguments rows_;
  const std::int64_t total_;
  const cl_mem flags_;
};

std::int32_t run(const KernelDef &, Device &device, const sy_call &call, sy_error *error) {
  return Quantizer(device, call, error).run();
}

constexpr KernelDef kernel(const char *name, std::uint32_t format) {
  return {SY_OP_QUANTIZE, name, true, format, supports, estimate, run};
}

constexpr KernelDef kKernels[] = {
    kernel("quantize.any_q4_0.tiles", SY_QUANT_Q4_0),
    kernel("quantize.any_q4_1.tiles", SY_QUANT_Q4_1),
    kernel("quantize.any_q5_0.tiles", SY_QUANT_Q5_0),
    kernel("quantize.any_q5_1.tiles", SY_QUANT_Q5_1),
    kernel("quantize.any_q8_0.tiles", SY_QUANT_Q8_0),
    kernel("quantize.any_q4_k.tiles", SY_QUANT_Q4_K),
    kernel("quantize.any_q6_k.tiles", SY_QUANT_Q6_K),
    kernel("quantize.any_tq1_0.tiles", SY_QUANT_TQ1_0),
    kernel("quantize.any_tq2_0.tiles", SY_QUANT_TQ2_0),
    kernel("quantize.any_q2_0.tiles", SY_QUANT_Q2_0),
    kernel("quantize.any_mxfp4_ggml.tiles", SY_QUANT_MXFP4_GGML),
    kernel("quantize.any_mxfp4.tiles", SY_QUANT_MXFP4),
    kernel("quantize.any_mlx_affine2.tiles", SY_QUANT_MLX_AFFINE2),
    kernel("quantize.any_mlx_affine3.tiles", SY_QUANT_MLX_AFFINE3),
    kernel("quantize.any_mlx_affine4.tiles", SY_QUANT_MLX_AFFINE4),
    kernel("quantize.any_mlx_affine5.tiles", SY_QUANT_MLX_AFFINE5),
    kernel("quantize.any_mlx_affine6.tiles", SY_QUANT_MLX_AFFINE6),
    kernel("quantize.any_mlx_affine8.tiles", SY_QUANT_MLX_AFFINE8),
    kernel("quantize.any_ternary.tiles", SY_QUANT_TERNARY),
    kernel("quantize.any_tern2.tiles", SY_QUANT_TERN2),
    kernel("quantize.any_i2_s.tiles", SY_QUANT_I2_S),
    kernel("quantize.any_int8.tiles", SY_QUANT_INT8),
};

}  // namespace

KernelList quantize_kernels() noexcept { return {kKernels, kFormats}; }

}  // namespace switchyard::opencl
