// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Reading the elements of a strided array in C order, piece by piece.

#include <cstddef>
#include <functional>
#include <span>
#include <switchyard/tensor.hpp>

namespace switchyard {

/// Calls `use` with consecutive pieces of the array's elements in C order, whole elements each: one
/// piece where the array is contiguous, else pieces of at most 256 KiB. Stops at the first error.
/// unsupported: the array is not in host memory.
Status for_each_piece(const TensorView &array,
                      const std::function<Status(std::span<const std::byte>)> &use);

}  // namespace switchyard
