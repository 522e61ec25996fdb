// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What operations on rows have in common: a first input of any rank whose shape and dtype the one
/// output has too, further inputs of that shape or one value per column. A spec of this kind states
/// its inputs, its parameters and its error bound.

#include "op/op_spec.hpp"

namespace switchyard {

/// One row of a finished call, as f64; absent inputs are empty.
struct RowValues {
  std::span<const std::vector<double>> inputs;
  const sy_call &call;
};

class RowwiseSpec : public OpSpec {
 public:
  struct Input {
    std::string_view name;
    bool is_vector;  ///< [D], f32 or the first one's dtype, contiguous; else shaped like the first
    bool optional;
  };

  Status validate(const sy_call &call) const final;
  void key(const sy_call &call, KeyBuilder &builder) const noexcept final;
  Shape describe(const sy_call &call) const final;
  Result<Problem> make_problem(const Shape &shape, std::uint64_t seed) const final;
  std::vector<Shape> conformance_shapes() const final;
  std::vector<Shape> gate_shapes(const Shape &like) const final;
  std::optional<std::string> compare(const Problem &problem, const sy_call &got,
                                     const sy_call &want,
                                     const ReferenceRunner &reference) const final;
  Work work(const sy_call &call) const noexcept final;
  /// One row, at either end more often than in between.
  bool checks_parts() const noexcept final { return true; }
  Result<std::string> spot_check(const sy_call &done, std::uint64_t pick,
                                 const ReferenceRunner &reference) const final;

 protected:
  virtual std::span<const Input> inputs() const noexcept = 0;
  virtual double flops_per_value() const noexcept = 0;
  /// May a row have no values?
  virtual bool allows_empty_rows() const noexcept = 0;
  /// Size, struct_size and values of the parameters.
  virtual Status check_params(const sy_call &call) const = 0;
  /// What of the parameters a kernel's speed or rightness depends on; below 256.
  virtual std::uint64_t params_key(const sy_call &call) const noexcept = 0;
  virtual void describe_params(const sy_call &call, Shape &shape) const = 0;
  virtual std::string_view param_item() const noexcept = 0;  ///< its name in a Shape
  virtual Status make_params(const Shape &shape, Problem &problem) const = 0;
  virtual std::vector<Shape> param_variants() const = 0;
  /// limits[i]: by how much result i may differ from the exact one before it is rounded.
  virtual void limits(const RowValues &row, std::span<double> limits) const = 0;
};

}  // namespace switchyard
