// SPDX-License-Identifier: Apache-2.0
/// Generated matmul problems, the one-line description of a call, and what counts as right.
#include "ops/matmul_problem.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "op/octave.hpp"
#include "ops/quantize_problems.hpp"
#include "ops/values.hpp"

namespace switchyard::matmul_op {
namespace {

constexpr std::string_view kItems[] = {
    "m", "n", "k", "dtype", "y", "format", "group_size", "scales_dtype", "layout", "data", "add"};
constexpr std::string_view kLayouts[] = {"contiguous", "transposed", "strided", "scattered",
                                         "unaligned"};
constexpr std::string_view kData[] = {"gaussian", "ties", "zeros", "small", "nan"};

struct Plan {
  std::int64_t m = 0, n = 0, k = 0;
  DType dtype{}, y{}, scales{};
  std::uint32_t format = 0, group_size = 0;
  std::string layout, data;
  bool add = false;
};

Result<std::string> choice(const Shape &shape, std::string_view name,
                           std::span<const std::string_view> known) {
  std::string word = shape.word(name, known.front());
  if (std::ranges::find(known, word) == known.end())
    return fail(ErrorCode::usage,
                fmt::format("{}={} is unknown; known are {}", name, word, fmt::join(known, ", ")));
  return word;
}

Status read_format(const Shape &shape, Plan &p) {
  const std::string name = shape.word("format", "none");
  if (name == "none") {
    if (shape.find("group_size") == nullptr && shape.find("scales_dtype") == nullptr) return {};
    return fail(ErrorCode::usage, "group_size and scales_dtype need a quantised format");
  }
  auto format = parse_quant_format(name);
  if (!format) return tl::unexpected(std::move(format.error()));
  if (!is_offered(static_cast<std::uint32_t>((*format)->id)))
    return fail(ErrorCode::usage,
                fmt::format("format={} is not offered by matmul; choose none, q4_0, q8_0, tq1_0, "
                            "tq2_0, mlx_affine4 or mlx_affine8",
                            name));
  p.format = static_cast<std::uint32_t>((*format)->id);
  const bool affine = (*format)->family == QuantFamily::affine;
  auto group = shape.integer("group_size", affine ? (*format)->group_sizes[0] : 0, 0, 128);
  if (!group) return tl::unexpected(std::move(group.error()));
  p.group_size = static_cast<std::uint32_t>(*group);
  const auto params = quantize_params(p.format, p.group_size);
  if (auto ok = check_quant_params(params); !ok) return fail(ErrorCode::usage, ok.error().message);
  const std::int64_t unit = std::max<std::int64_t>(quant_unit(**format, params), 1);
  if (p.k % unit != 0)
    return fail(ErrorCode::usage, fmt::format("k={} is no multiple of {}'s {}", p.k, name, unit));
  return {};
}

Result<Plan> read_plan(const Shape &shape) {
  if (auto ok = shape.only(kItems); !ok) return tl::unexpected(std::move(ok.error()));
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  Plan p;
  for (const auto &[name, target, fallback] :
       {std::tuple{"m", &p.m, 256}, std::tuple{"n", &p.n, 256}, std::tuple{"k", &p.k, 256}}) {
    auto size = shape.integer(name, fallback, 0, kMost);
    if (!size) return tl::unexpected(std::move(size.error()));
    *target = *size;
  }
  auto dtype = shape.dtype("dtype", dtypes::f32);
  if (!dtype) return tl::unexpected(std::move(dtype.error()));
  auto y = shape.dtype("y", *dtype);
  auto scales = shape.dtype("scales_dtype", dtypes::f32);
  if (!y) return tl::unexpected(std::move(y.error()));
  if (!scales) return tl::unexpected(std::move(scales.error()));
  p.dtype = *dtype;
  p.y = *y;
  p.scales = *scales;
  for (const DType t : {p.dtype, p.scales})
    if (!same(t, dtypes::f32) && !same(t, dtypes::f16) && !same(t, dtypes::bf16))
      return fail(ErrorCode::usage, "dtype and scales_dtype must be f32, f16 or bf16");
  if (!same(p.y, dtypes::f32) && !same(p.y, p.dtype))
    return fail(ErrorCode::usage, "y must be f32 or equal dtype");
  if (auto ok = read_format(shape, p); !ok) return tl::unexpected(std::move(ok.error()));
  auto layout = choice(shape, "layout", kLayouts), data = choice(shape, "data", kData);
  auto add = shape.flag("add", false);
  if (!layout) return tl::unexpected(std::move(layout.error()));
  if (!data) return tl::unexpected(std::move(data.error()));
  if (!add) return tl::unexpected(std::move(add.error()));
  p.layout = *layout;
  p.data = *data;
  p.add = *add;
  return p;
}

using Strides = std::array<std::int64_t, 2>;

/// Strides of [rows, cols]; only weights are stored the other way around.
Strides strides_of(std::string_view layout, std::int64_t rows, std::int64_t cols, bool weights) {
  if (layout == "transposed" && weights) return {1, rows};
  if (layout == "strided") return {cols + 3, 1};
  if (layout == "scattered") return {2 * cols + 1, 2};
  return {cols, 1};
}

/// Normal-like values as a matrix of that layout.
Result<Tensor> make_matrix(const Plan &p, std::int64_t rows, std::int64_t cols, bool weights,
                           std::uint64_t seed) {
  QuantProblem values;
  values.n = rows * cols;
  values.dtype = p.dtype;
  values.data = p.data == "nan" ? "gaussian" : p.data;
  values.layout = "contiguous";
  auto flat = make_quant_values(values, seed);
  if (!flat) return flat;
  const std::size_t size = size_of(p.dtype);
  auto *from = flat->data<std::byte>();
  if (p.data == "nan" && rows > 0 && cols > 0 && !weights)  // one in the last row, near its end
    std::memset(from + static_cast<std::size_t>(rows * cols - (cols > 2 ? 2 : 1)) * size, 0xFF,
                size);
  const std::array shape{rows, cols};
  const Strides strides = strides_of(p.layout, rows, cols, weights);
  // One element of room before the data, to start off the aligned address.
  const std::int64_t lead = p.layout == "unaligned" ? 1 : 0;
  const std::int64_t reach =
      rows == 0 || cols == 0 ? 0 : (rows - 1) * strides[0] + (cols - 1) * strides[1] + 1;
  auto memory = Tensor::empty(p.dtype, std::array{lead + reach});
  if (!memory) return memory;
  std::byte *to = memory->data<std::byte>() + static_cast<std::size_t>(lead) * size;
  if (reach > 0) std::memset(memory->data(), 0xFF, memory->bytes());  // gaps hold NaN
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j, from += size)
      std::memcpy(to + static_cast<std::size_t>(i * strides[0] + j * strides[1]) * size, from,
                  size);
  return Tensor::adopt(TensorView(static_cast<void *>(to), p.dtype, shape, strides),
                       std::make_shared<Tensor>(std::move(*memory)));
}

Status make_weights(const Plan &p, std::uint64_t seed, Problem &problem) {
  if (p.format == SY_QUANT_NONE) {
    auto w = make_matrix(p, p.n, p.k, true, seed);
    if (!w) return tl::unexpected(std::move(w.error()));
    problem.inputs[SY_MATMUL_IN_W] = std::move(*w);
    return {};
  }
  QuantProblem values;
  values.n = p.n * p.k;
  values.rows = std::max<std::int64_t>(p.n, 1);
  values.params = quantize_params(p.format, p.group_size);
  values.data = p.data;
  values.layout = "contiguous";
  const std::array shape{p.n, p.k};
  auto layout = quant_layout(values.params, shape, p.scales);
  if (!layout) return tl::unexpected(std::move(layout.error()));
  auto arrays = make_quant_arrays(values, *layout, seed);
  if (!arrays) return tl::unexpected(std::move(arrays.error()));
  problem.inputs[SY_MATMUL_IN_W] = std::move(arrays->codes);
  problem.inputs[SY_MATMUL_IN_SCALES] = std::move(arrays->scales);
  problem.inputs[SY_MATMUL_IN_BIASES] = std::move(arrays->biases);
  return {};
}

float element(const sy_tensor &t, std::int64_t i, std::int64_t j) noexcept {
  const std::int64_t offset = i * t.strides[0] + j * t.strides[1];
  return load_value(TensorView(t).data<std::byte>() + offset * (t.dtype.bits / 8), t.dtype);
}

/// Euclidean norms of a matrix's rows.
std::vector<double> norms(const sy_tensor &t) {
  std::vector<double> out(static_cast<std::size_t>(t.shape[0]));
  for (std::int64_t i = 0; i < t.shape[0]; ++i) {
    double sum = 0;
    for (std::int64_t j = 0; j < t.shape[1]; ++j) {
      const auto v = static_cast<double>(element(t, i, j));
      sum += v * v;
    }
    out[static_cast<std::size_t>(i)] = std::sqrt(sum);
  }
  return out;
}

bool is_scattered(const sy_tensor &t) noexcept { return t.shape[1] > 1 && t.strides[1] != 1; }

std::string layout_name(const View &v) {
  const bool transposed = !v.quantised() && v.n > 1 && v.k > 1 && v.w->strides[0] == 1;
  if (is_scattered(*v.x) || is_scattered(*v.y) ||
      (!v.quantised() && !transposed && is_scattered(*v.w)))
    return "scattered";
  if (transposed) return "transposed";
  for (const sy_tensor *t : {v.x, v.w, v.y})
    if (!TensorView(*t).contiguous()) return "strided";
  const auto address = reinterpret_cast<std::uintptr_t>(v.x->handle) + v.x->byte_offset;
  const bool host = v.x->device_kind == SY_DEVICE_HOST && v.x->handle != nullptr;
  return host && address % 64 != 0 ? "unaligned" : "contiguous";
}

}  // namespace

Shape describe(const sy_call &call) {
  const View v = view(call);
  Shape shape;
  shape.set("m", v.m).set("n", v.n).set("k", v.k).set("dtype", to_string(v.x->dtype));
  if (!same(v.y->dtype, v.x->dtype)) shape.set("y", to_string(v.y->dtype));
  if (v.quantised()) shape.set("format", std::string(find_quant_format(v.params->format)->name));
  if (v.params->group_size != 0) {
    shape.set("group_size", static_cast<std::int64_t>(v.params->group_size));
    shape.set("scales_dtype", to_string(v.scales->dtype));
  }
  if (v.add != nullptr) shape.set("add", std::int64_t{1});
  if (std::string layout = layout_name(v); layout != "contiguous")
    shape.set("layout", std::move(layout));
  return shape;
}

Result<Problem> make_problem(const Shape &shape, std::uint64_t seed) {
  auto plan = read_plan(shape);
  if (!plan) return tl::unexpected(std::move(plan.error()));
  const Plan &p = *plan;
  Problem problem;
  problem.op = SY_OP_MATMUL;
  problem.shape = shape;
  problem.seed = seed;
  problem.inputs.resize(SY_MATMUL_INPUTS);
  problem.set_params(sy_matmul_params{
      .struct_size = 0, .format = p.format, .group_size = p.group_size, .flags = 0});
  auto x = make_matrix(p, p.m, p.k, false, seed);
  if (!x) return tl::unexpected(std::move(x.error()));
  problem.inputs[SY_MATMUL_IN_X] = std::move(*x);
  if (auto ok = make_weights(p, seed + 1, problem); !ok) return tl::unexpected(ok.error());
  if (p.add) {
    QuantProblem values;
    values.n = p.n;
    values.data = "gaussian";
    values.layout = "contiguous";
    auto add = make_quant_values(values, seed + 2);
    if (!add) return tl::unexpected(std::move(add.error()));
    problem.inputs[SY_MATMUL_IN_ADD] = std::move(*add);
  }
  TensorSpec y{p.y, {p.m, p.n}, {}};
  if (p.layout == "strided" || p.layout == "scattered") {
    const Strides strides = strides_of(p.layout, p.m, p.n, false);
    y.strides.assign(strides.begin(), strides.end());
  }
  problem.outputs.emplace_back(std::move(y));
  return problem;
}

namespace {

Shape sized(std::int64_t m, std::int64_t n, std::int64_t k) {
  Shape s;
  s.set("m", m).set("n", n).set("k", k);
  return s;
}

void add_plain_shapes(std::vector<Shape> &shapes) {
  // One row, few, a tile and its tails, more than one tile; K: none, odd, blocks and their tails.
  constexpr std::array<std::int64_t, 3> kSizes[] = {
      {1, 1, 1},    {1, 37, 64},   {1, 130, 515},  {2, 33, 100},  {5, 70, 257}, {7, 16, 31},
      {13, 49, 33}, {16, 32, 256}, {67, 101, 130}, {3, 5, 0},     {0, 4, 8},    {4, 0, 8},
      {29, 97, 70}, {64, 96, 600}, {130, 200, 40}, {9, 300, 1030}};
  for (const char *dtype : {"f32", "f16", "bf16"}) {
    for (const auto &[m, n, k] : kSizes) {
      const Shape base = sized(m, n, k).set("dtype", std::string(dtype));
      shapes.push_back(base);
      shapes.push_back(Shape(base).set("layout", std::string("transposed")));
    }
    for (const std::int64_t m : {1, 6, 40}) {
      const Shape base = sized(m, 75, 131).set("dtype", std::string(dtype));
      for (const char *layout : {"strided", "scattered", "unaligned"})
        shapes.push_back(Shape(base).set("layout", std::string(layout)));
      for (const char *data : {"nan", "zeros", "ties"})
        shapes.push_back(Shape(base).set("data", std::string(data)));
      shapes.push_back(Shape(base).set("add", std::int64_t{1}));
      shapes.push_back(Shape(base).set("y", std::string("f32")).set("add", std::int64_t{1}));
    }
  }
}

void add_quantised_shapes(std::vector<Shape> &shapes) {
  constexpr std::string_view kFormats[] = {"q4_0",  "q8_0",        "tq1_0",
                                           "tq2_0", "mlx_affine4", "mlx_affine8"};
  for (const std::string_view format : kFormats) {
    const bool ternary = format.starts_with("tq"), affine = format.starts_with("mlx");
    const std::int64_t unit = ternary ? 256 : affine ? 64 : 32;
    const auto base = [&](std::int64_t m, std::int64_t n, std::int64_t units) {
      return sized(m, n, units * unit).set("format", std::string(format));
    };
    for (const auto &[m, n, units] : {std::array<std::int64_t, 3>{1, 1, 1},
                                      {1, 67, 3},
                                      {1, 200, 8},
                                      {2, 19, 5},
                                      {3, 40, 2},
                                      {4, 33, 7},
                                      {5, 21, 1},
                                      {9, 130, 4},
                                      {37, 50, 3},
                                      {70, 17, 2},
                                      {0, 4, 1}}) {
      shapes.push_back(base(m, n, units));
      shapes.push_back(base(m, n, units).set("data", std::string("small")));
    }
    for (const std::int64_t m : {1, 6}) {
      for (const char *data : {"nan", "zeros", "ties"})
        shapes.push_back(base(m, 35, 3).set("data", std::string(data)));
      for (const char *layout : {"strided", "scattered", "unaligned"})
        shapes.push_back(base(m, 35, 3).set("layout", std::string(layout)));
      for (const char *dtype : {"f16", "bf16"}) {
        shapes.push_back(base(m, 35, 3).set("dtype", std::string(dtype)));
        shapes.push_back(
            base(m, 35, 3).set("dtype", std::string(dtype)).set("y", std::string("f32")));
      }
      shapes.push_back(base(m, 35, 3).set("add", std::int64_t{1}));
      if (!affine) continue;
      for (const std::int64_t group : {32, 64, 128})
        for (const char *scales : {"f32", "f16", "bf16"})
          shapes.push_back(sized(m, 41, group == 32 ? 224 : 384)
                               .set("format", std::string(format))
                               .set("group_size", group)
                               .set("scales_dtype", std::string(scales)));
    }
  }
}

}  // namespace

std::vector<Shape> conformance_shapes() {
  std::vector<Shape> shapes;
  add_plain_shapes(shapes);
  add_quantised_shapes(shapes);
  return shapes;
}

std::vector<Shape> gate_shapes(const Shape &like) {
  auto plan = read_plan(like);
  if (!plan) return {};
  const std::int64_t unit = plan->format == SY_QUANT_NONE
                                ? 1
                                : std::max<std::int64_t>(block_of(plan->format), plan->group_size);
  struct Case {
    std::int64_t m, n, k;
    bool even;
    const char *data;
  };
  // Each about half a million products, which the reference takes 10 ms for.
  constexpr Case kCases[] = {{33, 93, 191, false, "gaussian"}, {5, 67, 1543, false, "gaussian"},
                             {32, 64, 256, true, "ties"},      {2, 95, 383, false, "nan"},
                             {3, 31, 767, false, "small"},     {130, 7, 500, false, "gaussian"}};
  std::vector<Shape> shapes;
  for (const Case &c : kCases) {
    const auto size = [&](std::int64_t v, std::int64_t most) {
      return std::min(c.even ? octave_even(v) : octave_odd(v), most);
    };
    std::int64_t k = size(plan->k, c.k) / unit * unit;
    if (plan->k > 0) k = std::max(k, unit);
    Shape s = like;
    s.set("m", size(plan->m, c.m)).set("n", size(plan->n, c.n)).set("k", k);
    s.set("data", std::string(c.data));
    if (std::ranges::find(shapes, s) == shapes.end()) shapes.push_back(std::move(s));
  }
  return shapes;
}

namespace {

/// The first element whose bits differ, NaNs aside.
std::optional<std::string> first_difference(const sy_tensor &got, const sy_tensor &want) {
  for (std::int64_t i = 0; i < want.shape[0]; ++i)
    for (std::int64_t j = 0; j < want.shape[1]; ++j) {
      const float a = element(got, i, j), b = element(want, i, j);
      const auto x = std::bit_cast<std::uint32_t>(a), y = std::bit_cast<std::uint32_t>(b);
      if (x != y && !(std::isnan(a) && std::isnan(b)))
        return fmt::format("y[{}, {}] is {} ({:#x}), but the reference has {} ({:#x})", i, j, a, x,
                           b, y);
    }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> compare(const sy_call &got_call, const sy_call &want_call) {
  const View got = view(got_call), want = view(want_call);
  if (want.quantised()) return first_difference(*got.y, *want.y);
  if (want.m == 0 || want.n == 0) return std::nullopt;
  const std::vector<double> x = norms(*want.x), w = norms(*want.w);
  const double steps = (8 + static_cast<double>(want.k) / 4) * 0x1p-24;
  for (std::int64_t i = 0; i < want.m; ++i)
    for (std::int64_t j = 0; j < want.n; ++j) {
      const double a = element(*got.y, i, j), b = element(*want.y, i, j);
      const double size = x[static_cast<std::size_t>(i)] * w[static_cast<std::size_t>(j)];
      const double added = want.add != nullptr
                               ? std::abs(TensorView(*want.add).data<const float>()[j]) * 0x1p-23
                               : 0;
      const double limit = size * steps + added + rounding_of(got.y->dtype, b);
      if (is_close(a, b, limit)) continue;
      return fmt::format("y[{}, {}] is {}, but the reference has {}: error {:.2e}, limit {:.2e}", i,
                         j, a, b, std::abs(a - b), limit);
    }
  return std::nullopt;
}

}  // namespace switchyard::matmul_op
