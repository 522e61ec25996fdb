// SPDX-License-Identifier: Apache-2.0
// The operation "rope".
#include <switchyard/ops/rope.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/tensor_checks.hpp"
#include "op/octave.hpp"
#include "op/spot.hpp"
#include "ops/quantize_problems.hpp"
#include "ops/read_item.hpp"
#include "ops/values.hpp"

namespace switchyard {
namespace {

constexpr std::int64_t kMostOffset = std::int64_t{1} << 40;
constexpr std::string_view kItems[] = {"b",      "h",     "l",         "d",    "dtype", "rotary",
                                       "offset", "style", "positions", "freq", "layout"};

const sy_rope_params &params_of(const sy_call &call) noexcept {
  return *static_cast<const sy_rope_params *>(call.params);
}
std::int64_t rotary_of(const sy_rope_params &p, std::int64_t d) noexcept {
  return p.rotary == 0 ? d : std::int64_t{p.rotary};
}

Status check_params(const sy_call &call) {
  const auto *p = static_cast<const sy_rope_params *>(call.params);
  if (p == nullptr || call.params_size < sizeof(sy_rope_params) ||
      p->struct_size < sizeof(sy_rope_params))
    return fail(ErrorCode::invalid_argument,
                "the call's params must be an sy_rope_params with struct_size set");
  if (p->style > SY_ROPE_INTERLEAVED)
    return fail(ErrorCode::invalid_argument,
                fmt::format("style is {}; it must be 0 (halves) or 1 (interleaved)", p->style));
  if (p->offset < 0 || p->offset > kMostOffset)
    return fail(ErrorCode::invalid_argument,
                fmt::format("offset is {}; it must be 0 to 2^40", p->offset));
  if (!std::isfinite(p->base) || p->base <= 0)
    return fail(ErrorCode::invalid_argument,
                fmt::format("base is {}; it must be finite and above 0", p->base));
  if (!std::isfinite(p->scale))
    return fail(ErrorCode::invalid_argument,
                fmt::format("scale is {}; it must be finite", p->scale));
  if (p->flags != 0)
    return fail(ErrorCode::invalid_argument, "unknown flags in the params of rope");
  return {};
}

Status check_four(std::string_view name, const sy_tensor *t) {
  if (t == nullptr) return fail(ErrorCode::invalid_argument, fmt::format("{} is missing", name));
  if (t->rank != 4)
    return fail(ErrorCode::shape, fmt::format("{} has rank {}; it must be [batch, heads, length, "
                                              "head_dim]",
                                              name, t->rank));
  if (!is_value_type(t->dtype))
    return fail(ErrorCode::dtype,
                fmt::format("{} is {}; it must be f32, f16 or bf16", name, to_string(t->dtype)));
  return check_memory(name, *t);
}

Status check_optional(const sy_call &call, const sy_tensor &x, std::int64_t rotary) {
  if (const sy_tensor *p = call.inputs[SY_ROPE_IN_POSITIONS]) {
    if (!same(p->dtype, dtypes::i32))
      return fail(ErrorCode::dtype,
                  fmt::format("positions are {}; they must be i32", to_string(p->dtype)));
    if (p->rank != 2 || p->shape[0] != x.shape[0] || p->shape[1] != x.shape[2])
      return fail(ErrorCode::shape,
                  fmt::format("positions must have shape [{}, {}]", x.shape[0], x.shape[2]));
    if (auto ok = check_memory("positions", *p); !ok) return ok;
  }
  const sy_tensor *f = call.inputs[SY_ROPE_IN_FREQUENCIES];
  if (f == nullptr) return {};
  QuantArray want;
  want.dtype = dtypes::f32;
  want.rank = 1;
  want.dims[0] = rotary / 2;
  return check_array("frequencies", f, want, false);
}

/// One index of a dimension.
sy_tensor slice(const sy_tensor &t, int axis, std::int64_t at) noexcept {
  sy_tensor part = t;
  part.byte_offset += static_cast<std::uint64_t>(at * t.strides[axis]) * size_of(t.dtype);
  part.shape[axis] = 1;
  return part;
}

float value_at(const sy_tensor &t, std::int64_t b, std::int64_t h, std::int64_t i,
               std::int64_t e) noexcept {
  const std::int64_t offset =
      b * t.strides[0] + h * t.strides[1] + i * t.strides[2] + e * t.strides[3];
  return load_value(TensorView(t).data<std::byte>() + offset * (t.dtype.bits / 8), t.dtype);
}

struct Plan {
  std::int64_t b = 0, h = 0, l = 0, d = 0;
  DType dtype{};
  sy_rope_params params{};
  bool positions = false, frequencies = false;
  std::string layout;
};

Result<Plan> read_plan(const Shape &shape) {
  if (auto ok = shape.only(kItems); !ok) return tl::unexpected(std::move(ok.error()));
  constexpr std::int64_t most = INT32_MAX;
  Plan p;
  SY_READ(p.b, shape.integer("b", 1, 0, most));
  SY_READ(p.h, shape.integer("h", 8, 0, most));
  SY_READ(p.l, shape.integer("l", 128, 0, most));
  SY_READ(p.d, shape.integer("d", 64, 1, most));
  SY_READ(p.dtype, shape.dtype("dtype", dtypes::f32));
  SY_READ(p.params.rotary, shape.integer("rotary", 0, 0, p.d));
  SY_READ(p.params.offset, shape.integer("offset", 0, 0, kMostOffset));
  SY_READ(p.positions, shape.flag("positions", false));
  SY_READ(p.frequencies, shape.flag("freq", false));
  const std::string style = shape.word("style", "halves");
  if (style != "halves" && style != "interleaved")
    return fail(ErrorCode::usage, fmt::format("style={} is neither halves nor interleaved", style));
  p.params.style = style == "halves" ? SY_ROPE_HALVES : SY_ROPE_INTERLEAVED;
  p.params.base = 10000;
  p.params.scale = 1;
  p.layout = shape.word("layout", "bhld");
  if (p.layout != "bhld" && p.layout != "blhd" && p.layout != "scattered")
    return fail(ErrorCode::usage, fmt::format("unknown layout '{}'", p.layout));
  if (!is_value_type(p.dtype)) return fail(ErrorCode::usage, "dtype must be f32, f16 or bf16");
  if (rotary_of(p.params, p.d) % 2 != 0)
    return fail(ErrorCode::usage, "an even number of values must turn: see d and rotary");
  return p;
}

std::vector<std::int64_t> strides_of(const Plan &p) {
  if (p.layout == "blhd") return {p.h * p.l * p.d, p.d, p.h * p.d, 1};
  if (p.layout == "scattered") {
    const std::int64_t row = 2 * p.d + 1;
    return {p.h * p.l * row + 3, p.l * row, row, 2};
  }
  return {p.h * p.l * p.d, p.l * p.d, p.d, 1};
}

Result<Tensor> make_x(const Plan &p, std::uint64_t seed) {
  QuantProblem values;
  values.n = p.b * p.h * p.l * p.d;
  values.dtype = p.dtype;
  values.data = "gaussian";
  values.layout = "contiguous";
  auto flat = make_quant_values(values, seed);
  if (!flat) return flat;
  const std::array shape{p.b, p.h, p.l, p.d};
  auto made = Tensor::strided(p.dtype, shape, strides_of(p));
  if (!made) return made;
  if (made->bytes() > 0) std::memset(made->data(), 0xFF, made->bytes());
  const std::size_t size = size_of(p.dtype);
  const auto *from = flat->data<std::byte>();
  const auto strides = strides_of(p);
  for (std::int64_t b = 0; b < p.b; ++b)
    for (std::int64_t h = 0; h < p.h; ++h)
      for (std::int64_t i = 0; i < p.l; ++i)
        for (std::int64_t e = 0; e < p.d; ++e, from += size)
          std::memcpy(
              made->data<std::byte>() + static_cast<std::size_t>(b * strides[0] + h * strides[1] +
                                                                 i * strides[2] + e * strides[3]) *
                                            size,
              from, size);
  return made;
}

class RopeSpec final : public OpSpec {
 public:
  std::string_view id() const noexcept override { return SY_OP_ROPE; }

  Status validate(const sy_call &call) const override {
    if (call.n_inputs != SY_ROPE_INPUTS || call.n_outputs != SY_ROPE_OUTPUTS)
      return fail(ErrorCode::invalid_argument, "rope takes 3 inputs and 1 output");
    if (auto ok = check_params(call); !ok) return ok;
    const sy_tensor *x = call.inputs[SY_ROPE_IN_X], *y = call.outputs[SY_ROPE_OUT_Y];
    if (auto ok = check_four("x", x); !ok) return ok;
    const std::int64_t rotary = rotary_of(params_of(call), x->shape[3]);
    if (rotary % 2 != 0 || rotary > x->shape[3])
      return fail(ErrorCode::shape, fmt::format("{} of {} values of a row turn; it must be an even "
                                                "number of them",
                                                rotary, x->shape[3]));
    if (auto ok = check_optional(call, *x, rotary); !ok) return ok;
    if (auto ok = check_four("y", y); !ok) return ok;
    if (!same(y->dtype, x->dtype) || !std::equal(y->shape, y->shape + 4, x->shape))
      return fail(ErrorCode::shape, "y must have x's shape and dtype");
    if ((y->flags & SY_TENSOR_READ_ONLY) != 0)
      return fail(ErrorCode::invalid_argument, "y is read-only");
    if (may_overlap(*y))
      return fail(ErrorCode::shape, "y has strides that make its elements overlap");
    return {};
  }

  void key(const sy_call &call, KeyBuilder &builder) const noexcept override {
    const sy_tensor &x = *call.inputs[SY_ROPE_IN_X];
    builder.dtype(x.dtype).size(x.shape[0] * x.shape[1]).size(x.shape[2]).size(x.shape[3]);
    builder.size(rotary_of(params_of(call), x.shape[3])).add(params_of(call).style, 1);
    for (const auto slot : {SY_ROPE_IN_POSITIONS, SY_ROPE_IN_FREQUENCIES})
      builder.add(call.inputs[slot] != nullptr, 1);
    for (const sy_tensor *t : {&x, call.outputs[SY_ROPE_OUT_Y]})
      builder.layout(t).add(t->strides[3] == 1, 1);
  }

  Shape describe(const sy_call &call) const override {
    const sy_tensor &x = *call.inputs[SY_ROPE_IN_X], &y = *call.outputs[SY_ROPE_OUT_Y];
    const sy_rope_params &p = params_of(call);
    Shape s;
    s.set("b", x.shape[0]).set("h", x.shape[1]).set("l", x.shape[2]).set("d", x.shape[3]);
    s.set("dtype", to_string(x.dtype)).set("rotary", std::int64_t{p.rotary});
    s.set("offset", p.offset);
    if (p.style == SY_ROPE_INTERLEAVED) s.set("style", std::string("interleaved"));
    if (call.inputs[SY_ROPE_IN_POSITIONS] != nullptr) s.set("positions", std::int64_t{1});
    if (call.inputs[SY_ROPE_IN_FREQUENCIES] != nullptr) s.set("freq", std::int64_t{1});
    if (x.shape[3] > 1 && (x.strides[3] != 1 || y.strides[3] != 1))
      s.set("layout", std::string("scattered"));
    else if (!TensorView(x).contiguous() || !TensorView(y).contiguous())
      s.set("layout", std::string("blhd"));
    return s;
  }

  Result<Problem> make_problem(const Shape &shape, std::uint64_t seed) const override {
    auto plan = read_plan(shape);
    if (!plan) return tl::unexpected(std::move(plan.error()));
    const Plan &p = *plan;
    Problem problem;
    problem.op = id();
    problem.shape = shape;
    problem.seed = seed;
    problem.inputs.resize(SY_ROPE_INPUTS);
    problem.set_params(p.params);
    auto x = make_x(p, seed);
    if (!x) return tl::unexpected(std::move(x.error()));
    problem.inputs[SY_ROPE_IN_X] = std::move(*x);
    if (p.positions) {
      auto t = Tensor::empty(dtypes::i32, std::array{p.b, p.l});
      if (!t) return tl::unexpected(std::move(t.error()));
      for (std::int64_t i = 0; i < p.b * p.l; ++i)
        t->data<std::int32_t>()[i] = static_cast<std::int32_t>(mix_bits(seed + i) % 100'000);
      problem.inputs[SY_ROPE_IN_POSITIONS] = std::move(*t);
    }
    if (p.frequencies) {
      const std::int64_t pairs = rotary_of(p.params, p.d) / 2;
      auto t = Tensor::empty(dtypes::f32, std::array{pairs});
      if (!t) return tl::unexpected(std::move(t.error()));
      for (std::int64_t j = 0; j < pairs; ++j)
        t->data<float>()[j] = std::exp2(-0.25f * static_cast<float>(j));
      problem.inputs[SY_ROPE_IN_FREQUENCIES] = std::move(*t);
    }
    problem.outputs.emplace_back(
        TensorSpec{p.dtype,
                   {p.b, p.h, p.l, p.d},
                   p.layout == "bhld" ? std::vector<std::int64_t>() : strides_of(p)});
    return problem;
  }

  std::vector<Shape> conformance_shapes() const override {
    static constexpr std::string_view kShapes[] = {
        "b=1,h=1,l=1,d=2",
        "b=2,h=3,l=7,d=6",
        "b=1,h=4,l=33,d=64",
        "b=2,h=8,l=5,d=128,offset=4096",
        "b=1,h=2,l=40,d=80,rotary=32,offset=100000",
        "b=1,h=2,l=40,d=81,rotary=34",
        "b=2,h=2,l=19,d=64,positions=1",
        "b=1,h=2,l=19,d=64,freq=1,offset=7",
        "b=2,h=3,l=9,d=48,layout=blhd",
        "b=2,h=3,l=9,d=48,layout=scattered",
        "b=0,h=3,l=9,d=48",
        "b=1,h=32,l=1,d=128,offset=2047",
        "b=1,h=2,l=300,d=64,offset=1000000000",
    };
    std::vector<Shape> shapes;
    for (const std::string_view text : kShapes)
      for (const char *dtype : {"f32", "f16", "bf16"})
        for (const char *style : {"halves", "interleaved"})
          shapes.push_back(Shape::parse(text)
                               .value()
                               .set("dtype", std::string(dtype))
                               .set("style", std::string(style)));
    return shapes;
  }

  std::vector<Shape> gate_shapes(const Shape &like) const override {
    auto plan = read_plan(like);
    if (!plan) return {};
    std::vector<Shape> shapes;
    for (const std::int64_t length : {37, 5}) {
      Shape s = like;
      s.set("b", std::min<std::int64_t>(plan->b, 2)).set("h", std::min<std::int64_t>(plan->h, 3));
      s.set("l", std::min(octave_odd(plan->l), length));
      if (plan->d > 1024) {  // the reference takes a sine and a cosine for each pair
        s.set("d", std::int64_t{1022});
        s.set("rotary", std::min<std::int64_t>(plan->params.rotary, 1022));
      }
      if (std::ranges::find(shapes, s) == shapes.end()) shapes.push_back(std::move(s));
    }
    return shapes;
  }

  std::optional<std::string> compare(const Problem &, const sy_call &got_call,
                                     const sy_call &want_call,
                                     const ReferenceRunner &) const override {
    const sy_tensor &x = *want_call.inputs[SY_ROPE_IN_X];
    const sy_tensor &got = *got_call.outputs[SY_ROPE_OUT_Y];
    const sy_tensor &want = *want_call.outputs[SY_ROPE_OUT_Y];
    const sy_rope_params &p = params_of(want_call);
    const std::int64_t rotary = rotary_of(p, x.shape[3]);
    for (std::int64_t b = 0; b < x.shape[0]; ++b)
      for (std::int64_t h = 0; h < x.shape[1]; ++h)
        for (std::int64_t i = 0; i < x.shape[2]; ++i)
          for (std::int64_t e = 0; e < x.shape[3]; ++e) {
            const std::int64_t half = rotary / 2;
            const std::int64_t mate = p.style == SY_ROPE_INTERLEAVED ? (e ^ 1)
                                      : e < half                     ? e + half
                                                                     : e - half;
            const double a = value_at(got, b, h, i, e), w = value_at(want, b, h, i, e);
            double limit = 0;
            if (e < rotary)
              limit = 0x1p-20 * (std::abs(value_at(x, b, h, i, e)) +
                                 std::abs(value_at(x, b, h, i, mate))) +
                      rounding_of(x.dtype, w);
            if (!is_close(a, w, limit))
              return fmt::format("y[{}, {}, {}, {}] is {}, but the reference has {}: limit {:.2e}",
                                 b, h, i, e, a, w, limit);
          }
    return std::nullopt;
  }

  /// One row of one head.
  bool checks_parts() const noexcept override { return true; }
  Result<std::string> spot_check(const sy_call &done, std::uint64_t pick,
                                 const ReferenceRunner &reference) const override {
    const sy_tensor &x = *done.inputs[SY_ROPE_IN_X];
    if (x.shape[0] == 0 || x.shape[1] == 0 || x.shape[2] == 0) return "";
    const std::int64_t b = choose_start(pick, x.shape[0], 1);
    const std::int64_t h = choose_start(mix_bits(pick), x.shape[1], 1);
    const std::int64_t i = choose_start(mix_bits(pick + 1), x.shape[2], 1);
    const auto part = [&](const sy_tensor &t) { return slice(slice(slice(t, 0, b), 1, h), 2, i); };
    sy_rope_params params = params_of(done);
    if (done.inputs[SY_ROPE_IN_POSITIONS] == nullptr) {
      if (params.offset + i > kMostOffset) return check_whole(*this, done, reference);
      params.offset += i;
    }
    sy_call one = done;
    one.params = &params;
    one.params_size = sizeof(params);
    Spot spot(one);
    spot.input(SY_ROPE_IN_X, TensorView(part(x)));
    if (const sy_tensor *t = done.inputs[SY_ROPE_IN_POSITIONS])
      spot.input(SY_ROPE_IN_POSITIONS, TensorView(slice(slice(*t, 0, b), 1, i)));
    if (const sy_tensor *t = done.inputs[SY_ROPE_IN_FREQUENCIES])
      spot.input(SY_ROPE_IN_FREQUENCIES, TensorView(*t));
    if (auto ok = spot.output(SY_ROPE_OUT_Y, TensorView(part(*done.outputs[SY_ROPE_OUT_Y]))); !ok)
      return tl::unexpected(ok.error());
    auto wrong = spot.check(*this, reference);
    if (wrong && !wrong->empty()) return fmt::format("row [{}, {}, {}]: {}", b, h, i, *wrong);
    return wrong;
  }

  Work work(const sy_call &call) const noexcept override {
    Work w;
    w.bytes = tensor_bytes(call.inputs[SY_ROPE_IN_X]) + tensor_bytes(call.outputs[SY_ROPE_OUT_Y]);
    w.flops = 3.0 * static_cast<double>(TensorView(*call.inputs[SY_ROPE_IN_X]).elements());
    return w;
  }
};

}  // namespace

const OpSpec &rope_spec() noexcept {
  static const RopeSpec spec;
  return spec;
}

}  // namespace switchyard
