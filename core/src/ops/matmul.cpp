// SPDX-License-Identifier: Apache-2.0
// The operation "matmul".
#include <fmt/format.h>

#include <algorithm>

#include "base/tensor_checks.hpp"
#include "op/spot.hpp"
#include "ops/matmul_problem.hpp"
#include "ops/quantize_problems.hpp"
#include "ops/values.hpp"

namespace switchyard {
namespace matmul_op {
namespace {

Status check_matrix(std::string_view name, const sy_tensor *t) {
  if (t == nullptr) return fail(ErrorCode::invalid_argument, fmt::format("{} is missing", name));
  if (t->rank != 2)
    return fail(ErrorCode::shape,
                fmt::format("{} has rank {}, but must have 2 dimensions", name, t->rank));
  return check_memory(name, *t);
}

Status check_params(const sy_call &call) {
  const auto *p = static_cast<const sy_matmul_params *>(call.params);
  if (p == nullptr || call.params_size < sizeof(sy_matmul_params) ||
      p->struct_size < sizeof(sy_matmul_params))
    return fail(ErrorCode::invalid_argument,
                "the call's params must be an sy_matmul_params with struct_size set");
  if (p->flags != 0)
    return fail(ErrorCode::invalid_argument, "unknown flags in the params of matmul");
  if (p->format == SY_QUANT_NONE) {
    if (p->group_size == 0) return {};
    return fail(ErrorCode::invalid_argument, "plain weights have no group size; leave it at 0");
  }
  auto format = check_quant_params(quantize_params(p->format, p->group_size));
  if (!format) return tl::unexpected(std::move(format.error()));
  if (!is_offered(p->format))
    return fail(ErrorCode::unsupported,
                fmt::format("matmul does not multiply with weights in {}, only in q4_0, q8_0, "
                            "tq1_0, tq2_0, mlx_affine4 and mlx_affine8; dequantize them first",
                            (*format)->name));
  return {};
}

Status check_plain(const View &v) {
  if (auto ok = check_matrix("w", v.w); !ok) return ok;
  if (!same(v.w->dtype, v.x->dtype))
    return fail(ErrorCode::dtype, fmt::format("w is {} but x is {}; they must be equal",
                                              to_string(v.w->dtype), to_string(v.x->dtype)));
  if (v.w->shape[1] != v.k)
    return fail(ErrorCode::shape, fmt::format("x has {} columns, but w has {}; w is [outputs, "
                                              "columns of x]",
                                              v.k, v.w->shape[1]));
  for (const auto &[name, t] : {std::pair{"scales", v.scales}, std::pair{"biases", v.biases}})
    if (t != nullptr)
      return fail(ErrorCode::invalid_argument,
                  fmt::format("{} are given, but the weights are plain", name));
  return {};
}

Status check_quantised(const View &v) {
  if (v.w == nullptr) return fail(ErrorCode::invalid_argument, "w is missing");
  if (v.w->rank != 2)
    return fail(ErrorCode::shape,
                fmt::format("w has rank {}, but must have 2 dimensions", v.w->rank));
  const std::int64_t shape[] = {v.w->shape[0], v.k};
  const DType type = v.scales != nullptr ? v.scales->dtype : v.x->dtype;
  auto layout = quant_layout(quantize_params(v.params->format, v.params->group_size), shape, type);
  if (!layout) return tl::unexpected(std::move(layout.error()));
  if (auto ok = check_array("w", v.w, layout->codes, false); !ok) return ok;
  if (auto ok = check_array("scales", v.scales, layout->scales, false); !ok) return ok;
  return check_array("biases", v.biases, layout->biases, false);
}

Status check_output(const View &v) {
  if (auto ok = check_matrix("y", v.y); !ok) return ok;
  if (v.y->shape[0] != v.m || v.y->shape[1] != v.n)
    return fail(ErrorCode::shape, fmt::format("y has shape {}, but must have [{}, {}]",
                                              shape_text({v.y->shape, 2}), v.m, v.n));
  if (!same(v.y->dtype, v.x->dtype) && !same(v.y->dtype, dtypes::f32))
    return fail(ErrorCode::dtype, fmt::format("y is {}; it must be f32 or x's {}",
                                              to_string(v.y->dtype), to_string(v.x->dtype)));
  if ((v.y->flags & SY_TENSOR_READ_ONLY) != 0)
    return fail(ErrorCode::invalid_argument, "y is read-only");
  if (may_overlap(*v.y))
    return fail(ErrorCode::shape, "y has strides that make its elements overlap");
  return {};
}

Status check_add(const View &v) {
  if (v.add == nullptr) return {};
  QuantArray want;
  want.dtype = dtypes::f32;
  want.rank = 1;
  want.dims[0] = v.n;
  return check_array("add", v.add, want, false);
}

/// `count` of t's rows (or columns) from `first` on.
sy_tensor slice(const sy_tensor &t, int axis, std::int64_t first, std::int64_t count) noexcept {
  sy_tensor part = t;
  part.byte_offset += static_cast<std::uint64_t>(first * t.strides[axis]) * size_of(t.dtype);
  part.shape[axis] = count;
  return part;
}

class Matmul final : public OpSpec {
 public:
  std::string_view id() const noexcept override { return SY_OP_MATMUL; }

  Status validate(const sy_call &call) const override {
    if (call.n_inputs != SY_MATMUL_INPUTS || call.n_outputs != SY_MATMUL_OUTPUTS)
      return fail(ErrorCode::invalid_argument, "matmul takes 5 inputs and 1 output");
    if (auto ok = check_params(call); !ok) return ok;
    if (auto ok = check_matrix("x", call.inputs[SY_MATMUL_IN_X]); !ok) return ok;
    const View v = view(call);
    if (!is_value_type(v.x->dtype))
      return fail(ErrorCode::dtype,
                  fmt::format("x is {}, but must be f32, f16 or bf16", to_string(v.x->dtype)));
    if (auto ok = v.quantised() ? check_quantised(v) : check_plain(v); !ok) return ok;
    if (auto ok = check_output(v); !ok) return ok;
    return check_add(v);
  }

  void key(const sy_call &call, KeyBuilder &builder) const noexcept override {
    const View v = view(call);
    builder.add(v.params->format, 8)
        .add(v.params->group_size, 8)
        .dtype(v.x->dtype)
        .dtype(v.y->dtype)
        .dtype(v.scales != nullptr ? v.scales->dtype : DType{})
        .size(v.m)
        .size(v.n)
        .size(v.k)
        .add(v.add != nullptr, 1);
    for (const sy_tensor *t : {v.x, v.w, v.y})
      builder.layout(t).add(t->strides[0] == 1, 1).add(t->strides[1] == 1, 1);
  }

  Shape describe(const sy_call &call) const override { return matmul_op::describe(call); }
  Result<Problem> make_problem(const Shape &shape, std::uint64_t seed) const override {
    return matmul_op::make_problem(shape, seed);
  }
  std::vector<Shape> conformance_shapes() const override { return matmul_op::conformance_shapes(); }
  std::vector<Shape> gate_shapes(const Shape &like) const override {
    return matmul_op::gate_shapes(like);
  }
  std::optional<std::string> compare(const Problem &, const sy_call &got, const sy_call &want,
                                     const ReferenceRunner &) const override {
    return matmul_op::compare(got, want);
  }

  /// A few outputs of one row.
  bool checks_parts() const noexcept override { return true; }
  Result<std::string> spot_check(const sy_call &done, std::uint64_t pick,
                                 const ReferenceRunner &reference) const override {
    const View v = view(done);
    if (v.m == 0 || v.n == 0) return "";
    constexpr std::int64_t kProducts = 1 << 14;  // about as many are recomputed
    const std::int64_t count =
        std::clamp<std::int64_t>(kProducts / std::max<std::int64_t>(1, v.k), 1, v.n);
    const std::int64_t row = choose_start(pick, v.m, 1);
    const std::int64_t first = choose_start(mix_bits(pick), v.n, count);
    Spot spot(done);
    spot.input(SY_MATMUL_IN_X, TensorView(slice(*v.x, 0, row, 1)));
    for (const auto &[at, t] :
         {std::pair{SY_MATMUL_IN_W, v.w}, std::pair{SY_MATMUL_IN_SCALES, v.scales},
          std::pair{SY_MATMUL_IN_BIASES, v.biases}, std::pair{SY_MATMUL_IN_ADD, v.add}})
      if (t != nullptr)
        spot.input(static_cast<std::size_t>(at), TensorView(slice(*t, 0, first, count)));
    const sy_tensor part = slice(slice(*v.y, 0, row, 1), 1, first, count);
    if (auto ok = spot.output(SY_MATMUL_OUT_Y, TensorView(part)); !ok)
      return tl::unexpected(ok.error());
    auto wrong = spot.check(*this, reference);
    if (wrong && !wrong->empty())
      return fmt::format("row {}, columns from {}: {}", row, first, *wrong);
    return wrong;
  }

  Work work(const sy_call &call) const noexcept override {
    const View v = view(call);
    Work w;
    w.flops = 2.0 * static_cast<double>(v.m) * static_cast<double>(v.n) * static_cast<double>(v.k);
    for (const sy_tensor *t : {v.x, v.w, v.scales, v.biases, v.add, v.y})
      w.bytes += tensor_bytes(t);
    return w;
  }
};

}  // namespace

View view(const sy_call &call) noexcept {
  View v{call.inputs[SY_MATMUL_IN_X],
         call.inputs[SY_MATMUL_IN_W],
         call.inputs[SY_MATMUL_IN_SCALES],
         call.inputs[SY_MATMUL_IN_BIASES],
         call.inputs[SY_MATMUL_IN_ADD],
         call.outputs[SY_MATMUL_OUT_Y],
         static_cast<const sy_matmul_params *>(call.params),
         0,
         0,
         0};
  if (v.x != nullptr) {
    v.m = v.x->shape[0];
    v.k = v.x->shape[1];
  }
  if (v.w != nullptr) v.n = v.w->shape[0];
  return v;
}

bool is_offered(std::uint32_t format) noexcept {
  switch (format) {
    case SY_QUANT_Q4_0:
    case SY_QUANT_Q8_0:
    case SY_QUANT_TQ1_0:
    case SY_QUANT_TQ2_0:
    case SY_QUANT_MLX_AFFINE4:
    case SY_QUANT_MLX_AFFINE8:
      return true;
    default:
      return false;
  }
}

std::int64_t block_of(std::uint32_t format) noexcept {
  return format == SY_QUANT_TQ1_0 || format == SY_QUANT_TQ2_0 ? 256 : 32;
}

sy_quantize_params quantize_params(std::uint32_t format, std::uint32_t group_size) noexcept {
  sy_quantize_params params{};
  params.struct_size = sizeof(params);
  params.format = format;
  params.group_size = group_size;
  return params;
}

}  // namespace matmul_op

const OpSpec &matmul_spec() noexcept {
  static const matmul_op::Matmul spec;
  return spec;
}

}  // namespace switchyard
