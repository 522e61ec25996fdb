// SPDX-License-Identifier: Apache-2.0
#include "ops/kmeans_problem.hpp"

#include <switchyard/ops/kmeans.h>

namespace switchyard {
namespace {

using kmeans::Primitive;

class KMeansStep final : public OpSpec {
 public:
  std::string_view id() const noexcept override { return SY_OP_KMEANS_STEP; }
  Status validate(const sy_call &call) const override {
    return kmeans::validate(Primitive::step, call);
  }
  void key(const sy_call &call, KeyBuilder &builder) const noexcept override {
    kmeans::key(Primitive::step, call, builder);
  }
  Shape describe(const sy_call &call) const override {
    return kmeans::describe(Primitive::step, call);
  }
  Result<Problem> make_problem(const Shape &shape, std::uint64_t seed) const override {
    return kmeans::make_problem(Primitive::step, shape, seed);
  }
  std::vector<Shape> conformance_shapes() const override {
    return kmeans::conformance_shapes(Primitive::step);
  }
  std::vector<Shape> gate_shapes(const Shape &like) const override {
    return kmeans::gate_shapes(Primitive::step, like);
  }
  std::optional<std::string> compare(const Problem &, const sy_call &got, const sy_call &want,
                                     const ReferenceRunner &) const override {
    return kmeans::compare(Primitive::step, got, want);
  }
  bool checks_parts() const noexcept override { return true; }
  Result<std::string> spot_check(const sy_call &done, std::uint64_t pick,
                                 const ReferenceRunner &reference) const override {
    return kmeans::spot_check(Primitive::step, *this, done, pick, reference);
  }
  Work work(const sy_call &call) const noexcept override {
    return kmeans::work(Primitive::step, call);
  }
};

}  // namespace

const OpSpec &kmeans_step_spec() noexcept {
  static const KMeansStep spec;
  return spec;
}

}  // namespace switchyard
