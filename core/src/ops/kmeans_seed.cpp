// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <switchyard/ops/kmeans.h>
#include <switchyard/ops/kmeans_exact.h>

#include <cmath>

#include "base/checked.hpp"
#include "ops/kmeans_problem.hpp"

namespace switchyard {
namespace {

/// Items: n, d, k, dtype (f32), weighted, pad, misalign and data, as in kmeans.assign.
class KMeansSeed final : public OpSpec {
 public:
  std::string_view id() const noexcept override { return SY_OP_KMEANS_SEED; }
  bool helper() const noexcept override { return true; }
  Status validate(const sy_call &call) const override;
  void key(const sy_call &call, KeyBuilder &builder) const noexcept override {
    const auto *x = call.inputs[SY_KMEANS_SEED_IN_X];
    builder.size(x->shape[0]).size(x->shape[1]).size(clusters(call)).dtype(x->dtype).layout(x);
    builder.add(call.inputs[SY_KMEANS_SEED_IN_WEIGHTS] != nullptr, 1);
  }
  Shape describe(const sy_call &call) const override {
    return kmeans::describe_rows(*call.inputs[SY_KMEANS_SEED_IN_X], clusters(call),
                                 call.inputs[SY_KMEANS_SEED_IN_WEIGHTS] != nullptr);
  }
  Result<Problem> make_problem(const Shape &shape, std::uint64_t seed) const override;
  std::vector<Shape> conformance_shapes() const override;
  std::vector<Shape> gate_shapes(const Shape &like) const override;
  std::optional<std::string> compare(const Problem &, const sy_call &got, const sy_call &want,
                                     const ReferenceRunner &) const override {
    return kmeans::differ("rows", got.outputs[SY_KMEANS_SEED_OUT_ROWS],
                          want.outputs[SY_KMEANS_SEED_OUT_ROWS]);
  }
  Work work(const sy_call &call) const noexcept override {
    const auto *x = call.inputs[SY_KMEANS_SEED_IN_X];
    const double cells = static_cast<double>(x->shape[0]) * static_cast<double>(x->shape[1]);
    const auto k = static_cast<double>(clusters(call));
    const double trials = 2 + sy_kmeans_floor_ln(clusters(call));
    return {2 * cells * k * trials, 4 * cells * k};
  }

 private:
  static std::int64_t clusters(const sy_call &call) noexcept {
    return call.outputs[SY_KMEANS_SEED_OUT_ROWS]->shape[0];
  }
};

Status KMeansSeed::validate(const sy_call &call) const {
  if (call.n_inputs < SY_KMEANS_SEED_INPUTS || call.n_outputs < SY_KMEANS_SEED_OUTPUTS)
    return fail(ErrorCode::invalid_argument, "kmeans.seed: slots are missing");
  const auto *x = call.inputs[SY_KMEANS_SEED_IN_X];
  const auto *rows = call.outputs[SY_KMEANS_SEED_OUT_ROWS];
  if (auto s = kmeans::check_x(id(), x); !s) return s;
  const std::int64_t n = x->shape[0];
  if (auto s = kmeans::check_tensor(id(), "weights", call.inputs[SY_KMEANS_SEED_IN_WEIGHTS],
                                    dtypes::f32, std::array{n}, false);
      !s)
    return s;
  const std::int64_t k = rows != nullptr && rows->rank == 1 ? rows->shape[0] : 1;
  if (auto s = kmeans::check_tensor(id(), "rows", rows, dtypes::i64, std::array{k}, true); !s)
    return s;
  if (k < 1 || k > n || k > INT32_MAX)
    return fail(ErrorCode::invalid_argument,
                fmt::format("kmeans.seed: {} rows are wanted of {}", k, n));
  const auto *p = static_cast<const sy_kmeans_seed_params *>(call.params);
  if (p == nullptr || call.params_size < sizeof(*p) || p->struct_size < sizeof(*p))
    return fail(ErrorCode::invalid_argument, "kmeans.seed: parameters are missing");
  if (p->flags != 0)
    return fail(ErrorCode::unsupported,
                fmt::format("kmeans.seed: flags {:#x} are not known", p->flags));
  return {};
}

Result<Problem> KMeansSeed::make_problem(const Shape &shape, std::uint64_t seed) const {
  static constexpr std::string_view kKnown[] = {"n",        "d",   "k",        "dtype",
                                                "weighted", "pad", "misalign", "data"};
  if (auto s = shape.only(kKnown); !s) return tl::unexpected(s.error());
  auto like = kmeans::make_problem(kmeans::Primitive::assign, shape, seed);
  if (!like) return like;
  const std::int64_t n = like->inputs[SY_KMEANS_IN_X].shape()[0];
  const std::int64_t k = like->inputs[SY_KMEANS_IN_CENTROIDS].shape()[0];
  if (k > n) return fail(ErrorCode::usage, "kmeans.seed: k must be at most n");
  Problem p;
  p.op = id();
  p.shape = shape;
  p.seed = seed;
  p.inputs.resize(SY_KMEANS_SEED_INPUTS);
  p.inputs[SY_KMEANS_SEED_IN_X] = std::move(like->inputs[SY_KMEANS_IN_X]);
  p.inputs[SY_KMEANS_SEED_IN_WEIGHTS] = std::move(like->inputs[SY_KMEANS_IN_WEIGHTS]);
  p.outputs = {TensorSpec{dtypes::i64, {k}, {}}};
  sy_kmeans_seed_params params{};
  params.seed = seed * 0x9E3779B97F4A7C15ull;
  params.run = static_cast<std::uint32_t>(seed % 3);
  p.set_params(params);
  return p;
}

std::vector<Shape> KMeansSeed::conformance_shapes() const {
  std::vector<Shape> shapes;
  const auto add = [&](std::int64_t n, std::int64_t d, std::int64_t k, std::string_view data,
                       bool weighted = false, std::int64_t pad = 0, std::int64_t misalign = 0) {
    Shape s;
    s.set("n", n).set("d", d).set("k", k).set("dtype", "f32");
    if (weighted) s.set("weighted", 1);
    if (pad != 0) s.set("pad", pad);
    if (misalign != 0) s.set("misalign", misalign);
    s.set("data", std::string(data));
    shapes.push_back(std::move(s));
  };
  for (std::int64_t d : {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 33})
    add(150 + 37 * d, d, 1 + (d * 5) % 23, "mixture", d % 3 == 0, d % 4, d % 5);
  for (std::string_view kind : kmeans::data_kinds()) {
    add(333, 3, 17, kind, false, 1);
    add(500, 2, 9, kind, true);
    add(129, 20, 33, kind, true, 3, 1);
  }
  add(1, 1, 1, "uniform");
  add(64, 5, 64, "uniform");
  add(64, 40, 64, "lattice");
  add(3000, 2, 60, "uniform");
  add(9000, 1, 25, "mixture");
  add(5000, 4, 12, "offset", true);
  add(1200, 100, 40, "mixture", true);
  return shapes;
}

std::vector<Shape> KMeansSeed::gate_shapes(const Shape &like) const {
  // The reference: about 2 ns a multiply-add, a few milliseconds a problem.
  constexpr double kBudget = 2e6;
  const std::int64_t n = like.integer("n", 1000, 1, std::int64_t{1} << 40).value_or(1000);
  const std::int64_t d =
      std::min<std::int64_t>(like.integer("d", 16, 1, 1 << 24).value_or(16), 100'000);
  const std::int64_t k = like.integer("k", 8, 1, INT32_MAX).value_or(8);
  std::vector<Shape> shapes;
  for (std::string_view kind : {"mixture", "lattice", "duplicates"}) {
    Shape s = like;
    const auto clusters = std::clamp<std::int64_t>(
        static_cast<std::int64_t>(std::sqrt(kBudget / static_cast<double>(8 * (d + 6)))) / 8, 1,
        std::min<std::int64_t>(k, 40));
    const auto rows = std::max<std::int64_t>(
        clusters, static_cast<std::int64_t>(kBudget / static_cast<double>(clusters * (d + 6)) /
                                            (3 + sy_kmeans_floor_ln(clusters))));
    s.set("n", std::min(std::max(n, clusters), rows)).set("d", d).set("k", clusters);
    s.set("data", std::string(kind));
    shapes.push_back(std::move(s));
  }
  return shapes;
}

}  // namespace

const OpSpec &kmeans_seed_spec() noexcept {
  static const KMeansSeed spec;
  return spec;
}

}  // namespace switchyard
