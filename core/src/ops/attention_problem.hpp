// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the parts of attention's OpSpec share.

#include <switchyard/ops/attention_kv.h>

#include <span>

#include "op/op_spec.hpp"

namespace switchyard::attention_op {

/// The parameters of a call, with zeros where the caller's struct is shorter.
struct Params : sy_attention_params {
  std::int64_t keep = 0, gap = 0;
  std::uint32_t kv_format = SY_QUANT_NONE, kv_group = 0;

  sy_attention_kv_params abi() const noexcept {
    sy_attention_kv_params p{*this, keep, gap, kv_format, kv_group};
    p.base.struct_size = sizeof p;
    return p;
  }
};

/// A valid call with its tensors and sizes by name.
struct View {
  const sy_tensor *q, *k, *v, *mask, *sinks, *alibi, *lengths, *table;
  const sy_tensor *k_scales, *k_biases, *v_scales, *v_biases;
  const sy_tensor *o, *lse;
  Params params;
  std::int64_t batch, hq, hkv, lq, lkv, dk, dv;
  std::int64_t page;  ///< keys in a page; 0 = not paged

  std::int64_t group() const noexcept { return hkv == 0 ? 1 : hq / hkv; }
  /// Keys of sequence b: kv_lengths[b], or Lkv without.
  std::int64_t keys(std::int64_t b) const noexcept;
  std::int32_t table_entry(std::int64_t b, std::int64_t m) const noexcept;
  /// Nothing of version 1.1 in how keys and values are stored.
  bool plain() const noexcept { return table == nullptr && params.kv_format == SY_QUANT_NONE; }
};

Params params_of(const sy_call &call) noexcept;
View view(const sy_call &call) noexcept;

/// Key or value j of key head g of sequence b as f32: dequantised, from wherever it lies.
void read_key(const View &a, bool values, std::int64_t b, std::int64_t g, std::int64_t j,
              std::span<float> row) noexcept;

/// Keys begin..end-1; empty if end <= begin.
struct Span {
  std::int64_t begin, end;
};
/// What query i of sequence b sees beside the kept keys, masks aside.
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
