// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Spending a budget of bytes: one way to store each tensor, so that the errors' sum is least.

#include <cstdint>
#include <span>
#include <switchyard/result.hpp>
#include <vector>

namespace switchyard::models {

struct StoreOption {
  std::uint64_t bytes = 0;
  double error = 0;
};

struct Allocation {
  std::vector<std::size_t> chosen;  ///< an option of each tensor
  std::uint64_t bytes = 0;
  double error = 0;
  double bound = 0;  ///< no choice within the budget has a smaller error than this
};

/// Every tensor has at least one option. Walks the tensors' convex hulls by falling gain per byte,
/// then spends what is left on the best single exchanges; where there are few combinations, tries
/// all of them. `bound` is the relaxed optimum, so that the distance from the best is known at
/// least. Deterministic. invalid_argument: nothing fits the budget.
Result<Allocation> allocate(std::span<const std::vector<StoreOption>> tensors,
                            std::uint64_t budget);

}  // namespace switchyard::models
