// SPDX-License-Identifier: Apache-2.0
// The operation "quantize".
#include <switchyard/ops/quantize.h>

#include "op/op_spec.hpp"
#include "ops/quantize_problems.hpp"

namespace switchyard {
namespace {

constexpr std::string_view kOutputs[] = {"codes", "scales", "biases"};

class QuantizeSpec final : public OpSpec {
 public:
  std::string_view id() const noexcept override { return SY_OP_QUANTIZE; }

  Status validate(const sy_call &call) const override {
    if (call.n_inputs != SY_QUANTIZE_INPUTS || call.n_outputs != SY_QUANTIZE_OUTPUTS)
      return fail(ErrorCode::invalid_argument, "quantize takes 1 input and 3 outputs");
    auto params = quantize_params(call);
    if (!params) return tl::unexpected(std::move(params.error()));
    const sy_tensor *x = call.inputs[SY_QUANTIZE_IN_X];
    if (auto ok = check_values("x", x, false); !ok) return ok;
    auto layout = quant_layout(**params, {x->shape, static_cast<std::size_t>(x->rank)}, x->dtype);
    if (!layout) return tl::unexpected(std::move(layout.error()));
    const std::optional<QuantArray> wanted[] = {layout->codes, layout->scales, layout->biases};
    for (std::size_t i = 0; i < std::size(wanted); ++i)
      if (auto ok = check_array(kOutputs[i], call.outputs[i], wanted[i], true); !ok) return ok;
    return {};
  }

  void key(const sy_call &call, KeyBuilder &builder) const noexcept override {
    const auto &params = *static_cast<const sy_quantize_params *>(call.params);
    const sy_tensor &x = *call.inputs[SY_QUANTIZE_IN_X];
    std::int64_t rows = 1;
    for (int k = 0; k + 1 < x.rank; ++k) rows *= x.shape[k];
    builder.add(params.format, 8)
        .add(params.group_size, 9)
        .add(params.granularity, 2)
        .add(params.scale_rule, 3)
        .add(params.nonfinite, 1)
        .add(is_stochastic(params), 1)
        .dtype(x.dtype)
        .size(rows)
        .size(rows * x.shape[x.rank - 1])
        .layout(&x);
  }

  Shape describe(const sy_call &call) const override {
    return describe_quant(*static_cast<const sy_quantize_params *>(call.params),
                          *call.inputs[SY_QUANTIZE_IN_X], nullptr);
  }

  Result<Problem> make_problem(const Shape &shape, std::uint64_t seed) const override {
    auto parsed = QuantProblem::parse(shape, false);
    if (!parsed) return tl::unexpected(std::move(parsed.error()));
    const TensorSpec spec = layout_spec(*parsed);
    auto layout = quant_layout(parsed->params, spec.shape, parsed->dtype);
    if (!layout) return tl::unexpected(std::move(layout.error()));
    auto values = make_quant_values(*parsed, seed);
    if (!values) return tl::unexpected(std::move(values.error()));
    Problem problem;
    problem.op = id();
    problem.shape = shape;
    problem.seed = seed;
    problem.inputs.push_back(std::move(*values));
    const std::optional<QuantArray> outputs[] = {layout->codes, layout->scales, layout->biases};
    for (const auto &array : outputs) {
      if (array)
        problem.outputs.push_back(
            TensorSpec{array->dtype, {array->shape().begin(), array->shape().end()}, {}});
      else
        problem.outputs.emplace_back(std::nullopt);
    }
    problem.set_params(parsed->params);
    return problem;
  }

  std::vector<Shape> conformance_shapes() const override { return quant_conformance_shapes(false); }
  std::vector<Shape> gate_shapes(const Shape &like) const override {
    return quant_gate_shapes(like, false);
  }

  std::optional<std::string> compare(const Problem &, const sy_call &got, const sy_call &want,
                                     const ReferenceRunner &) const override {
    for (std::size_t i = 0; i < std::size(kOutputs); ++i)
      if (auto difference = exact_difference(kOutputs[i], got.outputs[i], want.outputs[i]))
        return difference;
    return std::nullopt;
  }

  bool checks_parts() const noexcept override { return true; }
  Result<std::string> spot_check(const sy_call &done, std::uint64_t pick,
                                 const ReferenceRunner &reference) const override {
    return spot_check_quantize(*this, done, pick, reference);
  }

  Work work(const sy_call &call) const noexcept override {
    const sy_tensor *x = call.inputs[SY_QUANTIZE_IN_X];
    Work work;
    work.bytes = tensor_bytes(x);
    work.flops = 5 * work.bytes / (x->dtype.bits / 8);
    for (std::size_t i = 0; i < std::size(kOutputs); ++i)
      work.bytes += tensor_bytes(call.outputs[i]);
    return work;
  }
};

}  // namespace

const OpSpec &quantize_spec() noexcept {
  static const QuantizeSpec spec;
  return spec;
}

}  // namespace switchyard
