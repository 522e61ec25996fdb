// SPDX-License-Identifier: Apache-2.0
#include "base/tensor_checks.hpp"

#include <fmt/format.h>

#include <array>
#include <cstdlib>

#include "base/checked.hpp"

namespace switchyard {

Status check_memory(std::string_view name, const sy_tensor &t) {
  const auto size = static_cast<std::int64_t>(t.dtype.bits / 8);
  const std::span<const std::int64_t> shape(t.shape, static_cast<std::size_t>(t.rank));
  bool empty = false;
  for (const std::int64_t n : shape) {
    if (n < 0)
      return fail(ErrorCode::shape,
                  fmt::format("{} has the negative size {} in its shape", name, n));
    empty = empty || n == 0;
  }
  if (!checked_elements(shape, size))
    return fail(ErrorCode::overflow, fmt::format("{} has more bytes than can be addressed", name));
  if (empty) return {};
  // Offsets of the lowest element and of the end of the highest, in elements.
  std::int64_t low = 0, high = 1;
  for (int k = 0; k < t.rank; ++k) {
    const auto reach = checked_mul(t.shape[k] - 1, t.strides[k]);
    std::int64_t &end = t.strides[k] < 0 ? low : high;
    const auto sum = reach ? checked_add(end, *reach) : std::nullopt;
    if (!sum) return fail(ErrorCode::overflow, fmt::format("{} has strides too large", name));
    end = *sum;
  }
  const auto first = checked_mul(low, size), last = checked_mul(high, size);
  if (!first || !last)
    return fail(ErrorCode::overflow, fmt::format("{} has strides too large", name));
  if (t.handle == nullptr) return {};
  if (t.byte_offset < static_cast<std::uint64_t>(-*first) || t.byte_offset > t.byte_size ||
      t.byte_size - t.byte_offset < static_cast<std::uint64_t>(*last))
    return fail(ErrorCode::shape,
                fmt::format("{} of shape {} reaches outside its {} bytes of memory", name,
                            shape_text(shape), t.byte_size));
  const auto address = reinterpret_cast<std::uintptr_t>(t.handle) + t.byte_offset;
  if (t.device_kind == SY_DEVICE_HOST && address % static_cast<std::uint64_t>(size) != 0)
    return fail(ErrorCode::invalid_argument,
                fmt::format("{} is not aligned to its elements of {} bytes", name, size));
  return {};
}

bool may_overlap(const sy_tensor &t) noexcept {
  const auto stride = [&](int axis) { return std::abs(t.strides[axis]); };
  int axes[SY_MAX_RANK];
  int n = 0;
  for (int k = 0; k < t.rank; ++k) {  // by growing stride
    if (t.shape[k] == 0) return false;
    if (t.shape[k] == 1) continue;
    int at = n++;
    for (; at > 0 && stride(axes[at - 1]) > stride(k); --at) axes[at] = axes[at - 1];
    axes[at] = k;
  }
  std::int64_t covered = 1;  // elements spanned by the axes so far
  for (int i = 0; i < n; ++i) {
    if (stride(axes[i]) < covered) return true;
    covered += (t.shape[axes[i]] - 1) * stride(axes[i]);
  }
  return false;
}

}  // namespace switchyard
