// SPDX-License-Identifier: Apache-2.0
#include "kmeans/fixed_point.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace switchyard::kmeans {
namespace {

__extension__ using Wide = unsigned __int128;

int bit_length(Wide v) noexcept {
  const auto high = static_cast<std::uint64_t>(v >> 64);
  const auto bits =
      high != 0 ? 64 + std::bit_width(high) : std::bit_width(static_cast<std::uint64_t>(v));
  return static_cast<int>(bits);
}

}  // namespace

int fixed_point_shift(double largest, std::int64_t n) noexcept {
  if (!(largest > 0)) return 0;
  int exponent = 0;
  const double fraction = std::frexp(largest, &exponent);
  const auto mantissa =
      static_cast<std::uint64_t>(std::ldexp(fraction, 53));  // largest = m 2^(e-53)
  // m 2^t <= 2^50 and n m 2^t < 2^62, exactly, for t = s + e - 53.
  const int bits = bit_length(mantissa);
  const int single = 50 - (std::has_single_bit(mantissa) ? bits - 1 : bits);
  const int total = 62 - bit_length(static_cast<Wide>(mantissa) * static_cast<std::uint64_t>(n));
  return std::min(single, total) + 53 - exponent;
}

}  // namespace switchyard::kmeans
