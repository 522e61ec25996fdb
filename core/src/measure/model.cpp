// SPDX-License-Identifier: Apache-2.0
#include "measure/model.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace switchyard {
namespace {

constexpr std::size_t kNeighbours = 12;
constexpr std::size_t kTerms = 3;  // fixed cost, operations, bytes
using Terms = std::array<double, kTerms>;

Terms terms(const Work &work) noexcept { return {1, work.flops, work.bytes}; }

double dot(const Terms &a, const Terms &b) noexcept {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

/// Non-negative least squares of relative errors, by coordinate descent.
Terms fit(std::span<const TimedPlace *const> points) {
  Terms scale{}, cost{};
  std::vector<Terms> rows;
  for (const TimedPlace *p : points) {
    Terms row = terms(p->timing.work);
    for (double &v : row) v /= p->timing.ns;
    for (std::size_t k = 0; k < kTerms; ++k) scale[k] = std::max(scale[k], row[k]);
    rows.push_back(row);
  }
  for (Terms &row : rows)
    for (std::size_t k = 0; k < kTerms; ++k) row[k] = scale[k] > 0 ? row[k] / scale[k] : 0;
  for (int round = 0; round < 200; ++round)
    for (std::size_t k = 0; k < kTerms; ++k) {
      double along = 0, norm = 0;
      for (const Terms &row : rows) {
        along += row[k] * (1 - dot(row, cost));
        norm += row[k] * row[k];
      }
      if (norm > 0) cost[k] = std::max(0.0, cost[k] + along / norm);
    }
  for (std::size_t k = 0; k < kTerms; ++k) cost[k] = scale[k] > 0 ? cost[k] / scale[k] : 0;
  return cost;
}

/// What the model misses at one measured place, and how much it weighs.
struct Observation {
  const TimedPlace *point;
  double weight, missed;
};

/// The value at `place` of the plane through the observations by weighted least squares; slopes
/// that they do not determine are 0.
double plane_at(const Place &place, std::span<const Observation> observations) {
  const std::size_t size = place.log_sizes.size() + 1;
  std::vector<double> a(size * size), b(size), row(size);
  double heaviest = 0;
  for (const Observation &o : observations) heaviest = std::max(heaviest, o.weight);
  for (const Observation &o : observations) {
    row[0] = 1;
    for (std::size_t i = 1; i < size; ++i)
      row[i] = o.point->place.log_sizes[i - 1] - place.log_sizes[i - 1];
    const double weight = o.weight / heaviest;
    for (std::size_t i = 0; i < size; ++i) {
      b[i] += weight * row[i] * o.missed;
      for (std::size_t j = 0; j < size; ++j) a[i * size + j] += weight * row[i] * row[j];
    }
  }
  for (std::size_t i = 1; i < size; ++i) a[i * size + i] += 0.01;  // keeps slopes finite
  // Elimination from the last unknown to the first; the matrix is positive definite.
  for (std::size_t k = size; k-- > 1;)
    for (std::size_t i = 0; i < k; ++i) {
      const double factor = a[i * size + k] / a[k * size + k];
      for (std::size_t j = 0; j <= k; ++j) a[i * size + j] -= factor * a[k * size + j];
      b[i] -= factor * b[k];
    }
  return b[0] / a[0];
}

}  // namespace

Place Place::of(const Shape &shape) {
  Place place;
  for (const auto &[name, value] : shape.items()) {
    place.regime += place.regime.empty() ? name : "," + name;
    if (const auto number = shape.number(name, 0))
      place.log_sizes.push_back(std::log2(std::max(*number, 1.0)));
    else
      place.regime += "=" + value;
  }
  return place;
}

double Place::distance(const Place &other) const noexcept {
  double sum = 0;
  for (std::size_t i = 0; i < std::min(log_sizes.size(), other.log_sizes.size()); ++i)
    sum += (log_sizes[i] - other.log_sizes[i]) * (log_sizes[i] - other.log_sizes[i]);
  return std::sqrt(sum);
}

double Prediction::uncertainty() const noexcept {
  return points == 0 ? 1 : std::min(1.0, 0.03 + 0.10 * distance);
}

Prediction predict(std::span<const TimedPlace> points, const Place &place, const Work &work) {
  std::vector<std::pair<double, const TimedPlace *>> near;
  for (const TimedPlace &p : points)
    if (p.timing.ns > 0) near.emplace_back(p.place.distance(place), &p);
  Prediction out;
  if (near.empty()) return out;
  std::ranges::sort(near);
  if (near.size() > kNeighbours) near.resize(kNeighbours);
  std::vector<const TimedPlace *> nearest;
  for (const auto &[distance, p] : near) nearest.push_back(p);

  // The affine model only where it fits as it stands: what it misses differs from kernel to kernel
  // and would decide between them. Work alone is missed by all of them alike.
  Terms cost = fit(nearest);
  const auto missed = [&](const TimedPlace *p) {
    return std::log(p->timing.ns) - std::log(std::max(dot(cost, terms(p->timing.work)), 1e-9));
  };
  constexpr double kFits = 0.05;
  if (nearest.size() <= kTerms || !(dot(cost, terms(work)) > 0) ||
      !std::ranges::all_of(nearest, [&](const auto *p) { return std::abs(missed(p)) < kFits; }))
    cost = {0, 1, 8};
  std::vector<Observation> observed;
  for (const auto &[distance, p] : near)
    observed.push_back({p, 1 / (distance * distance + 0.3), missed(p)});
  out.ns = std::exp(std::log(std::max(dot(cost, terms(work)), 1e-9)) + plane_at(place, observed));
  out.distance = near.front().first;
  out.points = static_cast<int>(near.size());
  return out;
}

}  // namespace switchyard
