// SPDX-License-Identifier: Apache-2.0
#include "models/bits.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>

namespace switchyard::models {
namespace {

constexpr double kFewCombinations = 1e6;

double gain(const StoreOption &from, const StoreOption &to) noexcept {
  return (from.error - to.error) / static_cast<double>(to.bytes - from.bytes);
}

/// The options on the lower convex hull, by rising size and falling error.
std::vector<std::size_t> hull_of(const std::vector<StoreOption> &options) {
  std::vector<std::size_t> order(options.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(
      order, {}, [&](std::size_t i) { return std::tuple(options[i].bytes, options[i].error, i); });
  std::vector<std::size_t> hull;
  for (std::size_t i : order) {
    if (!hull.empty() && options[i].error >= options[hull.back()].error) continue;
    while (hull.size() > 1 && gain(options[hull[hull.size() - 2]], options[hull.back()]) <=
                                  gain(options[hull.back()], options[i]))
      hull.pop_back();
    hull.push_back(i);
  }
  return hull;
}

struct Step {
  std::size_t tensor, from, to;
  double gain;
};

/// The single exchange that lowers the error most within what is left.
bool improve(std::span<const std::vector<StoreOption>> tensors, std::uint64_t budget,
             Allocation &all) {
  double best = 0;
  std::size_t tensor = 0, option = 0;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const StoreOption &now = tensors[t][all.chosen[t]];
    for (std::size_t i = 0; i < tensors[t].size(); ++i) {
      const StoreOption &other = tensors[t][i];
      if (all.bytes - now.bytes + other.bytes > budget || now.error - other.error <= best) continue;
      best = now.error - other.error;
      tensor = t;
      option = i;
    }
  }
  if (best <= 0) return false;
  all.bytes += tensors[tensor][option].bytes - tensors[tensor][all.chosen[tensor]].bytes;
  all.chosen[tensor] = option;
  return true;
}

/// Tries everything, for few tensors: there a single step is a large part of the budget, and
/// walking the hulls can miss the best choice by far.
class Exhaustive {
 public:
  Exhaustive(std::span<const std::vector<StoreOption>> tensors, Allocation &all)
      : tensors_(tensors), all_(all), trial_(all.chosen), least_(tensors.size() + 1) {
    for (std::size_t t = tensors.size(); t-- > 0;)
      least_[t] = least_[t + 1] + std::ranges::min(tensors[t], {}, &StoreOption::error).error;
  }
  /// `left` bytes are there for tensors from `t` on; those before have cost `error`.
  void search(std::size_t t, std::uint64_t left, double error) {
    if (t == tensors_.size()) {
      best_ = error;
      all_.chosen = trial_;
      return;
    }
    for (std::size_t i = 0; i < tensors_[t].size(); ++i) {
      const StoreOption &o = tensors_[t][i];
      if (o.bytes > left || error + o.error + least_[t + 1] >= best_) continue;
      trial_[t] = i;
      search(t + 1, left - o.bytes, error + o.error);
    }
  }

 private:
  std::span<const std::vector<StoreOption>> tensors_;
  Allocation &all_;
  std::vector<std::size_t> trial_;
  std::vector<double> least_;
  double best_ = std::numeric_limits<double>::infinity();
};

}  // namespace

Result<Allocation> allocate(std::span<const std::vector<StoreOption>> tensors,
                            std::uint64_t budget) {
  Allocation all;
  std::vector<Step> steps;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const auto hull = hull_of(tensors[t]);
    all.chosen.push_back(hull.front());
    all.bytes += tensors[t][hull.front()].bytes;
    all.bound += tensors[t][hull.front()].error;
    for (std::size_t i = 1; i < hull.size(); ++i)
      steps.push_back(
          {t, hull[i - 1], hull[i], gain(tensors[t][hull[i - 1]], tensors[t][hull[i]])});
  }
  if (all.bytes > budget)
    return fail(
        ErrorCode::invalid_argument,
        fmt::format("the smallest choices need {} bytes, but the budget is {}", all.bytes, budget));
  std::ranges::stable_sort(steps, std::greater(), &Step::gain);
  bool bounded = false;
  for (const Step &s : steps) {
    const StoreOption &from = tensors[s.tensor][s.from], &to = tensors[s.tensor][s.to];
    const std::uint64_t more = to.bytes - from.bytes, left = budget - all.bytes;
    if (!bounded) {
      // The relaxed problem takes a part of the first step that does not fit, and stops.
      const double share = more <= left ? 1 : static_cast<double>(left) / static_cast<double>(more);
      all.bound -= share * (from.error - to.error);
      bounded = more > left;
    }
    if (all.chosen[s.tensor] != s.from || more > left) continue;
    all.chosen[s.tensor] = s.to;
    all.bytes += more;
  }
  while (improve(tensors, budget, all)) {
  }
  double combinations = 1;
  for (const auto &list : tensors) combinations *= static_cast<double>(list.size());
  if (combinations <= kFewCombinations) Exhaustive(tensors, all).search(0, budget, 0);
  all.bytes = 0;
  for (std::size_t t = 0; t < tensors.size(); ++t) all.bytes += tensors[t][all.chosen[t]].bytes;
  for (std::size_t t = 0; t < tensors.size(); ++t) all.error += tensors[t][all.chosen[t]].error;
  all.bound = std::clamp(all.bound, 0.0, all.error);
  return all;
}

}  // namespace switchyard::models
