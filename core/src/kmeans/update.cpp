// SPDX-License-Identifier: Apache-2.0
#include "kmeans/update.hpp"

#include <algorithm>
#include <cmath>

namespace switchyard::kmeans {
namespace {

std::int64_t quantised(double value, int shift) noexcept {
  return static_cast<std::int64_t>(std::nearbyint(std::ldexp(value, shift)));
}

/// Moves row i from its cluster to j.
void move_row(const Input &in, const StepArrays &step, std::int64_t i, std::int64_t j) {
  const std::int64_t from = step.labels[i], d = in.d();
  const auto *shifts = in.shifts.data<std::int32_t>();
  for (std::int64_t m = 0; m < d; ++m) {
    const std::int64_t q = quantised(in.weight(i) * static_cast<double>(in.row(i)[m]), shifts[m]);
    step.sums[from * d + m] -= q;
    step.sums[j * d + m] += q;
  }
  --step.counts[from];
  ++step.counts[j];
  if (step.totals != nullptr) {
    const std::int64_t q = quantised(in.weight(i), in.weight_shift);
    step.totals[from] -= q;
    step.totals[j] += q;
  }
  step.labels[i] = static_cast<std::int32_t>(j);
}

}  // namespace

float distance(const float *x, const float *c, std::int64_t d) noexcept {
  float a[16] = {};
  for (std::int64_t m = 0; m < d; ++m) {
    const float t = x[m] - c[m];
    a[m & 15] = std::fma(t, t, a[m & 15]);
  }
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) a[i] += a[i + half];
  return a[0];
}

std::int64_t relocate_empty(const Input &in, std::int64_t k, const StepArrays &step) {
  std::vector<std::int64_t> empty;
  for (std::int64_t j = 0; j < k; ++j)
    if (step.counts[j] == 0) empty.push_back(j);
  if (empty.empty()) return 0;

  std::vector<std::int64_t> rows;  // a heap: farthest first, then lowest index
  for (std::int64_t i = 0; i < in.n(); ++i)
    if (step.distances[i] > 0 &&
        (step.totals == nullptr || quantised(in.weight(i), in.weight_shift) > 0))
      rows.push_back(i);
  const auto later = [&](std::int64_t a, std::int64_t b) {
    return step.distances[a] != step.distances[b] ? step.distances[a] < step.distances[b] : a > b;
  };
  std::ranges::make_heap(rows, later);
  std::int64_t moved = 0;
  for (std::int64_t j : empty) {
    while (!rows.empty()) {
      std::ranges::pop_heap(rows, later);
      const std::int64_t i = rows.back();
      rows.pop_back();
      if (step.counts[step.labels[i]] < 2) continue;
      move_row(in, step, i, j);
      ++moved;
      break;
    }
  }
  return moved;
}

std::int64_t update_centroids(Runner &runner, const Input &in, std::int64_t k,
                              const StepArrays &step, const float *old, float *next) {
  const std::int64_t d = in.d();
  std::vector<double> scale(static_cast<std::size_t>(d));
  for (std::size_t m = 0; m < scale.size(); ++m)
    scale[m] = std::ldexp(1.0, -in.shifts.data<std::int32_t>()[m]);
  const double weight_scale = std::ldexp(1.0, -in.weight_shift);
  const std::int64_t unit = 1 + 16384 / d;
  for_ranges(runner, k, unit, k, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      // Powers of two scale exactly; the conversion, the division and the last rounding round.
      const double total = step.totals != nullptr
                               ? static_cast<double>(step.totals[j]) * weight_scale
                               : static_cast<double>(step.counts[j]);
      if (!(total > 0)) {
        std::copy_n(old + j * d, d, next + j * d);
        continue;
      }
      for (std::int64_t m = 0; m < d; ++m) {
        const double sum =
            static_cast<double>(step.sums[j * d + m]) * scale[static_cast<std::size_t>(m)];
        next[j * d + m] = static_cast<float>(sum / total);
      }
    }
  });
  return std::count(step.counts, step.counts + k, 0);
}

double centroid_shift(Runner &runner, std::int64_t k, std::int64_t d, const float *next,
                      const float *old) {
  std::vector<float> moved(static_cast<std::size_t>(k));
  for_ranges(runner, k, 1 + 16384 / d, k, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j)
      moved[static_cast<std::size_t>(j)] = distance(next + j * d, old + j * d, d);
  });
  double sum = 0;
  for (float m : moved) sum += static_cast<double>(m);
  return sum;
}

}  // namespace switchyard::kmeans
