// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Predicts a kernel's time on a shape from its measured times on others.
///
/// Shapes of one regime (same words: format, dtype, causal, ...) differ in numbers only. Over these
/// a kernel's time follows its work: a fixed cost plus a cost per operation and per byte where that
/// fits as it stands. The rest (caches, blocking) is a plane through the nearest measured
/// neighbours, all on logarithmic scales.

#include <span>
#include <string>
#include <vector>

#include "op/op_spec.hpp"

namespace switchyard {

/// A shape as a point: log2 of its numbers, in the order of its items.
struct Place {
  std::string regime;  ///< all words, and the names of the numbers
  std::vector<double> log_sizes;

  static Place of(const Shape &shape);
  /// Euclidean, in octaves; both of one regime.
  double distance(const Place &other) const noexcept;
};

/// A kernel's time on one shape.
struct Timing {
  double ns = 0;             ///< median
  double low = 0, high = 0;  ///< 95 % interval of the median
  int samples = 0;
  Work work;
};

struct TimedPlace {
  Place place;
  Timing timing;
};

struct Prediction {
  double ns = 0;
  double distance = 0;  ///< of the nearest measured shape, in octaves
  int points = 0;       ///< measured shapes behind it; 0 = none

  /// By how much the true time may plausibly differ, as a share of `ns`.
  double uncertainty() const noexcept;
};

/// `points` are of one kernel, one thread count and the place's regime.
Prediction predict(std::span<const TimedPlace> points, const Place &place, const Work &work);

}  // namespace switchyard
