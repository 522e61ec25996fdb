// SPDX-License-Identifier: Apache-2.0
// Where NaN and infinities may show, and where not.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels.hpp"

namespace switchyard::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

/// Causal, every score 0 but those of key `bad`, whose k is `value`.
Case poisoned(std::int64_t length, std::int64_t bad, float value) {
  Case c;
  c.q = *Tensor::empty(dtypes::f32, std::array<std::int64_t, 4>{1, 2, length, 3});
  std::fill_n(c.q.data<float>(), c.q.elements(), 1.0f);
  c.k = *Tensor::zeros(dtypes::f32, std::array<std::int64_t, 4>{1, 1, length, 3});
  c.v = *Tensor::empty(dtypes::f32, std::array<std::int64_t, 4>{1, 1, length, 2});
  std::fill_n(c.v.data<float>(), c.v.elements(), 2.0f);
  c.k.data<float>()[bad * 3 + 1] = value;
  c.params.causal = SY_CAUSAL_BOTTOM_RIGHT;
  return c;
}

/// Rows from `bad` on are NaN, the others 2.
void expect_rows(const Case &c, std::int64_t length, std::int64_t bad) {
  for (std::int64_t h = 0; h < 2; ++h)
    for (std::int64_t i = 0; i < length; ++i) {
      const auto row = static_cast<std::size_t>(h * length + i);
      for (std::size_t e = 0; e < 2; ++e) {
        if (i >= bad)
          ASSERT_TRUE(std::isnan(c.o[row * 2 + e])) << "row " << i;
        else
          ASSERT_NEAR(c.o[row * 2 + e], 2, 1e-6) << "row " << i;
      }
      ASSERT_EQ(std::isnan(c.lse[row]), i >= bad) << "row " << i;
    }
}

TEST(Nonfinite, AVisibleNaNKeyPoisonsExactlyTheRowsThatSeeIt) {
  for (const std::int64_t bad : {0, 5, 70, 129}) {
    Case c = poisoned(130, bad, NAN);
    on_all(c, [&] { expect_rows(c, 130, bad); });
  }
}

TEST(Nonfinite, EveryPayloadOfNaNCounts) {
  for (const std::uint32_t bits : {0x7F800001u, 0x7FFFFFFFu, 0xFFFFFFFFu, 0xFF800100u}) {
    Case c = poisoned(40, 7, std::bit_cast<float>(bits));
    on_all(c, [&] { expect_rows(c, 40, 7); });
  }
}

TEST(Nonfinite, APlusInfiniteScorePoisonsItsRows) {
  Case c = poisoned(100, 60, kInf);
  on_all(c, [&] { expect_rows(c, 100, 60); });
}

TEST(Nonfinite, AMinusInfiniteScoreWeighsNothing) {
  Case c = poisoned(100, 60, -kInf);
  on_all(c, [&] {
    for (const float x : c.o) ASSERT_NEAR(x, 2, 1e-6);
    for (std::size_t i = 0; i < 100; ++i)
      ASSERT_NEAR(c.lse[i], std::log(static_cast<double>(i + (i >= 60 ? 0 : 1))), 1e-5);
  });
}

TEST(Nonfinite, NothingButMinusInfinityCountsAsNothingSeen) {
  Case c = poisoned(3, 0, -kInf);
  on_all(c, [&] {
    EXPECT_EQ(c.o[0], 0);
    EXPECT_EQ(c.lse[0], -kInf);
  });
}

TEST(Nonfinite, MaskedKeysDoNotLeak) {
  for (const bool additive : {false, true}) {
    Case c = poisoned(100, 60, NAN);
    std::vector<float> bias(100 * 100, 0);
    std::vector<std::uint8_t> bits(100 * 100, 1);
    for (std::size_t i = 0; i < 100; ++i) {
      bias[i * 100 + 60] = -kInf;
      bits[i * 100 + 60] = 0;
    }
    const std::array<std::int64_t, 4> shape{1, 2, 100, 100}, strides{0, 0, 100, 1};
    c.mask = additive ? TensorView(bias.data(), dtypes::f32, shape, strides)
                      : TensorView(bits.data(), dtypes::boolean, shape, strides);
    on_all(c, [&] {
      for (const float x : c.o) ASSERT_NEAR(x, 2, 1e-6);
    });
  }
}

TEST(Nonfinite, ANaNQueryPoisonsOnlyItself) {
  Case c = poisoned(70, 0, 0);
  c.q.data<float>()[(70 + 33) * 3] = NAN;  // head 1, row 33
  on_all(c, [&] {
    for (std::size_t row = 0; row < 140; ++row)
      ASSERT_EQ(std::isnan(c.o[row * 2]), row == 103) << row;
  });
}

TEST(Nonfinite, ANaNInTheMaskPoisonsItsRow) {
  Case c = poisoned(50, 0, 0);
  std::vector<float> bias(50 * 50, 0);
  bias[20 * 50 + 3] = NAN;
  const std::array<std::int64_t, 4> shape{1, 2, 50, 50}, strides{0, 0, 50, 1};
  c.mask = TensorView(bias.data(), dtypes::f32, shape, strides);
  on_all(c, [&] {
    for (std::size_t row = 0; row < 100; ++row)
      ASSERT_EQ(std::isnan(c.o[row * 2]), row % 50 == 20) << row;
  });
}

TEST(Nonfinite, SkippedKeysMayHoldAnyValue) {
  Case c = poisoned(1000, 0, 0);
  c.params.window_left = 9;
  for (std::int64_t j = 0; j < 500; ++j) c.v.data<float>()[j * 2] = NAN;
  on_all(c, [&] {
    for (std::size_t i = 700; i < 1000; ++i) ASSERT_NEAR(c.o[i * 2], 2, 1e-6);
  });
}

}  // namespace
}  // namespace switchyard::test
