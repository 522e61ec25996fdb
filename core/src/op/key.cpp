// SPDX-License-Identifier: Apache-2.0
#include "op/key.hpp"

namespace switchyard {

KeyBuilder &KeyBuilder::layout(const sy_tensor *t) noexcept {
  if (t == nullptr) return add(0, 2);
  std::uint64_t contiguous = 1;
  std::int64_t step = 1;
  for (int i = t->rank - 1; i >= 0; --i) {
    if (t->shape[i] != 1 && t->strides[i] != step) contiguous = 0;
    step *= t->shape[i];
  }
  return add(1, 1).add(contiguous, 1);
}

}  // namespace switchyard
