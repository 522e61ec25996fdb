// SPDX-License-Identifier: Apache-2.0
// The operation "dequantize".
#include <switchyard/ops/quantize.h>

#include "op/op_spec.hpp"
#include "ops/quantize_problems.hpp"

namespace switchyard {
namespace {

constexpr std::string_view kInputs[] = {"codes", "scales", "biases"};

class DequantizeSpec final : public OpSpec {
 public:
  std::string_view id() const noexcept override { return SY_OP_DEQUANTIZE; }

  Status validate(const sy_call &call) const override {
    if (call.n_inputs != SY_DEQUANTIZE_INPUTS || call.n_outputs != SY_DEQUANTIZE_OUTPUTS)
      return fail(ErrorCode::invalid_argument, "dequantize takes 3 inputs and 1 output");
    auto params = quantize_params(call);
    if (!params) return tl::unexpected(std::move(params.error()));
    const sy_tensor *y = call.outputs[SY_DEQUANTIZE_OUT_Y];
    if (auto ok = check_values("y", y, true); !ok) return ok;
    // Affine scales may have another dtype than y: theirs is the one computed in.
    const QuantFormat *format = find_quant_format((*params)->format);
    const sy_tensor *scales = call.inputs[SY_DEQUANTIZE_IN_SCALES];
    DType dtype = y->dtype;
    if (format != nullptr && format->family == QuantFamily::affine && scales != nullptr)
      dtype = scales->dtype;
    auto layout = quant_layout(**params, {y->shape, static_cast<std::size_t>(y->rank)}, dtype);
    if (!layout) return tl::unexpected(std::move(layout.error()));
    const std::optional<QuantArray> wanted[] = {layout->codes, layout->scales, layout->biases};
    for (std::size_t i = 0; i < std::size(wanted); ++i)
      if (auto ok = check_array(kInputs[i], call.inputs[i], wanted[i], false); !ok) return ok;
    return {};
  }

  void key(const sy_call &call, KeyBuilder &builder) const noexcept override {
    const auto &params = *static_cast<const sy_quantize_params *>(call.params);
    const sy_tensor &y = *call.outputs[SY_DEQUANTIZE_OUT_Y];
    const sy_tensor *scales = call.inputs[SY_DEQUANTIZE_IN_SCALES];
    std::int64_t rows = 1;
    for (int k = 0; k + 1 < y.rank; ++k) rows *= y.shape[k];
    builder.add(params.format, 8)
        .add(params.group_size, 9)
        .add(params.granularity, 2)
        .dtype(y.dtype)
        .dtype(scales != nullptr ? scales->dtype : DType{})
        .size(rows)
        .size(rows * y.shape[y.rank - 1])
        .layout(&y);
  }

  Shape describe(const sy_call &call) const override {
    return describe_quant(*static_cast<const sy_quantize_params *>(call.params),
                          *call.outputs[SY_DEQUANTIZE_OUT_Y], call.inputs[SY_DEQUANTIZE_IN_SCALES]);
  }

  Result<Problem> make_problem(const Shape &shape, std::uint64_t seed) const override {
    auto parsed = QuantProblem::parse(shape, true);
    if (!parsed) return tl::unexpected(std::move(parsed.error()));
    TensorSpec spec = layout_spec(*parsed);
    const QuantFormat *format = find_quant_format(parsed->params.format);
    const bool affine = format->family == QuantFamily::affine;
    auto layout =
        quant_layout(parsed->params, spec.shape, affine ? parsed->scales_dtype : parsed->dtype);
    if (!layout) return tl::unexpected(std::move(layout.error()));
    auto arrays = make_quant_arrays(*parsed, *layout, seed);
    if (!arrays) return tl::unexpected(std::move(arrays.error()));
    Problem problem;
    problem.op = id();
    problem.shape = shape;
    problem.seed = seed;
    problem.inputs.push_back(std::move(arrays->codes));
    problem.inputs.push_back(std::move(arrays->scales));
    problem.inputs.push_back(std::move(arrays->biases));
    problem.outputs.emplace_back(std::move(spec));
    problem.set_params(parsed->params);
    return problem;
  }

  std::vector<Shape> conformance_shapes() const override { return quant_conformance_shapes(true); }
  std::vector<Shape> gate_shapes(const Shape &like) const override {
    return quant_gate_shapes(like, true);
  }

  std::optional<std::string> compare(const Problem &, const sy_call &got, const sy_call &want,
                                     const ReferenceRunner &) const override {
    return exact_difference("y", got.outputs[SY_DEQUANTIZE_OUT_Y],
                            want.outputs[SY_DEQUANTIZE_OUT_Y]);
  }

  bool checks_parts() const noexcept override { return true; }
  Result<std::string> spot_check(const sy_call &done, std::uint64_t pick,
                                 const ReferenceRunner &reference) const override {
    return spot_check_dequantize(*this, done, pick, reference);
  }

  Work work(const sy_call &call) const noexcept override {
    const sy_tensor *y = call.outputs[SY_DEQUANTIZE_OUT_Y];
    Work work;
    work.bytes = tensor_bytes(y);
    work.flops = 2 * work.bytes / (y->dtype.bits / 8);
    for (std::size_t i = 0; i < std::size(kInputs); ++i) work.bytes += tensor_bytes(call.inputs[i]);
    return work;
  }
};

}  // namespace

const OpSpec &dequantize_spec() noexcept {
  static const DequantizeSpec spec;
  return spec;
}

}  // namespace switchyard
