// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Filling in a caller's sy_error without allocating. Shared by all C++ plugins of this tree.

#include <stdio.h>
#include <switchyard/plugin.h>

namespace switchyard::cpu {

/// Writes the error (if wanted) and returns `code`.
[[gnu::always_inline]] static inline int32_t failure(sy_error *error, int32_t code,
                                                     const char *message, int64_t index = -1) {
  if (error != nullptr && error->struct_size >= sizeof(sy_error)) {
    error->code = code;
    error->index = index;
    __builtin_snprintf(error->message, sizeof(error->message), "%s", message);
  }
  return code;
}

}  // namespace switchyard::cpu
