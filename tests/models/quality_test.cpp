// SPDX-License-Identifier: Apache-2.0
#include "models/quality.hpp"

#include <algorithm>
#include <map>

#include "model_support.hpp"

namespace switchyard::test {
namespace {

/// One block or group of values whose sub-blocks are alike, so that each code stands for one value.
Tensor one_unit(std::int64_t n) {
  auto x = Tensor::empty(dtypes::f32, std::vector<std::int64_t>{1, n});
  for (std::int64_t i = 0; i < n; ++i) {
    const auto k = static_cast<float>(i % 16);
    x->data<float>()[i] = 0.25f * (k - 7) * (k < 4 ? 1.0f : 0.5f);
  }
  return std::move(*x);
}

TEST(CountCodes, EachCodeStandsForOneValue) {
  Engine engine = testing::make_engine();
  for (const QuantFormat &f : quant_formats()) {
    SCOPED_TRACE(f.name);
    const std::int64_t n = f.block != 0 ? f.block : f.group_sizes.empty() ? 64 : f.group_sizes[0];
    const Tensor x = one_unit(n);
    QuantizeOptions options;
    options.format = f.name;
    const auto q = engine.quantize(x, options);
    ASSERT_TRUE(q) << q.error().text();
    const auto y = engine.dequantize(*q);
    ASSERT_TRUE(y);
    std::vector<std::uint64_t> histogram;
    models::count_codes(f, {q->codes.data<const std::byte>(), q->codes.bytes()}, histogram);
    ASSERT_FALSE(histogram.empty());
    std::map<float, std::uint64_t> values;
    for (std::int64_t i = 0; i < n; ++i) ++values[y->data<const float>()[i] + 0.0f];
    std::vector<std::uint64_t> by_value, by_code;
    for (const auto &[value, count] : values) by_value.push_back(count);
    for (std::uint64_t count : histogram)
      if (count > 0) by_code.push_back(count);
    // E2M1 has its sign in the highest bit; elsewhere codes rise, or fall where the scale is
    // negative.
    if (f.name.starts_with("mxfp4")) {
      std::ranges::sort(by_value);
      std::ranges::sort(by_code);
    } else if (by_code != by_value) {
      std::ranges::reverse(by_code);
    }
    EXPECT_EQ(by_code, by_value);
    EXPECT_GT(by_code.size(), 2u);
  }
}

TEST(AddErrors, AgreesWithPlainSums) {
  for (DType dtype : {dtypes::f32, dtypes::f16, dtypes::bf16}) {
    const Tensor x = weights({3, 101}, dtype);
    const Tensor wide = std::move(*cast(x, dtypes::f32));
    const Tensor y = weights({3, 101}, dtypes::f32, 9);
    TensorQuality q;
    models::add_errors(x, y.data<const float>(), q);
    models::add_errors(x, y.data<const float>(), q);
    double error = 0, signal = 0, most = 0;
    for (std::int64_t i = 0; i < 303; ++i) {
      const double a = static_cast<double>(wide.data<const float>()[i]);
      const double d = a - static_cast<double>(y.data<const float>()[i]);
      error += d * d;
      signal += a * a;
      most = std::max(most, std::fabs(d));
    }
    EXPECT_EQ(q.values, 606);
    EXPECT_NEAR(q.squared_error, 2 * error, 1e-12 * error);
    EXPECT_NEAR(q.squared_signal, 2 * signal, 1e-12 * signal);
    EXPECT_NEAR(q.max_error, most, 1e-7);
    EXPECT_NEAR(q.mse(), error / 303, 1e-12);
  }
  EXPECT_TRUE(std::isinf(TensorQuality{0, 1, 0, 1, {}}.snr_db()));
}

}  // namespace
}  // namespace switchyard::test
