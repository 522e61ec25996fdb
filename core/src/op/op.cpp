// SPDX-License-Identifier: Apache-2.0
/// The list of operations. Adding one means a line in op_spec.hpp and a line here.
#include <fmt/format.h>

#include "base/suggest.hpp"
#include "op/op_spec.hpp"

namespace switchyard {

std::span<const OpSpec *const> all_ops() noexcept {
  static const OpSpec *const ops[] = {
      &quantize_spec(),    &dequantize_spec(), &kmeans_step_spec(), &kmeans_assign_spec(),
      &kmeans_seed_spec(), &attention_spec(),  &matmul_spec(),      &rope_spec(),
      &rms_norm_spec(),    &layer_norm_spec(), &swiglu_spec(),      &gelu_spec(),
  };
  return ops;
}

Result<OpIndex> find_op(std::string_view id) {
  const auto ops = all_ops();
  std::vector<std::string_view> known;
  for (OpIndex i = 0; i < ops.size(); ++i) {
    if (ops[i]->id() == id) return i;
    known.push_back(ops[i]->id());
  }
  return fail(ErrorCode::usage, fmt::format("unknown operation '{}'{}; known are {}", id,
                                            did_you_mean(id, known), fmt::join(known, ", ")));
}

}  // namespace switchyard
