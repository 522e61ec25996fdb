// SPDX-License-Identifier: Apache-2.0
// The operations "swiglu" and "gelu".
#include <switchyard/ops/activation.h>

#include <fmt/format.h>

#include <cmath>

#include "ops/rowwise.hpp"

namespace switchyard {
namespace {

constexpr RowwiseSpec::Input kSwiglu[] = {{"gate", false, false}, {"up", false, false}};
constexpr RowwiseSpec::Input kGelu[] = {{"x", false, false}};

const sy_activation_params &params_of(const sy_call &call) noexcept {
  return *static_cast<const sy_activation_params *>(call.params);
}

class ActivationSpec final : public RowwiseSpec {
 public:
  explicit ActivationSpec(bool gelu) noexcept : gelu_(gelu) {}
  std::string_view id() const noexcept override { return gelu_ ? SY_OP_GELU : SY_OP_SWIGLU; }

 protected:
  std::span<const Input> inputs() const noexcept override {
    return gelu_ ? std::span<const Input>(kGelu) : std::span<const Input>(kSwiglu);
  }
  double flops_per_value() const noexcept override { return gelu_ ? 20 : 15; }
  bool allows_empty_rows() const noexcept override { return true; }

  Status check_params(const sy_call &call) const override {
    const auto *p = static_cast<const sy_activation_params *>(call.params);
    if (p == nullptr || call.params_size < sizeof(sy_activation_params) ||
        p->struct_size < sizeof(sy_activation_params))
      return fail(ErrorCode::invalid_argument,
                  "the call's params must be an sy_activation_params with struct_size set");
    if ((p->flags & ~(gelu_ ? std::uint32_t{SY_GELU_TANH} : 0u)) != 0)
      return fail(ErrorCode::invalid_argument, fmt::format("unknown flags {:#x}", p->flags));
    return {};
  }
  std::uint64_t params_key(const sy_call &call) const noexcept override {
    return params_of(call).flags;
  }
  void describe_params(const sy_call &call, Shape &shape) const override {
    if (params_of(call).flags != 0) shape.set("tanh", std::int64_t{1});
  }
  std::string_view param_item() const noexcept override { return "tanh"; }
  Status make_params(const Shape &shape, Problem &problem) const override {
    auto tanh = shape.flag("tanh", false);
    if (!tanh) return tl::unexpected(std::move(tanh.error()));
    if (*tanh && !gelu_) return fail(ErrorCode::usage, "tanh is for gelu only");
    problem.set_params(
        sy_activation_params{.struct_size = 0, .flags = *tanh ? std::uint32_t{SY_GELU_TANH} : 0});
    return {};
  }
  std::vector<Shape> param_variants() const override {
    if (!gelu_) return {Shape()};
    return {Shape(), Shape{{"tanh", "1"}}};
  }

  void limits(const RowValues &row, std::span<double> limits) const override {
    const auto &x = row.inputs[0];
    for (std::size_t i = 0; i < limits.size(); ++i) {
      if (gelu_) {
        limits[i] = std::abs(x[i]) * 0x1p-20;
        continue;
      }
      const double up = row.inputs[SY_SWIGLU_IN_UP][i];
      limits[i] = std::abs(up * x[i] / (1 + std::exp(-x[i]))) * 0x1p-20 + std::abs(up) * 0x1p-110;
    }
  }

 private:
  bool gelu_;
};

}  // namespace

const OpSpec &swiglu_spec() noexcept {
  static const ActivationSpec spec(false);
  return spec;
}
const OpSpec &gelu_spec() noexcept {
  static const ActivationSpec spec(true);
  return spec;
}

}  // namespace switchyard
