// SPDX-License-Identifier: Apache-2.0
#include "base/suggest.hpp"

#include <gtest/gtest.h>

#include <array>

namespace switchyard {
namespace {

constexpr std::array<std::string_view, 6> kKnown = {"policy",      "threads", "preset",
                                                    "mlx_affine4", "q4_0",    "k"};

TEST(Suggest, FindsTypos) {
  EXPECT_EQ(nearest_name("polcy", kKnown), "policy");
  EXPECT_EQ(nearest_name("thread", kKnown), "threads");
  EXPECT_EQ(nearest_name("prseet", kKnown), "preset");  // one swap, one more edit
  EXPECT_EQ(nearest_name("MLX-Affine4", kKnown), "mlx_affine4");
  EXPECT_EQ(nearest_name("mlxaffine4", kKnown), "mlx_affine4");
  EXPECT_EQ(nearest_name("q4_9", kKnown), "q4_0");
}

TEST(Suggest, OffersNothingFar) {
  EXPECT_EQ(nearest_name("bananas", kKnown), "");
  EXPECT_EQ(nearest_name("", kKnown), "");
  EXPECT_EQ(nearest_name("x", kKnown), "");  // replacing its one letter is no likeness
  EXPECT_EQ(nearest_name(std::string(100000, 'k'), kKnown), "");
  EXPECT_EQ(nearest_name("k", {}), "");
}

TEST(Suggest, FirstOfEqualsWins) {
  constexpr std::array<std::string_view, 2> two = {"abcd", "abce"};
  EXPECT_EQ(nearest_name("abcx", two), "abcd");
}

TEST(Suggest, Text) {
  EXPECT_EQ(did_you_mean("polcy", kKnown), "; did you mean 'policy'?");
  EXPECT_EQ(did_you_mean("bananas", kKnown), "");
}

}  // namespace
}  // namespace switchyard
