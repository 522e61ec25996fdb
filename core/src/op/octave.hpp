// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Sizes of one octave share the problems they are verified on, so that verdicts are found again
/// for every size in between: the octave's power of two, and an odd number inside it for the tails.

#include <bit>
#include <cstdint>

namespace switchyard {

constexpr std::int64_t octave_even(std::int64_t v) noexcept {
  return v <= 0 ? v : static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(v)));
}
constexpr std::int64_t octave_odd(std::int64_t v) noexcept {
  return v < 4 ? octave_even(v) : octave_even(v) + octave_even(v) / 2 - 1;
}

}  // namespace switchyard
