// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Checks of one sy_tensor that any operation may need before a kernel trusts it. They allocate
/// only to describe an error.

#include <string_view>
#include <switchyard/tensor.hpp>

namespace switchyard {

/// Non-negative sizes; with a handle also: all elements within byte_size, aligned to their size.
/// `name` opens the message: "k".
Status check_memory(std::string_view name, const sy_tensor &tensor);

/// May two different elements share an address? Conservative: dimensions that interleave in
/// unusual ways count as overlapping. Never true for transposed or sliced arrays.
bool may_overlap(const sy_tensor &tensor) noexcept;

}  // namespace switchyard
