// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Checked size arithmetic: the one place where sizes are multiplied and added.

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>

namespace switchyard {

template <std::integral T>
constexpr std::optional<T> checked_add(T a, T b) noexcept {
  T r;
  if (__builtin_add_overflow(a, b, &r)) return std::nullopt;
  return r;
}

template <std::integral T>
constexpr std::optional<T> checked_mul(T a, T b) noexcept {
  T r;
  if (__builtin_mul_overflow(a, b, &r)) return std::nullopt;
  return r;
}

/// Product of a shape times `unit`; nullopt on overflow or a negative entry.
constexpr std::optional<std::int64_t> checked_elements(std::span<const std::int64_t> shape,
                                                       std::int64_t unit = 1) noexcept {
  std::int64_t r = unit;
  bool zero = false;
  for (std::int64_t s : shape) {
    if (s < 0) return std::nullopt;
    if (s == 0) zero = true;
  }
  if (zero) return 0;
  for (std::int64_t s : shape)
    if (__builtin_mul_overflow(r, s, &r)) return std::nullopt;
  return r;
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) noexcept {
  return a / b + (a % b != 0);
}

}  // namespace switchyard
