// SPDX-License-Identifier: Apache-2.0
// Blocks that are encoded many side by side: every place in a batch, and what takes it apart.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "kernels.hpp"
#include "ops/quantize_formats.hpp"

namespace switchyard::test {
namespace {

struct Choice {
  std::uint32_t format;
  std::uint32_t group;
  std::uint32_t rule = SY_SCALE_DEFAULT;
};
constexpr Choice kChoices[] = {
    {SY_QUANT_Q4_0, 0},
    {SY_QUANT_Q4_1, 0},
    {SY_QUANT_Q5_0, 0},
    {SY_QUANT_Q5_1, 0},
    {SY_QUANT_Q8_0, 0},
    {SY_QUANT_Q2_0, 0},
    {SY_QUANT_Q2_0, 0, SY_SCALE_ABSMEAN},
    {SY_QUANT_MXFP4_GGML, 0},
    {SY_QUANT_MXFP4_GGML, 0, SY_SCALE_RCEIL},
    {SY_QUANT_MXFP4, 0},
    {SY_QUANT_MXFP4, 0, SY_SCALE_FLOOR},
    {SY_QUANT_MLX_AFFINE2, 32},
    {SY_QUANT_MLX_AFFINE3, 32},
    {SY_QUANT_MLX_AFFINE3, 64},
    {SY_QUANT_MLX_AFFINE4, 64},
    {SY_QUANT_MLX_AFFINE4, 128},
    {SY_QUANT_MLX_AFFINE5, 32},
    {SY_QUANT_MLX_AFFINE6, 32},
    {SY_QUANT_MLX_AFFINE6, 128},
    {SY_QUANT_MLX_AFFINE8, 32},
};

/// Blocks of different kinds one after the other, each drawn on its own.
std::vector<float> mixed_blocks(std::size_t blocks, std::size_t block, std::mt19937 &rng) {
  std::normal_distribution<float> normal;
  std::vector<float> x;
  for (std::size_t b = 0; b < blocks; ++b) {
    const auto kind = rng() % 9;
    const float step = std::ldexp(1.0f, static_cast<int>(rng() % 21) - 10);
    for (std::size_t i = 0; i < block; ++i) {
      const float v = normal(rng);
      switch (kind) {
        case 0:  // both signs of the largest magnitude
          x.push_back((rng() % 2 == 0 ? step : -step) * (rng() % 4 == 0 ? 1.0f : 0.5f));
          break;
        case 1:  // grids, where quotients are ties
          x.push_back(std::rint(v * 4) * step);
          break;
        case 2:
          x.push_back(rng() % 2 == 0 ? 0.0f : -0.0f);
          break;
        case 3:  // the least value is a zero of either sign
          x.push_back(rng() % 3 == 0 ? std::copysign(0.0f, v) : std::abs(v));
          break;
        case 4:  // 1/d is infinite
          x.push_back(v * 1e-40f);
          break;
        case 5:
          x.push_back(-std::abs(v) - step);
          break;
        case 6:  // of one value
          x.push_back(step * 1.7f);
          break;
        default:
          x.push_back(v * step);
      }
    }
  }
  return x;
}

class Batches : public testing::TestWithParam<Choice> {
 protected:
  sy_quantize_params params(std::uint32_t nonfinite = SY_NONFINITE_ERROR) const {
    sy_quantize_params p =
        params_of(GetParam().format, GetParam().group, SY_GRANULARITY_TENSOR, nonfinite);
    p.scale_rule = GetParam().rule;
    return p;
  }
  std::size_t unit() const {
    return static_cast<std::size_t>(quant_unit(*find_quant_format(GetParam().format), params()));
  }
  /// Quantises on all backends; the reference's answer decides.
  void expect_equal(const TensorView &x, const sy_quantize_params &p) const {
    const auto all = backends();
    const Arrays want = quantize(all.front(), x, p);
    for (const Backend &backend : all) {
      const Arrays got = quantize(backend, x, p);
      ASSERT_EQ(got.status, want.status) << backend.name;
      if (want.status != SY_OK) {
        ASSERT_EQ(got.error.index, want.error.index) << backend.name;
        continue;
      }
      ASSERT_EQ(bytes_of(got.codes), bytes_of(want.codes)) << backend.name;
      if (!want.scales.present()) continue;
      ASSERT_EQ(bytes_of(got.scales), bytes_of(want.scales)) << backend.name;
      if (!want.biases.present()) continue;
      ASSERT_EQ(bytes_of(got.biases), bytes_of(want.biases)) << backend.name;
    }
  }
};

TEST_P(Batches, EveryLengthAndKind) {
  std::mt19937 rng(1);
  for (std::size_t blocks = 1; blocks <= 70; blocks = blocks < 36 ? blocks + 1 : blocks + 17) {
    const std::vector<float> x = mixed_blocks(blocks, unit(), rng);
    const std::int64_t shape[] = {static_cast<std::int64_t>(x.size())};
    SCOPED_TRACE(blocks);
    expect_equal(TensorView(x.data(), dtypes::f32, shape), params());
    std::vector<std::uint16_t> half(x.size());
    for (std::size_t i = 0; i < x.size(); ++i)
      half[i] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x[i]) >> 16);
    expect_equal(TensorView(half.data(), dtypes::bf16, shape), params());
  }
}

TEST_P(Batches, OneBadBlockAnywhere) {
  std::mt19937 rng(2);
  const std::size_t blocks = 37;
  std::vector<float> x = mixed_blocks(blocks, unit(), rng);
  const std::int64_t shape[] = {static_cast<std::int64_t>(x.size())};
  const TensorView view(x.data(), dtypes::f32, shape);
  for (std::size_t b = 0; b < blocks; ++b)
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                            -std::numeric_limits<float>::infinity(), 3e38f, 1e20f}) {
      const std::size_t at = b * unit() + rng() % unit();
      const std::size_t with = b * unit() + rng() % unit();
      const float first = x[at], second = x[with];
      x[with] = -3e38f;  // with 3e38 the range overflows
      x[at] = bad;
      SCOPED_TRACE(fmt::format("{} at {} of block {}", bad, at, b));
      expect_equal(view, params());
      expect_equal(view, params(SY_NONFINITE_SATURATE));
      x[with] = second;
      x[at] = first;
    }
}

INSTANTIATE_TEST_SUITE_P(Formats, Batches, testing::ValuesIn(kChoices), [](const auto &one) {
  const Choice &c = one.param;
  return fmt::format("{}_{}_{}", find_quant_format(c.format)->name, c.group,
                     scale_rule_name(c.rule));
});

}  // namespace
}  // namespace switchyard::test
