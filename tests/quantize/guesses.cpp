// SPDX-License-Identifier: Apache-2.0
// Ternary tensors so large that kernels guess the mean and correct what the guess got wrong: right
// guesses, wrong ones and none must all give the reference's bytes.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels.hpp"

namespace switchyard::test {
namespace {

constexpr std::size_t kValues = (32u << 20) / sizeof(float) + 128 * 37;

/// Reproducible and quick: sums of two uniform numbers.
std::vector<float> tents() {
  std::vector<float> x(kValues);
  std::uint64_t state = 1;
  for (float &v : x) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    v = static_cast<float>((state >> 40) + (state >> 16 & 0xFFFFFF)) * 0x1p-24f - 1.0f;
  }
  return x;
}

class Guesses : public testing::TestWithParam<std::uint32_t> {
 protected:
  static void expect_equal(const TensorView &x, std::uint32_t format) {
    const sy_quantize_params p = params_of(format, format == SY_QUANT_TERN2 ? 64 : 0);
    const auto all = backends();
    const Arrays want = quantize(all.front(), x, p);
    for (const Backend &backend : all) {
      const Arrays got = quantize(backend, x, p);
      ASSERT_EQ(got.status, want.status) << backend.name;
      ASSERT_EQ(got.error.index, want.error.index) << backend.name;
      if (want.status != SY_OK) continue;
      // Strings of megabytes in a failure's text help nobody.
      ASSERT_TRUE(bytes_of(got.codes) == bytes_of(want.codes)) << backend.name;
      if (!want.scales.present()) continue;
      ASSERT_TRUE(bytes_of(got.scales) == bytes_of(want.scales)) << backend.name;
      if (!want.biases.present()) continue;
      ASSERT_TRUE(bytes_of(got.biases) == bytes_of(want.biases)) << backend.name;
    }
  }
  void expect_equal(const std::vector<float> &x) const {
    const std::int64_t shape[] = {static_cast<std::int64_t>(x.size()) / 128, 128};
    expect_equal(TensorView(x.data(), dtypes::f32, shape), GetParam());
  }
};

TEST_P(Guesses, GoodOnes) {
  std::vector<float> x = tents();
  expect_equal(x);
  std::vector<std::uint16_t> half;
  for (int twice = 0; twice < 2; ++twice)
    for (const float v : x)
      half.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(v) >> 16));
  const std::int64_t shape[] = {static_cast<std::int64_t>(half.size()) / 128, 128};
  expect_equal(TensorView(half.data(), dtypes::bf16, shape), GetParam());
}

TEST_P(Guesses, WrongOnes) {
  std::vector<float> x = tents();
  // What no sample sees: every block but a few is like the others, one holds most of the mean.
  x[kValues - 5000] = 1e6f;
  expect_equal(x);
  x[kValues - 5000] = -3e38f;
  expect_equal(x);
}

TEST_P(Guesses, NoneOrTooManyDoubtful) {
  std::vector<float> x = tents();
  std::sort(x.begin(), x.end());  // blocks differ too much
  expect_equal(x);
  // Most values stand at the threshold: half of their mean magnitude.
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = (i % 2 == 0 ? 1.0f : -1.0f) * (i % 5 == 4 ? 3.0f : 0.5f);
  expect_equal(x);
  std::fill(x.begin(), x.end(), 0.0f);
  expect_equal(x);
}

TEST_P(Guesses, ErrorsNameTheFirst) {
  std::vector<float> x = tents();
  x[kValues - 3] = std::numeric_limits<float>::infinity();
  expect_equal(x);
  x[3'000'001] = std::numeric_limits<float>::quiet_NaN();
  expect_equal(x);
}

INSTANTIATE_TEST_SUITE_P(Containers, Guesses,
                         testing::Values(SY_QUANT_TERNARY, SY_QUANT_TERN2, SY_QUANT_I2_S),
                         [](const auto &one) {
                           return one.param == SY_QUANT_TERNARY ? "ternary"
                                  : one.param == SY_QUANT_TERN2 ? "tern2"
                                                                : "i2_s";
                         });

}  // namespace
}  // namespace switchyard::test
