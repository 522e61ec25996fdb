// SPDX-License-Identifier: Apache-2.0
#include "models/bits.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace switchyard::models {
namespace {

using Tensors = std::vector<std::vector<StoreOption>>;

/// The least error of all choices within the budget; infinity if none is.
double best_of_all(const Tensors &tensors, std::uint64_t budget, std::size_t t = 0) {
  if (t == tensors.size()) return 0;
  double best = std::numeric_limits<double>::infinity();
  for (const StoreOption &o : tensors[t])
    if (o.bytes <= budget)
      best = std::min(best, o.error + best_of_all(tensors, budget - o.bytes, t + 1));
  return best;
}

TEST(Allocate, AgainstAllChoices) {
  std::mt19937 random(7);
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  for (int round = 0; round < 300; ++round) {
    Tensors tensors(static_cast<std::size_t>(pick(1, 5)));
    std::uint64_t least = 0, most = 0;
    for (auto &options : tensors) {
      const int size = pick(1, 40);
      for (int bits = pick(1, 3); bits <= 8; bits += pick(1, 3))
        options.push_back({static_cast<std::uint64_t>(size * bits + pick(0, 5)),
                           size * std::pow(4.0, -bits) * (1 + 0.3 * pick(0, 9))});
      const auto by_size = [](const StoreOption &a, const StoreOption &b) {
        return a.bytes < b.bytes;
      };
      least += std::ranges::min_element(options, by_size)->bytes;
      most += std::ranges::max_element(options, by_size)->bytes;
    }
    const auto budget =
        static_cast<std::uint64_t>(pick(static_cast<int>(least), static_cast<int>(most)));
    const auto got = allocate(tensors, budget);
    ASSERT_TRUE(got) << got.error().message;
    double error = 0;
    std::uint64_t bytes = 0;
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      error += tensors[t][got->chosen[t]].error;
      bytes += tensors[t][got->chosen[t]].bytes;
    }
    EXPECT_LE(bytes, budget);
    EXPECT_EQ(bytes, got->bytes);
    EXPECT_DOUBLE_EQ(error, got->error);
    const double best = best_of_all(tensors, budget);
    EXPECT_GE(error, best * (1 - 1e-12));
    EXPECT_LE(got->bound, best * (1 + 1e-12));
    EXPECT_LE(error, best * (1 + 1e-12));  // few combinations: all were tried
    if (least > 0) {
      EXPECT_FALSE(allocate(tensors, least - 1).has_value());
    }
  }
}

TEST(Allocate, ManyTensorsComeCloseToTheBound) {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> scale(0.1, 10);
  Tensors tensors(200);
  std::uint64_t budget = 0;
  for (auto &options : tensors) {
    const double s = scale(random);
    for (int bits : {2, 3, 4, 5, 6, 8})
      options.push_back({static_cast<std::uint64_t>(bits) * 1'000, s * std::pow(4.0, -bits)});
    budget += 4'500;
  }
  const auto got = allocate(tensors, budget);
  ASSERT_TRUE(got);
  EXPECT_LT(got->error, got->bound * 1.01);
  double uniform = 0;
  for (const auto &options : tensors) uniform += options[2].error;
  EXPECT_LT(got->error, uniform * 0.8);
}

}  // namespace
}  // namespace switchyard::models
