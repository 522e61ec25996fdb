// SPDX-License-Identifier: Apache-2.0
// Which shapes the operations quantize and dequantize are tested and verified on.
#include <algorithm>

#include "ops/quantize_problems.hpp"

namespace switchyard {
namespace {

constexpr std::string_view kDTypes[] = {"f32", "f16", "bf16"};
constexpr std::string_view kData[] = {"gaussian", "f16grid", "zeros", "small", "huge", "ties"};
/// Rows x units: one, odd, tails of every vector width, more than one piece of a parallel loop.
constexpr std::pair<std::int64_t, std::int64_t> kSizes[] = {{1, 1}, {1, 3},  {5, 1},
                                                            {3, 7}, {2, 37}, {4, 129}};

Shape base(const QuantFormat &format, std::string_view dtype, std::int64_t n, std::int64_t rows) {
  Shape shape;
  shape.set("n", n).set("rows", rows);
  shape.set("dtype", std::string(dtype)).set("format", std::string(format.name));
  return shape;
}

/// The format's parameter choices: granularities, group sizes, scale rules, rounding.
std::vector<Shape> variants(const QuantFormat &format, bool dequantize) {
  std::vector<Shape> all;
  for (std::uint32_t g = SY_GRANULARITY_TENSOR; g <= SY_GRANULARITY_CHANNEL; ++g) {
    if ((format.granularities >> g & 1u) == 0) continue;
    Shape shape;
    if (g != SY_GRANULARITY_TENSOR) shape.set("granularity", std::string(granularity_name(g)));
    if (!format.grouped(g)) all.push_back(shape);
    for (int size : format.group_sizes)
      if (format.grouped(g)) all.push_back(Shape(shape).set("group_size", std::int64_t{size}));
  }
  if (dequantize) return all;
  constexpr std::uint32_t kOfBlocks[] = {SY_SCALE_ABSMEAN, SY_SCALE_FLOOR, SY_SCALE_RCEIL};
  if (format.block != 0)
    for (std::uint32_t rule : kOfBlocks)
      if ((format.scale_rules >> rule & 1u) != 0)
        all.push_back(Shape().set("scale", std::string(scale_rule_name(rule))));
  if (format.id == SY_QUANT_INT8)
    for (std::string_view granularity : {"tensor", "row"})
      all.push_back(Shape()
                        .set("granularity", std::string(granularity))
                        .set("rounding", std::string("stochastic"))
                        .set("seed", std::int64_t{0x123456789ABCDEF}));
  return all;
}

Shape with(Shape shape, const Shape &more) {
  for (const auto &[name, value] : more.items()) shape.set(name, value);
  return shape;
}

std::int64_t unit_of(const QuantFormat &format, const Shape &variant) {
  if (format.block != 0) return format.block;
  const std::string *group = variant.find("group_size");
  return group != nullptr ? std::stoll(*group) : 1;
}

}  // namespace

std::vector<Shape> quant_conformance_shapes(bool dequantize) {
  std::vector<Shape> shapes;
  for (const QuantFormat &format : quant_formats()) {
    bool first = true;
    for (const Shape &variant : variants(format, dequantize)) {
      const std::int64_t unit = unit_of(format, variant);
      // Without a unit, lengths around the 4,096 values of a partial sum matter.
      const std::int64_t factor = unit == 1 ? 41 : unit;
      for (std::string_view dtype : kDTypes) {
        const Shape many = with(base(format, dtype, 6 * 9 * factor, 6), variant);
        if (!first && dtype != "f32") {  // what else depends on the dtype, the first one shows
          shapes.push_back(Shape(many).set("data", std::string("f16grid")));
          shapes.push_back(Shape(many).set("layout", std::string("permuted")));
          continue;
        }
        for (std::size_t i = 0; i < std::size(kSizes); ++i) {
          const auto [rows, units] = kSizes[i];
          Shape shape = with(base(format, dtype, rows * units * factor, rows), variant);
          shape.set("data", std::string(kData[i % std::size(kData)]));
          shapes.push_back(shape);
        }
        for (std::string_view data : kData)
          shapes.push_back(Shape(many).set("data", std::string(data)));
        for (std::string_view layout : {"strided", "permuted", "unaligned"})
          shapes.push_back(Shape(many).set("layout", std::string(layout)));
        if (!dequantize) {
          for (std::string_view layout : {"reversed", "broadcast"})
            shapes.push_back(Shape(many).set("layout", std::string(layout)));
          shapes.push_back(Shape(many).set("nonfinite", std::string("saturate")));
        } else if (format.family == QuantFamily::affine) {
          for (std::string_view scales : {"f16", "bf16"})
            shapes.push_back(Shape(many).set("scales_dtype", std::string(scales)));
        }
        if (unit == 1)
          for (std::int64_t n : {1, 4095, 4096, 4097, 12289, 70001})
            shapes.push_back(with(base(format, dtype, n, 1), variant));
      }
      // Large enough for several pieces of a parallel loop.
      shapes.push_back(with(base(format, "f32", 3 * 400 * 256, 3), variant));
      first = false;
    }
  }
  return shapes;
}

std::vector<Shape> quant_gate_shapes(const Shape &like, bool dequantize) {
  auto parsed = QuantProblem::parse(like, dequantize);
  if (!parsed) return {};
  const QuantFormat *format = find_quant_format(parsed->params.format);
  const std::int64_t unit = quant_unit(*format, parsed->params);
  const std::int64_t factor = unit == 1 ? 41 : unit;
  std::vector<Shape> shapes;
  const auto add = [&](std::int64_t rows, std::int64_t cols, std::string_view data) {
    Shape shape = like;
    shape.set("rows", rows).set("n", rows * cols);
    if (parsed->params.nonfinite != SY_NONFINITE_SATURATE) shape.set("data", std::string(data));
    shapes.push_back(std::move(shape));
  };
  // One row stays one row, so that the class of layout is kept.
  const std::int64_t few = parsed->rows == 1 ? 1 : 6;
  add(few, factor, "gaussian");
  add(few, 3 * factor, "ties");
  add(few, 37 * factor, "huge");
  add(few, 5 * factor, "small");
  add(few, 2 * factor, "zeros");
  add(few, 7 * factor, "f16grid");
  // About 2^17 values: several pieces of a parallel loop and, for means, of a sum.
  const std::int64_t large = (std::int64_t{1} << 17) / (few * factor) + 1;
  add(few, large * factor, "gaussian");
  return shapes;
}

}  // namespace switchyard
