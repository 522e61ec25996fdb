// SPDX-License-Identifier: Apache-2.0
// Parts of quantised tensors and round trips from C++. Every format: tests/python.
#include <switchyard/progress.hpp>
#include <switchyard/quantize.hpp>

#include <cmath>
#include <cstring>
#include <limits>

#include "support/engine_support.hpp"

namespace switchyard {
namespace {

using testing::make_engine;
using testing::test_options;

class QuantizeParts : public ::testing::Test {
 protected:
  QuantizeParts() : x(kRows * kColumns) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i) * 0.37f);
  }
  TensorView view() const { return {x.data(), {kRows, kColumns}}; }
  TensorView writable() {
    const std::int64_t shape[] = {kRows, kColumns};
    return TensorView(static_cast<void *>(x.data()), dtypes::f32, shape);
  }

  static constexpr std::int64_t kRows = 26'000, kColumns = 256;  // in place: pieces and a rest
  std::vector<float> x;
  Engine engine = make_engine(test_options());
};

TEST_F(QuantizeParts, RowsAndColumns) {
  const auto q = engine.quantize(view(), {.format = "mlx_affine4", .group_size = 64});
  ASSERT_TRUE(q) << q.error().text();
  const auto whole = engine.dequantize(*q);
  ASSERT_TRUE(whole);
  RunInfo info;
  const std::int64_t rows[] = {25'999, 4, 4};
  const auto part = dequantize_part(
      engine, *q, {.row_list = rows, .first_column = 64, .columns = 128}, {}, &info);
  ASSERT_TRUE(part) << part.error().text();
  EXPECT_EQ(shape_text(part->shape()), "[3, 128]");
  EXPECT_FALSE(info.backend.empty());
  for (std::int64_t i = 0; i < 3; ++i)
    EXPECT_EQ(std::memcmp(part->data<float>() + i * 128,
                          whole->data<float>() + rows[i] * kColumns + 64, 128 * sizeof(float)),
              0)
        << i;
  EXPECT_EQ(dequantize_part(engine, *q, {.first_row = kRows})->elements(), 0);
  EXPECT_EQ(dequantize_part(engine, *q, {.first_row = kRows - 1, .rows = 2}).error().code,
            ErrorCode::shape);
  EXPECT_EQ(dequantize_part(engine, *q, {.first_column = 32}).error().code, ErrorCode::shape);
  EXPECT_EQ(dequantize_part(engine, *q, {.first_row = -1}).error().code, ErrorCode::shape);
}

TEST_F(QuantizeParts, RoundTripsInPlaceAndTheirErrors) {
  const auto q = engine.quantize(view(), {.format = "q5_1"});
  ASSERT_TRUE(q);
  const auto want = engine.dequantize(*q);
  ASSERT_TRUE(want);
  const std::vector<float> before = x;
  const auto again = round_trip(engine, view(), {.format = "q5_1"}, writable());
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(again->data<float>(), x.data());
  EXPECT_EQ(std::memcmp(x.data(), want->data(), x.size() * sizeof(float)), 0);
  x = before;
  // Of two bad values in different pieces the first is named, whoever meets it.
  x[x.size() - 5] = x[100'000] = std::numeric_limits<float>::infinity();
  const auto bad = round_trip(engine, view(), {.format = "q5_1"}, writable());
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, ErrorCode::nonfinite);
  EXPECT_EQ(bad.error().index, 100'000);
  QuantizeOptions options{.format = "q5_1"};
  options.codes_out = view();
  EXPECT_EQ(round_trip(engine, view(), options).error().code, ErrorCode::invalid_argument);
}

TEST_F(QuantizeParts, RoundTripsCanBeCancelled) {
  const ProgressScope scope([](double) { return false; });
  for (const TensorView &out : {TensorView(), writable()}) {
    const auto y = round_trip(engine, view(), {.format = "q8_0"}, out);
    ASSERT_FALSE(y);
    EXPECT_EQ(y.error().code, ErrorCode::cancelled);
  }
}

}  // namespace
}  // namespace switchyard
