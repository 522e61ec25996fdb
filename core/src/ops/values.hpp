// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Elements of f32, f16 and bf16 tensors as f32, for problems and comparisons.

#include <cmath>
#include <cstring>
#include <optional>
#include <switchyard/tensor.hpp>

#include "io/cast.hpp"

namespace switchyard {

inline bool is_value_type(DType t) noexcept {
  return same(t, dtypes::f32) || same(t, dtypes::f16) || same(t, dtypes::bf16);
}

inline float load_value(const std::byte *p, DType dtype) noexcept {
  if (same(dtype, dtypes::f32)) {
    float value = 0;
    std::memcpy(&value, p, sizeof value);
    return value;
  }
  std::uint16_t h = 0;
  std::memcpy(&h, p, sizeof h);
  return same(dtype, dtypes::f16) ? f16_to_f32(h) : bf16_to_f32(h);
}

/// What rounding two nearly equal results to `dtype` may put between them: a unit in the last place
/// of 16-bit types, half of one of f32 (whose own error the caller states), and the least normal.
inline double rounding_of(DType dtype, double value) noexcept {
  const bool half = same(dtype, dtypes::f16);
  const double digits = same(dtype, dtypes::f32) ? 0x1p-24 : half ? 0x1p-10 : 0x1p-7;
  return std::abs(value) * digits + (half ? 0x1p-24 : 0x1p-126);
}

/// NaN must meet NaN, infinities each other; the rest lies within `limit`.
inline bool is_close(double got, double want, double limit) noexcept {
  if (std::isnan(want)) return std::isnan(got);
  if (!std::isfinite(want)) return got == want;
  return std::abs(got - want) <= limit;
}

}  // namespace switchyard
