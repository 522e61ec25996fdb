// SPDX-License-Identifier: Apache-2.0
#include "shapes.hpp"

#include <array>
#include <cmath>

#include "base/call_frame.hpp"
#include "base/suggest.hpp"
#include "op/op_spec.hpp"
#include "ops/quantize_formats.hpp"
#include "quantize/quantize.hpp"

namespace switchyard::cli {
namespace {

TensorView planned(const QuantArray &array) {
  return TensorView(static_cast<void *>(nullptr), array.dtype, array.shape());
}

OpShape describe(const OpSpec &spec, CallFrame &frame) {
  return {std::string(spec.id()), spec.describe(frame.call())};
}

/// A call over the arrays that belong to values of this shape and dtype.
std::optional<OpShape> describe_quantized(const OpSpec &spec, const TensorView &values,
                                          const QuantizeOptions &options) {
  auto params = quantize_params_of(options);
  if (!params) return std::nullopt;
  auto layout = quant_layout(*params, values.shape(), values.dtype());
  if (!layout) return std::nullopt;
  const bool forward = spec.id() == SY_OP_QUANTIZE;
  const int inputs = forward ? int{SY_QUANTIZE_INPUTS} : int{SY_DEQUANTIZE_INPUTS};
  const int outputs = forward ? int{SY_QUANTIZE_OUTPUTS} : int{SY_DEQUANTIZE_OUTPUTS};
  CallFrame frame(static_cast<std::uint32_t>(inputs), static_cast<std::uint32_t>(outputs));
  const auto place = [&](std::size_t slot, const TensorView &view) {
    forward ? frame.output(slot, view) : frame.input(slot, view);
  };
  place(SY_QUANTIZE_OUT_CODES, planned(layout->codes));
  if (layout->scales) place(SY_QUANTIZE_OUT_SCALES, planned(*layout->scales));
  if (layout->biases) place(SY_QUANTIZE_OUT_BIASES, planned(*layout->biases));
  if (forward)
    frame.input(SY_QUANTIZE_IN_X, values);
  else
    frame.output(SY_DEQUANTIZE_OUT_Y, values);
  frame.params(*params);
  return describe(spec, frame);
}

}  // namespace

std::string canonical_op(const std::string &op) { return op == "kmeans" ? "kmeans.step" : op; }

Result<OpShape> parse_op_shape(const std::string &op, const std::vector<std::string> &words,
                               const Common &common) {
  OpShape out{canonical_op(op), {}};
  if (auto index = find_op(out.op); !index) return tl::unexpected(index.error());
  std::string text;
  for (const std::string &word : words) text += (text.empty() ? "" : ",") + word;
  auto shape = Shape::parse(text);
  if (!shape) return tl::unexpected(shape.error());
  out.shape = std::move(*shape);
  if (!common.dtype.empty()) out.shape.set("dtype", common.dtype);
  return out;
}

OpShape describe_quantize(const TensorView &x, const QuantizeOptions &options) {
  return describe_quantized(quantize_spec(), x, options).value_or(OpShape{SY_OP_QUANTIZE, {}});
}

OpShape describe_dequantize(const Quantized &q) {
  const TensorView values(static_cast<void *>(nullptr), q.dtype, q.shape);
  return describe_quantized(dequantize_spec(), values, format_options(q))
      .value_or(OpShape{SY_OP_DEQUANTIZE, {}});
}

OpShape describe_kmeans(const TensorView &x, const KMeansOptions &options) {
  // The step that a fit repeats: it knows the labels before and wants distances.
  const std::int64_t d = x.dim(1), k = options.k;
  const std::int64_t rows[] = {x.dim(0)}, centres[] = {k, d}, columns[] = {d};
  const auto plan = [](DType dtype, std::span<const std::int64_t> shape) {
    return TensorView(static_cast<void *>(nullptr), dtype, shape);
  };
  CallFrame frame(SY_KMEANS_STEP_INPUTS, SY_KMEANS_STEP_OUTPUTS);
  frame.input(SY_KMEANS_IN_X, x);
  frame.input(SY_KMEANS_IN_CENTROIDS, plan(dtypes::f32, centres));
  frame.input(SY_KMEANS_IN_WEIGHTS, options.sample_weight);
  frame.input(SY_KMEANS_IN_SHIFTS, plan(dtypes::i32, columns));
  frame.input(SY_KMEANS_IN_PREVIOUS_LABELS, plan(dtypes::i32, rows));
  frame.output(SY_KMEANS_STEP_OUT_LABELS, plan(dtypes::i32, rows));
  frame.output(SY_KMEANS_STEP_OUT_DISTANCES, plan(dtypes::f32, rows));
  sy_kmeans_params params{};
  params.flags = options.int8 ? SY_KMEANS_INT8 : 0;
  frame.params(params);
  return describe(kmeans_step_spec(), frame);
}

OpShape describe_attention(const TensorView &q, const TensorView &k, const TensorView &v,
                           const AttentionOptions &options) {
  CallFrame frame(SY_ATTENTION_INPUTS, SY_ATTENTION_OUTPUTS);
  frame.input(SY_ATTENTION_IN_Q, q);
  frame.input(SY_ATTENTION_IN_K, k);
  frame.input(SY_ATTENTION_IN_V, v);
  TensorView mask = options.mask;
  if (mask.present()) {
    const std::array<std::int64_t, 4> target{q.dim(0), q.dim(1), q.dim(2), k.dim(2)};
    const std::array<std::int64_t, 4> broadcast{0, 0, 0, 1};
    mask = TensorView(options.mask.data(), options.mask.dtype(), target, broadcast);
    frame.input(SY_ATTENTION_IN_MASK, mask);
  }
  frame.input(SY_ATTENTION_IN_SINKS, options.sinks);
  const std::array<std::int64_t, 4> out{q.dim(0), q.dim(1), q.dim(2), v.dim(3)};
  frame.output(SY_ATTENTION_OUT_O, TensorView(static_cast<void *>(nullptr), q.dtype(), out));
  sy_attention_params params{};
  params.causal = options.causal;
  params.scale =
      std::isnan(options.scale) ? 1.0f / std::sqrt(static_cast<float>(q.dim(3))) : options.scale;
  params.softcap = options.softcap;
  params.window_left = options.window ? *options.window - 1 : options.window_left;
  params.window_right = options.window ? -1 : options.window_right;
  frame.params(params);
  return describe(attention_spec(), frame);
}

std::string why(Engine &engine, const OpShape &shape) {
  auto explanation = engine.explain(shape.op, shape.shape.text());
  return explanation ? explanation->rule : std::string();
}

}  // namespace switchyard::cli
