// SPDX-License-Identifier: Apache-2.0
#include "ops/rowwise.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/tensor_checks.hpp"
#include "op/octave.hpp"
#include "op/spot.hpp"
#include "ops/quantize_problems.hpp"
#include "ops/values.hpp"

namespace switchyard {
namespace {

constexpr std::string_view kLayouts[] = {"contiguous", "strided", "scattered", "permuted",
                                         "broadcast"};
constexpr std::string_view kData[] = {"gaussian", "large", "zeros", "small", "nan"};

Status check_like(std::string_view name, const sy_tensor &t, const sy_tensor &first) {
  if (!same(t.dtype, first.dtype))
    return fail(ErrorCode::dtype, fmt::format("{} is {}; it must be {}", name, to_string(t.dtype),
                                              to_string(first.dtype)));
  if (t.rank != first.rank || !std::equal(t.shape, t.shape + t.rank, first.shape)) {
    const auto text = [](const sy_tensor &x) {
      return shape_text({x.shape, static_cast<std::size_t>(std::clamp(x.rank, 0, SY_MAX_RANK))});
    };
    return fail(ErrorCode::shape,
                fmt::format("{} has shape {}; it must be {}", name, text(t), text(first)));
  }
  return check_memory(name, t);
}

std::int64_t rows_of(const sy_tensor &t) noexcept {
  std::int64_t rows = 1;
  for (int i = 0; i + 1 < t.rank; ++i) rows *= t.shape[i];
  return rows;
}

/// Row `row` of t as a tensor of rank 1.
sy_tensor row_of(const sy_tensor &t, std::int64_t row) noexcept {
  sy_tensor part = t;
  std::int64_t offset = 0;
  for (int i = t.rank - 2; i >= 0; --i) {
    offset += row % t.shape[i] * t.strides[i];
    row /= t.shape[i];
  }
  part.byte_offset += static_cast<std::uint64_t>(offset) * size_of(t.dtype);
  part.rank = 1;
  part.shape[0] = t.shape[t.rank - 1];
  part.strides[0] = t.strides[t.rank - 1];
  return part;
}

void read(const sy_tensor &row, std::vector<double> &out) {
  const auto *p = TensorView(row).data<std::byte>();
  const std::int64_t step = row.strides[0] * static_cast<std::int64_t>(size_of(row.dtype));
  out.resize(static_cast<std::size_t>(row.shape[0]));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = load_value(p + static_cast<std::int64_t>(i) * step, row.dtype);
}

struct Sizes {
  std::int64_t rows = 0, d = 0;
  DType dtype{};
  std::string layout, data;
};

/// Shape and strides; permuted swaps two leading dimensions, broadcast repeats a row (inputs only).
TensorSpec spec_of(const Sizes &s, bool output) {
  if (s.layout == "strided") return {s.dtype, {s.rows, s.d}, {s.d + 3, 1}};
  if (s.layout == "scattered") return {s.dtype, {s.rows, s.d}, {2 * s.d + 1, 2}};
  if (s.layout == "broadcast" && !output) return {s.dtype, {s.rows, s.d}, {0, 1}};
  if (s.layout == "permuted") {
    const std::int64_t outer = s.rows % 2 == 0 ? 2 : 1;
    return {s.dtype, {outer, s.rows / outer, s.d}, {s.d, outer * s.d, 1}};
  }
  return {s.dtype, {s.rows, s.d}, {}};
}

Result<Tensor> make_values(const Sizes &s, const TensorSpec &spec, std::uint64_t seed) {
  QuantProblem values;
  values.n = s.rows * s.d;
  values.dtype = s.dtype;
  values.data = s.data == "nan" || s.data == "large" ? "gaussian" : s.data;
  values.layout = "contiguous";
  auto flat = make_quant_values(values, seed);
  if (!flat) return flat;
  auto made = Tensor::strided(spec.dtype, spec.shape, spec.all_strides());
  if (!made) return made;
  if (made->bytes() > 0) std::memset(made->data(), 0xFF, made->bytes());  // gaps hold NaN
  const std::size_t size = size_of(s.dtype);
  const auto *from = flat->data<std::byte>();
  for (std::int64_t row = 0; row < s.rows; ++row) {
    const sy_tensor to = row_of(made->view().raw(), row);
    auto *p = TensorView(to).data<std::byte>();
    for (std::int64_t i = 0; i < s.d; ++i, from += size) {
      std::byte *at = p + static_cast<std::size_t>(i * to.strides[0]) * size;
      std::memcpy(at, from, size);
      const float value = load_value(at, s.dtype);
      if (s.data == "large") {  // far from 0, so that means and exponentials matter
        const float more = 40 * value + 8;
        const std::uint16_t half =
            same(s.dtype, dtypes::f16) ? f32_to_f16(more) : f32_to_bf16(more);
        if (size == 4)
          std::memcpy(at, &more, 4);
        else
          std::memcpy(at, &half, 2);
      }
      if (s.data == "nan" && row == s.rows / 2 && i == s.d / 2) std::memset(at, 0xFF, size);
    }
  }
  return made;
}

}  // namespace

Status RowwiseSpec::validate(const sy_call &call) const {
  const auto known = inputs();
  if (call.n_inputs != known.size() || call.n_outputs != 1)
    return fail(ErrorCode::invalid_argument,
                fmt::format("{} takes {} inputs and 1 output", id(), known.size()));
  if (auto ok = check_params(call); !ok) return ok;
  const sy_tensor *x = call.inputs[0], *y = call.outputs[0];
  if (x == nullptr)
    return fail(ErrorCode::invalid_argument, fmt::format("{} is missing", known[0].name));
  if (x->rank < 1 || x->rank > SY_MAX_RANK)
    return fail(ErrorCode::shape, fmt::format("{} has rank {}, but must have 1 to {} dimensions",
                                              known[0].name, x->rank, SY_MAX_RANK));
  if (!is_value_type(x->dtype))
    return fail(ErrorCode::dtype, fmt::format("{} is {}, but must be f32, f16 or bf16",
                                              known[0].name, to_string(x->dtype)));
  if (auto ok = check_memory(known[0].name, *x); !ok) return ok;
  if (x->shape[x->rank - 1] == 0 && !allows_empty_rows())
    return fail(ErrorCode::shape, fmt::format("{} has rows without values", known[0].name));
  for (std::uint32_t i = 1; i < call.n_inputs; ++i) {
    const sy_tensor *t = call.inputs[i];
    if (t == nullptr) {
      if (known[i].optional) continue;
      return fail(ErrorCode::invalid_argument, fmt::format("{} is missing", known[i].name));
    }
    if (!known[i].is_vector) {
      if (auto ok = check_like(known[i].name, *t, *x); !ok) return ok;
      continue;
    }
    QuantArray want;
    want.dtype = same(t->dtype, dtypes::f32) ? dtypes::f32 : x->dtype;
    want.rank = 1;
    want.dims[0] = x->shape[x->rank - 1];
    if (auto ok = check_array(known[i].name, t, want, false); !ok) return ok;
  }
  if (y == nullptr) return fail(ErrorCode::invalid_argument, "the output y is missing");
  if (auto ok = check_like("y", *y, *x); !ok) return ok;
  if ((y->flags & SY_TENSOR_READ_ONLY) != 0)
    return fail(ErrorCode::invalid_argument, "y is read-only");
  if (may_overlap(*y))
    return fail(ErrorCode::shape, "y has strides that make its elements overlap");
  return {};
}

void RowwiseSpec::key(const sy_call &call, KeyBuilder &builder) const noexcept {
  const sy_tensor &x = *call.inputs[0];
  builder.dtype(x.dtype).size(rows_of(x)).size(x.shape[x.rank - 1]).add(params_key(call), 8);
  for (std::uint32_t i = 1; i < call.n_inputs; ++i)
    builder.add(call.inputs[i] != nullptr, 1)
        .dtype(call.inputs[i] != nullptr ? call.inputs[i]->dtype : DType{});
  for (const sy_tensor *t : {&x, call.outputs[0]})
    builder.layout(t).add(t->strides[t->rank - 1] == 1, 1);
}

Shape RowwiseSpec::describe(const sy_call &call) const {
  const sy_tensor &x = *call.inputs[0], &y = *call.outputs[0];
  Shape shape;
  shape.set("rows", rows_of(x)).set("d", x.shape[x.rank - 1]).set("dtype", to_string(x.dtype));
  const auto known = inputs();
  for (std::uint32_t i = 1; i < call.n_inputs; ++i)
    if (known[i].is_vector)
      shape.set(known[i].name,
                call.inputs[i] == nullptr ? "none" : to_string(call.inputs[i]->dtype));
  describe_params(call, shape);
  const bool scattered =
      x.shape[x.rank - 1] > 1 && (x.strides[x.rank - 1] != 1 || y.strides[y.rank - 1] != 1);
  if (scattered)
    shape.set("layout", std::string("scattered"));
  else if (!TensorView(x).contiguous() || !TensorView(y).contiguous())
    shape.set("layout", std::string("strided"));
  return shape;
}

Result<Problem> RowwiseSpec::make_problem(const Shape &shape, std::uint64_t seed) const {
  const auto known = inputs();
  std::vector<std::string_view> items{"rows", "d", "dtype", "layout", "data", param_item()};
  for (const Input &in : known)
    if (in.is_vector) items.push_back(in.name);
  if (auto ok = shape.only(items); !ok) return tl::unexpected(std::move(ok.error()));
  Sizes s;
  auto rows = shape.integer("rows", 64, 0, std::int64_t{1} << 40);
  auto d = shape.integer("d", 1024, allows_empty_rows() ? 0 : 1, std::int64_t{1} << 40);
  auto dtype = shape.dtype("dtype", dtypes::f32);
  if (!rows) return tl::unexpected(std::move(rows.error()));
  if (!d) return tl::unexpected(std::move(d.error()));
  if (!dtype) return tl::unexpected(std::move(dtype.error()));
  s = {*rows, *d, *dtype, shape.word("layout", "contiguous"), shape.word("data", "gaussian")};
  if (!is_value_type(s.dtype)) return fail(ErrorCode::usage, "dtype must be f32, f16 or bf16");
  if (std::ranges::find(kLayouts, s.layout) == std::end(kLayouts))
    return fail(ErrorCode::usage, fmt::format("unknown layout '{}'", s.layout));
  if (std::ranges::find(kData, s.data) == std::end(kData))
    return fail(ErrorCode::usage, fmt::format("unknown data '{}'", s.data));
  Problem problem;
  problem.op = id();
  problem.shape = shape;
  problem.seed = seed;
  if (auto ok = make_params(shape, problem); !ok) return tl::unexpected(std::move(ok.error()));
  for (std::size_t i = 0; i < known.size(); ++i) {
    Sizes own = s;
    TensorSpec spec = spec_of(s, false);
    if (known[i].is_vector) {
      const std::string kind = shape.word(known[i].name, "f32");
      problem.inputs.emplace_back();
      if (kind == "none") continue;
      auto type = parse_dtype(kind);
      if (!type) return tl::unexpected(std::move(type.error()));
      own = {1, s.d, *type, "contiguous", "gaussian"};
      spec = {own.dtype, {s.d}, {}};
      problem.inputs.pop_back();
    }
    auto made = make_values(own, spec, seed + i);
    if (!made) return tl::unexpected(std::move(made.error()));
    problem.inputs.push_back(std::move(*made));
  }
  problem.outputs.emplace_back(spec_of(s, true));
  return problem;
}

std::vector<Shape> RowwiseSpec::conformance_shapes() const {
  std::vector<Shape> shapes;
  constexpr std::array<std::int64_t, 2> kSizes[] = {{1, 1},   {1, 7},     {3, 64},  {5, 129},
                                                    {2, 768}, {70, 1025}, {0, 16},  {1, 5000},
                                                    {300, 3}, {1, 70001}, {9, 4096}};
  for (const Shape &variant : param_variants())
    for (const char *dtype : {"f32", "f16", "bf16"}) {
      const auto base = [&](std::int64_t rows, std::int64_t d) {
        Shape s = variant;
        s.set("rows", rows).set("d", d).set("dtype", std::string(dtype));
        return s;
      };
      for (const auto &[rows, d] : kSizes) shapes.push_back(base(rows, d));
      for (const char *data : {"large", "zeros", "small", "nan"})
        shapes.push_back(base(6, 101).set("data", std::string(data)));
      for (const char *layout : {"strided", "scattered", "permuted", "broadcast"})
        shapes.push_back(base(6, 101).set("layout", std::string(layout)));
      for (const Input &in : inputs()) {
        if (!in.is_vector) continue;
        shapes.push_back(base(5, 130).set(in.name, std::string(dtype)));
        if (in.optional) shapes.push_back(base(5, 130).set(in.name, std::string("none")));
      }
    }
  return shapes;
}

std::vector<Shape> RowwiseSpec::gate_shapes(const Shape &like) const {
  auto rows = like.integer("rows", 64, 0, std::int64_t{1} << 40);
  auto d = like.integer("d", 1024, 0, std::int64_t{1} << 40);
  if (!rows || !d) return {};
  std::vector<Shape> shapes;
  struct Case {
    std::int64_t rows, d;
    const char *data;
  };
  for (const Case &c : {Case{67, 1535, "gaussian"}, Case{5, 16383, "gaussian"},
                        Case{13, 383, "large"}, Case{7, 383, "nan"}, Case{3, 191, "small"}}) {
    Shape s = like;
    s.set("rows", std::min(octave_odd(*rows), c.rows)).set("d", std::min(octave_odd(*d), c.d));
    s.set("data", std::string(c.data));
    if (std::ranges::find(shapes, s) == shapes.end()) shapes.push_back(std::move(s));
  }
  return shapes;
}

std::optional<std::string> RowwiseSpec::compare(const Problem &, const sy_call &got,
                                                const sy_call &want,
                                                const ReferenceRunner &) const {
  const sy_tensor &x = *want.inputs[0];
  const auto known = inputs();
  std::vector<std::vector<double>> values(known.size());
  std::vector<double> a, b, bound(static_cast<std::size_t>(x.shape[x.rank - 1]));
  for (std::int64_t row = 0; row < rows_of(x); ++row) {
    for (std::size_t i = 0; i < known.size(); ++i)
      if (const sy_tensor *t = want.inputs[i])
        read(known[i].is_vector ? *t : row_of(*t, row), values[i]);
    read(row_of(*got.outputs[0], row), a);
    read(row_of(*want.outputs[0], row), b);
    limits({values, want}, bound);
    for (std::size_t i = 0; i < bound.size(); ++i) {
      const double limit = bound[i] + rounding_of(x.dtype, b[i]);
      if (!is_close(a[i], b[i], limit))
        return fmt::format("y in row {}, element {} is {}, but the reference has {}: limit {:.2e}",
                           row, i, a[i], b[i], limit);
    }
  }
  return std::nullopt;
}

Work RowwiseSpec::work(const sy_call &call) const noexcept {
  Work w;
  w.flops = flops_per_value() * static_cast<double>(TensorView(*call.inputs[0]).elements());
  for (std::uint32_t i = 0; i < call.n_inputs; ++i) w.bytes += tensor_bytes(call.inputs[i]);
  w.bytes += tensor_bytes(call.outputs[0]);
  return w;
}

Result<std::string> RowwiseSpec::spot_check(const sy_call &done, std::uint64_t pick,
                                            const ReferenceRunner &reference) const {
  const std::int64_t rows = rows_of(*done.inputs[0]);
  if (rows == 0) return "";
  const std::int64_t row = choose_start(pick, rows, 1);
  const auto known = inputs();
  Spot spot(done);
  for (std::size_t i = 0; i < known.size(); ++i)
    if (const sy_tensor *t = done.inputs[i])
      spot.input(i, TensorView(known[i].is_vector ? *t : row_of(*t, row)));
  if (auto ok = spot.output(0, TensorView(row_of(*done.outputs[0], row))); !ok)
    return tl::unexpected(ok.error());
  auto wrong = spot.check(*this, reference);
  if (wrong && !wrong->empty()) return fmt::format("row {}: {}", row, *wrong);
  return wrong;
}

}  // namespace switchyard
