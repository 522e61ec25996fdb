// SPDX-License-Identifier: Apache-2.0
#include "measure/model.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace switchyard {
namespace {

constexpr std::size_t kNeighbours = 8;
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

  Terms cost = fit(nearest);
  if (nearest.size() < kTerms || !(dot(cost, terms(work)) > 0)) cost = {0, 1, 8};  // by work alone
  const auto modelled = [&](const Work &w) {
    return std::log(std::max(dot(cost, terms(w)), 1e-9));
  };
  double missed = 0, weights = 0;
  for (const auto &[distance, p] : near) {
    const double weight = 1 / (distance * distance + 1e-3);
    missed += weight * (std::log(p->timing.ns) - modelled(p->timing.work));
    weights += weight;
  }
  out.ns = std::exp(modelled(work) + missed / weights);
  out.distance = near.front().first;
  out.points = static_cast<int>(near.size());
  return out;
}

}  // namespace switchyard
