// SPDX-License-Identifier: Apache-2.0
#include "workload.hpp"

#include <algorithm>
#include <cmath>

#include "op/op_spec.hpp"

namespace switchyard::cli {
namespace {

/// One number of a shape: from `low` to `high`; the grid takes so many points, both ends among
/// them, evenly spread on a logarithmic scale.
struct Range {
  std::string_view name;
  double low, high;
  int points;
};

/// One kind of call: fixed items, and ranges for the rest.
struct Kind {
  std::string words;
  std::vector<Range> ranges;
  double most_work = INFINITY;  ///< of the product of all ranged numbers
};

std::vector<Kind> kinds_of(const std::string &op) {
  std::vector<Kind> kinds;
  if (op == SY_OP_QUANTIZE || op == SY_OP_DEQUANTIZE)
    // Rows of 256 values: a unit of every format.
    for (const char *format : {"ternary", "mlx_affine4", "q4_0", "q8_0"})
      kinds.push_back({std::string("format=") + format, {{"rows", 1, 1 << 16, 9}}});
  if (op == SY_OP_KMEANS_STEP || op == SY_OP_KMEANS_ASSIGN)
    // Kernels for few columns know nothing of more: both sides have a grid of their own.
    for (const auto &[least, most, points] : {std::tuple{2, 8, 3}, std::tuple{9, 256, 3}})
      kinds.push_back({"",
                       {{"n", 256, 1 << 17, 4},
                        {"d", static_cast<double>(least), static_cast<double>(most), points},
                        {"k", 4, 512, 3}},
                       4e9});
  if (op == SY_OP_ATTENTION) {
    kinds.push_back(
        {"b=1,hq=8,hkv=8,causal=bottom_right", {{"lq", 8, 1024, 6}, {"d", 32, 128, 3}}});
    kinds.push_back(
        {"b=1,hq=32,hkv=8,causal=bottom_right", {{"lq", 8, 512, 5}, {"d", 64, 128, 2}}});
    kinds.push_back(
        {"b=1,hq=32,hkv=8,lq=1,causal=bottom_right", {{"lkv", 8, 8192, 6}, {"d", 64, 128, 2}}});
  }
  return kinds;
}

/// Items that follow from others.
void complete(const std::string &op, Shape &shape) {
  if (op == SY_OP_QUANTIZE || op == SY_OP_DEQUANTIZE)
    shape.set("n", 256 * *shape.integer("rows", 1, 1, INT64_MAX / 256));
  if (op == SY_OP_ATTENTION && shape.find("lkv") == nullptr)
    shape.set("lkv", *shape.integer("lq", 1, 1, INT64_MAX));
}

OpShape make(const std::string &op, const Kind &kind, const std::vector<std::int64_t> &numbers) {
  Shape shape = kind.words.empty() ? Shape() : *Shape::parse(kind.words);
  for (std::size_t i = 0; i < numbers.size(); ++i) shape.set(kind.ranges[i].name, numbers[i]);
  complete(op, shape);
  return {op, shape};
}

bool light(const Kind &kind, const std::vector<std::int64_t> &numbers) {
  double work = 1;
  for (const std::int64_t v : numbers) work *= static_cast<double>(v);
  return work <= kind.most_work;
}

/// Head sizes and row lengths are multiples of something in practice.
std::int64_t practical(std::string_view name, double value) {
  const auto v = static_cast<std::int64_t>(std::llround(value));
  return name == "d" && v > 32 ? v / 8 * 8 : std::max<std::int64_t>(v, 1);
}

std::vector<OpShape> grid_of(const std::string &op, const Kind &kind) {
  std::vector<std::vector<std::int64_t>> points{{}};
  for (const Range &r : kind.ranges) {
    std::vector<std::vector<std::int64_t>> grown;
    for (const auto &point : points)
      for (int i = 0; i < r.points; ++i) {
        grown.push_back(point);
        grown.back().push_back(
            practical(r.name, r.low * std::pow(r.high / r.low, i / (r.points - 1.0))));
      }
    points = std::move(grown);
  }
  std::vector<OpShape> shapes;
  for (const auto &point : points)
    if (light(kind, point)) shapes.push_back(make(op, kind, point));
  return shapes;
}

}  // namespace

Result<std::vector<std::string>> workload_ops(const std::string &op) {
  std::vector<std::string> ops;
  if (!op.empty()) {
    const auto index = find_op(canonical_op(op));
    if (!index) return tl::unexpected(index.error());
    ops.emplace_back(all_ops()[*index]->id());
    return ops;
  }
  for (const OpSpec *spec : all_ops())
    if (!kinds_of(std::string(spec->id())).empty()) ops.emplace_back(spec->id());
  return ops;
}

std::vector<OpShape> tuning_grid(const std::string &op) {
  std::vector<OpShape> shapes;
  for (const Kind &kind : kinds_of(op))
    for (OpShape &shape : grid_of(op, kind)) shapes.push_back(std::move(shape));
  std::mt19937_64 order(1);
  std::ranges::shuffle(shapes, order);
  return shapes;
}

std::vector<OpShape> held_out(const std::string &op, int count, std::mt19937_64 &random) {
  const std::vector<Kind> kinds = kinds_of(op);
  std::vector<OpShape> shapes;
  if (kinds.empty()) return shapes;
  std::vector<std::string> taken;
  for (const OpShape &s : tuning_grid(op)) taken.push_back(s.shape.text());
  for (std::size_t tries = 0; shapes.size() < static_cast<std::size_t>(count) && tries < 100'000;
       ++tries) {
    const Kind &kind = kinds[shapes.size() % kinds.size()];
    std::vector<std::int64_t> numbers;
    for (const Range &r : kind.ranges) {
      const double at = std::uniform_real_distribution<double>(0, 1)(random);
      numbers.push_back(practical(r.name, r.low * std::pow(r.high / r.low, at)));
    }
    if (!light(kind, numbers)) continue;
    OpShape shape = make(op, kind, numbers);
    if (std::ranges::find(taken, shape.shape.text()) != taken.end()) continue;
    taken.push_back(shape.shape.text());
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

}  // namespace switchyard::cli
