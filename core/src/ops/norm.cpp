// SPDX-License-Identifier: Apache-2.0
// The operations "rms_norm" and "layer_norm".
#include <switchyard/ops/norm.h>

#include <fmt/format.h>

#include <cmath>

#include "ops/rowwise.hpp"

namespace switchyard {
namespace {

constexpr RowwiseSpec::Input kInputs[] = {
    {"x", false, false}, {"weight", true, true}, {"bias", true, true}};

class NormSpec final : public RowwiseSpec {
 public:
  /// rms_norm, or with a mean and a bias layer_norm.
  explicit NormSpec(bool layer) noexcept : layer_(layer) {}
  std::string_view id() const noexcept override {
    return layer_ ? SY_OP_LAYER_NORM : SY_OP_RMS_NORM;
  }

 protected:
  std::span<const Input> inputs() const noexcept override {
    return {kInputs, std::size_t{layer_ ? SY_LAYER_NORM_INPUTS : SY_RMS_NORM_INPUTS}};
  }
  double flops_per_value() const noexcept override { return layer_ ? 7 : 4; }
  bool allows_empty_rows() const noexcept override { return false; }

  Status check_params(const sy_call &call) const override {
    const auto *p = static_cast<const sy_norm_params *>(call.params);
    if (p == nullptr || call.params_size < sizeof(sy_norm_params) ||
        p->struct_size < sizeof(sy_norm_params))
      return fail(ErrorCode::invalid_argument,
                  "the call's params must be an sy_norm_params with struct_size set");
    if (!std::isfinite(p->eps) || p->eps < 0)
      return fail(ErrorCode::invalid_argument,
                  fmt::format("eps is {}; it must be finite and not below 0", p->eps));
    return {};
  }
  std::uint64_t params_key(const sy_call &) const noexcept override { return 0; }
  void describe_params(const sy_call &call, Shape &shape) const override {
    shape.set("eps", fmt::format("{}", static_cast<const sy_norm_params *>(call.params)->eps));
  }
  std::string_view param_item() const noexcept override { return "eps"; }
  Status make_params(const Shape &shape, Problem &problem) const override {
    auto eps = shape.number("eps", 1e-5);
    if (!eps) return tl::unexpected(std::move(eps.error()));
    problem.set_params(sy_norm_params{.struct_size = 0, .eps = static_cast<float>(*eps)});
    return {};
  }
  std::vector<Shape> param_variants() const override { return {Shape(), Shape{{"eps", "0.1"}}}; }

  void limits(const RowValues &row, std::span<double> limits) const override {
    const auto &x = row.inputs[0], &weight = row.inputs[SY_NORM_IN_WEIGHT];
    const auto d = static_cast<double>(x.size());
    double mean = 0, sum = 0, largest = 0;
    if (layer_) {
      for (const double v : x) mean += v;
      mean /= d;
    }
    for (const double v : x) {
      sum += (v - mean) * (v - mean);
      largest = std::fmax(largest, std::abs(v));
    }
    const double eps = static_cast<const sy_norm_params *>(row.call.params)->eps;
    const double scale = largest / std::sqrt(sum / d + eps);
    const double steps = (8 + d / 32) * 0x1p-24;
    for (std::size_t i = 0; i < limits.size(); ++i) {
      limits[i] = (weight.empty() ? 1 : std::abs(weight[i])) * scale;
      if (layer_ && !row.inputs[SY_NORM_IN_BIAS].empty())
        limits[i] += std::abs(row.inputs[SY_NORM_IN_BIAS][i]);
      limits[i] *= steps;
    }
  }

 private:
  bool layer_;
};

}  // namespace

const OpSpec &rms_norm_spec() noexcept {
  static const NormSpec spec(false);
  return spec;
}
const OpSpec &layer_norm_spec() noexcept {
  static const NormSpec spec(true);
  return spec;
}

}  // namespace switchyard
