// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Small things that deciding and exploring share.

#include <algorithm>

#include "dispatcher/runner.hpp"
#include "registry/candidate.hpp"

namespace switchyard {

/// Errors that another backend would report just the same.
inline bool callers_fault(std::int32_t status) noexcept {
  switch (status) {
    case SY_E_INVALID_ARGUMENT:
    case SY_E_SHAPE:
    case SY_E_DTYPE:
    case SY_E_NONFINITE:
    case SY_E_OVERFLOW:
    case SY_E_CANCELLED:
      return true;
    default:
      return false;
  }
}

/// The size that thresholds compare: elements of the largest input.
inline std::int64_t elements_of(const sy_call &call) noexcept {
  std::int64_t most = 0;
  for (std::uint32_t i = 0; i < call.n_inputs; ++i)
    if (call.inputs[i] != nullptr) most = std::max(most, TensorView(*call.inputs[i]).elements());
  return most;
}

/// `answer` may be null.
inline void fill(Answer *answer, const Candidate &candidate, std::string_view verified,
                 std::uint64_t ns) {
  if (answer == nullptr) return;
  answer->backend = candidate.backend;
  answer->kernel = candidate.name;
  answer->verified = verified;
  answer->fallback_reason.clear();
  answer->ns = ns;
}

}  // namespace switchyard
