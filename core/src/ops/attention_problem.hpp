// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the parts of attention's OpSpec share.

#include <switchyard/ops/attention.h>

#include "op/op_spec.hpp"

namespace switchyard::attention_op {

/// A valid call with its tensors and sizes by name.
struct View {
  const sy_tensor *q, *k, *v, *mask, *sinks, *alibi, *lengths, *o, *lse;
  const sy_attention_params *params;
  std::int64_t batch, hq, hkv, lq, lkv, dk, dv;

  std::int64_t group() const noexcept { return hkv == 0 ? 1 : hq / hkv; }
  /// Keys of sequence b: kv_lengths[b], or Lkv without.
  std::int64_t keys(std::int64_t b) const noexcept;
};

View view(const sy_call &call) noexcept;

/// Keys begin..end-1; empty if end <= begin.
struct Span {
  std::int64_t begin, end;
};
/// What query i of sequence b sees, masks aside.
Span visible(const View &a, std::int64_t b, std::int64_t i) noexcept;
/// (query, key) pairs of one head of a sequence with `keys` keys, masks aside.
double visible_pairs(const View &a, std::int64_t keys) noexcept;

/// Element i of a sinks, slopes or lengths tensor.
template <class T>
T at(const sy_tensor &t, std::int64_t i) noexcept {
  return TensorView(t).data<T>()[i * t.strides[0]];
}

Status validate(const sy_call &call);
Shape describe(const sy_call &call);
Result<Problem> make_problem(const Shape &shape, std::uint64_t seed);
std::vector<Shape> conformance_shapes();
std::vector<Shape> gate_shapes(const Shape &like);
std::optional<std::string> compare(const Problem &problem, const sy_call &got, const sy_call &want,
                                   const ReferenceRunner &reference);
/// One query of one head.
Result<std::string> spot_check(const OpSpec &op, const sy_call &done, std::uint64_t pick,
                               const ReferenceRunner &reference);

}  // namespace switchyard::attention_op
