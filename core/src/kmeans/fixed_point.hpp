// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The fixed-point shifts behind exact sums: which power of two scales values to integers.

#include <cstdint>

namespace switchyard::kmeans {

/// The largest s with `largest` * 2^s <= 2^50 and n * `largest` * 2^s < 2^62, so that n integers
/// rint(v * 2^s), |v| <= largest, add up in int64. 0 when `largest` is 0. `largest` is finite and
/// not negative, n >= 1.
int fixed_point_shift(double largest, std::int64_t n) noexcept;

}  // namespace switchyard::kmeans
