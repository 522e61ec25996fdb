// SPDX-License-Identifier: Apache-2.0
#include "models/quant_spec.hpp"

#include <fmt/format.h>

#include "base/checked.hpp"
#include "io/gguf.hpp"
#include "quantize/quantize.hpp"

namespace switchyard {

std::string TensorChoice::text() const {
  if (format.empty()) return "keep";
  std::string out = format;
  if (group_size > 0) out += fmt::format(":{}", group_size);
  if (granularity != "tensor") out += fmt::format(" by {}", granularity);
  if (scale != "default") out += fmt::format(", {}", scale);
  return out;
}

namespace models {

QuantizeOptions options_of(const TensorChoice &choice, const std::string &nonfinite) {
  QuantizeOptions options;
  options.format = choice.format;
  options.group_size = choice.group_size;
  options.granularity = choice.granularity;
  options.scale = choice.scale;
  options.nonfinite = nonfinite;
  return options;
}

std::uint64_t bytes_of(const QuantArray &array) noexcept {
  // quant_layout has checked the product.
  return static_cast<std::uint64_t>(*checked_elements(array.shape())) * size_of(array.dtype);
}

Matrix matrix_of(std::span<const std::int64_t> shape) noexcept {
  if (shape.empty()) return {1, 1};
  return {*checked_elements(shape.first(shape.size() - 1)), shape.back()};
}

bool is_value_dtype(DType dtype) noexcept {
  return same(dtype, dtypes::f32) || same(dtype, dtypes::f16) || same(dtype, dtypes::bf16);
}

Result<QuantSpec> quant_spec(const TensorChoice &choice, std::span<const std::int64_t> shape,
                             DType dtype) {
  auto params = quantize_params_of(options_of(choice));
  if (!params) return tl::unexpected(params.error());
  auto layout = quant_layout(*params, shape, dtype);
  if (!layout) return tl::unexpected(layout.error());
  QuantSpec spec;
  spec.choice = choice;
  spec.choice.format = layout->format->name;
  spec.choice.group_size = static_cast<int>(params->group_size);
  spec.layout = *layout;
  spec.bytes = bytes_of(layout->codes);
  for (const auto *array : {&layout->scales, &layout->biases})
    if (*array) spec.bytes += bytes_of(**array);
  // A scale of the whole tensor, or arrays that do not grow with the rows, need all of it at once.
  const bool shared = params->granularity == SY_GRANULARITY_TENSOR &&
                      layout->format->granularities != 1u << SY_GRANULARITY_TENSOR;
  const auto grows = [&](const QuantArray &array) {
    return layout->rows > 0 && bytes_of(array) % static_cast<std::uint64_t>(layout->rows) == 0;
  };
  spec.by_rows = !shared && layout->format->id != SY_QUANT_I2_S &&
                 (shape.size() == 2 || params->granularity <= SY_GRANULARITY_GROUP) &&
                 grows(layout->codes) && (!layout->scales || grows(*layout->scales)) &&
                 (!layout->biases || grows(*layout->biases));
  return spec;
}

Result<TensorChoice> parse_choice(const std::string &text) {
  TensorChoice choice;
  const auto colon = text.find(':');
  choice.format = text.substr(0, colon);
  auto format = parse_quant_format(choice.format);
  if (!format) return tl::unexpected(format.error());
  choice.format = (*format)->name;
  if (colon == std::string::npos) return choice;
  const std::string group = text.substr(colon + 1);
  if (group.empty() || group.size() > 6 || group.find_first_not_of("0123456789") != group.npos)
    return fail(ErrorCode::usage, fmt::format("'{}': expected FORMAT or FORMAT:GROUP", text));
  choice.group_size = std::stoi(group);
  return choice;
}

std::optional<MlxMode> mlx_mode(const QuantFormat &format) noexcept {
  if (format.family == QuantFamily::affine) return MlxMode{format.bits, "affine"};
  if (format.name == "mxfp4") return MlxMode{4, "mxfp4"};
  return std::nullopt;
}

std::string_view ggml_name(const QuantFormat &format) noexcept {
  if (format.family != QuantFamily::blocks) return {};
  if (format.name == "mxfp4_ggml") return "MXFP4";
  const GgmlType *type = find_ggml_type(format.name);
  return type == nullptr ? std::string_view() : type->name;
}

const QuantFormat *format_of_ggml(std::string_view name) noexcept {
  for (const QuantFormat &format : quant_formats())
    if (!name.empty() && ggml_name(format) == name) return &format;
  return nullptr;
}

}  // namespace models
}  // namespace switchyard
