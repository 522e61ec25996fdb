// SPDX-License-Identifier: Apache-2.0
#include "quantize/quantize.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "ops/quantize_formats.hpp"

namespace switchyard {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

void fill(RunInfo &info, const Answer &answer, Clock::time_point start) {
  info.backend = answer.backend;
  info.kernel = answer.kernel;
  info.verified = answer.verified;
  info.fallback_reason = answer.fallback_reason;
  info.time_ms = milliseconds_since(start);
}

/// The caller's array, or a new one; absent where the format has none.
Result<Tensor> output(std::string_view name, const TensorView &given,
                      const std::optional<QuantArray> &want) {
  if (!want) {
    if (given.present())
      return fail(ErrorCode::invalid_argument,
                  fmt::format("an output array for {} is given, but the format has none", name));
    return Tensor();
  }
  if (given.present()) return Tensor::adopt(given, nullptr);
  return Tensor::empty(want->dtype, want->shape());
}

}  // namespace

bool Quantized::is_blocks() const noexcept {
  for (const QuantFormat &f : quant_formats())
    if (f.name == format) return f.is_blocks();
  return false;
}

std::uint64_t Quantized::bytes() const noexcept {
  std::uint64_t total = 0;
  for (const Tensor *t : {&codes, &scales, &biases})
    if (t->present()) total += static_cast<std::uint64_t>(t->elements()) * size_of(t->dtype());
  return total;
}

Result<sy_quantize_params> quantize_params_of(const QuantizeOptions &options) {
  auto format = parse_quant_format(options.format);
  if (!format) return tl::unexpected(std::move(format.error()));
  auto granularity = parse_granularity(options.granularity);
  if (!granularity) return tl::unexpected(std::move(granularity.error()));
  auto rule = parse_scale_rule(options.scale);
  if (!rule) return tl::unexpected(std::move(rule.error()));
  auto nonfinite = parse_nonfinite(options.nonfinite);
  if (!nonfinite) return tl::unexpected(std::move(nonfinite.error()));
  auto rounding = parse_rounding(options.rounding);
  if (!rounding) return tl::unexpected(std::move(rounding.error()));
  if (options.group_size < 0)
    return fail(
        ErrorCode::usage,
        fmt::format("group size {} is negative; 0 means the format's default", options.group_size));
  sy_quantize_params params{.struct_size = sizeof(sy_quantize_params),
                            .format = static_cast<std::uint32_t>((*format)->id),
                            .group_size = static_cast<std::uint32_t>(options.group_size),
                            .granularity = static_cast<std::uint32_t>(*granularity),
                            .scale_rule = static_cast<std::uint32_t>(*rule),
                            .nonfinite = static_cast<std::uint32_t>(*nonfinite),
                            .rounding = static_cast<std::uint32_t>(*rounding),
                            .reserved = 0,
                            .seed = *rounding == SY_ROUNDING_STOCHASTIC ? options.seed : 0};
  const bool grouped = (*format)->grouped(params.granularity);
  if (params.group_size == 0 && grouped && !(*format)->group_sizes.empty())
    params.group_size = static_cast<std::uint32_t>((*format)->group_sizes.front());
  auto checked = check_quant_params(params);
  if (!checked) return tl::unexpected(std::move(checked.error()));
  return params;
}

Result<Quantized> quantize(Runner &runner, TensorView x, const QuantizeOptions &options) {
  const auto start = Clock::now();
  auto params = quantize_params_of(options);
  if (!params) return tl::unexpected(std::move(params.error()));
  auto layout = quant_layout(*params, x.shape(), x.dtype());
  if (!layout) return tl::unexpected(std::move(layout.error()));

  auto codes = output("codes", options.codes_out, layout->codes);
  if (!codes) return tl::unexpected(std::move(codes.error()));
  auto scales = output("scales", options.scales_out, layout->scales);
  if (!scales) return tl::unexpected(std::move(scales.error()));
  auto biases = output("biases", options.biases_out, layout->biases);
  if (!biases) return tl::unexpected(std::move(biases.error()));

  CallFrame frame(SY_QUANTIZE_INPUTS, SY_QUANTIZE_OUTPUTS);
  frame.params(*params);
  frame.input(SY_QUANTIZE_IN_X, x);
  frame.output(SY_QUANTIZE_OUT_CODES, *codes);
  frame.output(SY_QUANTIZE_OUT_SCALES, *scales);
  frame.output(SY_QUANTIZE_OUT_BIASES, *biases);
  frame.call().threads = runner.threads();
  Answer answer;
  if (auto ok = runner.run(SY_OP_QUANTIZE, frame.call(), nullptr, &answer); !ok)
    return tl::unexpected(std::move(ok.error()));

  Quantized q;
  q.format = layout->format->name;
  q.group_size = static_cast<int>(params->group_size);
  q.granularity = granularity_name(params->granularity);
  q.shape.assign(x.shape().begin(), x.shape().end());
  q.dtype = x.dtype();
  q.codes = std::move(*codes);
  q.scales = std::move(*scales);
  q.biases = std::move(*biases);
  fill(q.info, answer, start);
  return q;
}

QuantizeOptions format_options(const Quantized &q) {
  QuantizeOptions options;
  options.format = q.format;
  options.group_size = q.group_size;
  options.granularity = q.granularity;
  return options;
}

Result<Tensor> dequantize(Runner &runner, const Quantized &q, TensorView out, RunInfo *info) {
  const auto start = Clock::now();
  auto params = quantize_params_of(format_options(q));
  if (!params) return tl::unexpected(std::move(params.error()));
  // Before anything is allocated for a shape that may come from a file.
  auto layout = quant_layout(*params, q.shape, q.dtype);
  if (!layout) return tl::unexpected(std::move(layout.error()));
  if (!q.codes.present() || !std::ranges::equal(q.codes.shape(), layout->codes.shape()))
    return fail(ErrorCode::shape,
                fmt::format("{} values of shape {} need codes of shape {}, but they have {}",
                            q.format, shape_text(q.shape), shape_text(layout->codes.shape()),
                            q.codes.present() ? shape_text(q.codes.shape()) : "none"));
  if (out.present() && !std::ranges::equal(out.shape(), q.shape))
    return fail(ErrorCode::shape, fmt::format("the output array has shape {}, but must have {}",
                                              shape_text(out.shape()), shape_text(q.shape)));
  auto y =
      out.present() ? Result<Tensor>(Tensor::adopt(out, nullptr)) : Tensor::empty(q.dtype, q.shape);
  if (!y) return y;

  CallFrame frame(SY_DEQUANTIZE_INPUTS, SY_DEQUANTIZE_OUTPUTS);
  frame.params(*params);
  frame.input(SY_DEQUANTIZE_IN_CODES, q.codes);
  frame.input(SY_DEQUANTIZE_IN_SCALES, q.scales);
  frame.input(SY_DEQUANTIZE_IN_BIASES, q.biases);
  frame.output(SY_DEQUANTIZE_OUT_Y, *y);
  frame.call().threads = runner.threads();
  Answer answer;
  if (auto ok = runner.run(SY_OP_DEQUANTIZE, frame.call(), nullptr, &answer); !ok)
    return tl::unexpected(std::move(ok.error()));
  if (info != nullptr) fill(*info, answer, start);
  return y;
}

}  // namespace switchyard
