// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Philox4x32-10 (Salmon et al., 2011): a counter-based generator. Any draw can be computed from
/// its place alone, so results depend neither on threads nor on the order of work.

#include <array>
#include <cstdint>

namespace switchyard::kmeans {

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) noexcept;

/// The draws of one decision of a fit: key = seed, counter = {index, trial, step, run}.
class Draws {
 public:
  Draws(std::uint64_t seed, std::uint32_t run, std::uint32_t step, std::uint32_t trial) noexcept
      : seed_(seed), run_(run), step_(step), trial_(trial) {}
  std::uint64_t next() noexcept;
  /// Uniform in [0, n) without bias (multiply-high, rejecting the uneven rest); n >= 1.
  std::uint64_t below(std::uint64_t n) noexcept;

 private:
  std::uint64_t seed_;
  std::uint32_t run_, step_, trial_, index_ = 0;
};

}  // namespace switchyard::kmeans
