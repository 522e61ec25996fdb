// SPDX-License-Identifier: Apache-2.0
// Quantise and dequantise as the engine offers them, over the reference kernels.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "base/status_codes.hpp"
#include "kernels.hpp"
#include "op/op_spec.hpp"
#include "ops/quantize_formats.hpp"
#include "quantize/quantize.hpp"

namespace switchyard::test {
namespace {

/// Answers every call with the reference kernels.
class ReferenceOnly final : public Runner {
 public:
  std::unique_ptr<States> make_states(std::uint64_t) override { return nullptr; }
  Status run(std::string_view op, sy_call &call, States *, Answer *answer) override {
    const OpSpec &spec = op == SY_OP_QUANTIZE ? quantize_spec() : dequantize_spec();
    if (auto ok = spec.validate(call); !ok) return ok;
    sy_error error{sizeof(sy_error), SY_OK, -1, {}};
    const std::int32_t status = test::run(backends().front(), op, call, &error);
    if (status != SY_OK) return tl::unexpected(from_abi(error, status, "reference"));
    answer->backend = "reference";
    return {};
  }
  std::uint32_t threads() const noexcept override { return 1; }
  void parallel_for(std::uint64_t n, const std::function<void(std::uint64_t)> &fn) override {
    for (std::uint64_t i = 0; i < n; ++i) fn(i);
  }
};

class Facade : public testing::Test {
 protected:
  Facade() {
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = std::sin(static_cast<float>(i) * 0.7f) * static_cast<float>(1 + i % 5);
  }
  TensorView view() const { return {x.data(), {3, 256}}; }

  ReferenceOnly runner;
  std::array<float, 3 * 256> x{};
};

TEST_F(Facade, RoundTripsEveryFormatWithinItsStep) {
  const std::pair<const char *, double> least_snr[] = {
      {"q4_0", 17},        {"q4_1", 17},        {"q5_0", 23},        {"q5_1", 23},
      {"Q8_0", 40},        {"Q4_K", 17},        {"q6_k", 29},        {"tq1_0", 3},
      {"tq2_0", 3},        {"q2_0", 3},         {"mxfp4_ggml", 14},  {"mxfp4", 14},
      {"mlx_affine2", 4},  {"mlx_affine3", 11}, {"MLX_affine4", 17}, {"mlx_affine5", 24},
      {"mlx_affine6", 30}, {"mlx_affine8", 42}, {"ternary", 3},      {"TERN2", 3},
      {"i2_s", 3},         {"int8", 35}};
  EXPECT_EQ(std::size(least_snr), quant_formats().size());
  for (const auto &[format, snr] : least_snr) {
    auto q = quantize(runner, view(), {.format = format});
    ASSERT_TRUE(q) << format << ": " << q.error().text();
    EXPECT_EQ(q->info.backend, "reference");
    EXPECT_GT(q->info.time_ms, 0);
    EXPECT_EQ(q->is_blocks(), !q->scales.present());
    auto y = dequantize(runner, *q, {}, nullptr);
    ASSERT_TRUE(y) << y.error().text();
    double signal = 0, noise = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      signal += x[i] * x[i];
      const double e = static_cast<double>(x[i]) - static_cast<double>(y->data<float>()[i]);
      noise += e * e;
    }
    EXPECT_GT(10 * std::log10(signal / noise), snr) << format;
  }
}

TEST_F(Facade, DefaultsAndShapes) {
  auto q = quantize(runner, view(), {.format = "mlx_affine4"});
  ASSERT_TRUE(q);
  EXPECT_EQ(q->group_size, 64);
  EXPECT_EQ(shape_text(q->codes.shape()), "[3, 32]");
  EXPECT_EQ(shape_text(q->scales.shape()), "[3, 4]");
  EXPECT_EQ(q->bytes(), 3u * 32 * 4 + 2 * 3 * 4 * 4);
  auto blocks = quantize(runner, view(), {.format = "q4_0"});
  ASSERT_TRUE(blocks);
  EXPECT_EQ(shape_text(blocks->codes.shape()), "[3, 144]");
  EXPECT_EQ(blocks->group_size, 0);
  auto ternary = quantize(runner, view(), {.format = "ternary", .granularity = "group"});
  ASSERT_TRUE(ternary);
  EXPECT_EQ(shape_text(ternary->scales.shape()), "[3, 4]");
}

TEST_F(Facade, OptionsReachTheKernels) {
  const auto bytes = [&](const QuantizeOptions &options) {
    auto q = quantize(runner, view(), options);
    EXPECT_TRUE(q) << q.error().text();
    return q ? bytes_of(q->codes) : std::string();
  };
  EXPECT_NE(bytes({.format = "tq2_0"}), bytes({.format = "tq2_0", .scale = "absmean"}));
  EXPECT_NE(bytes({.format = "mxfp4"}), bytes({.format = "mxfp4", .scale = "floor"}));
  QuantizeOptions one{.format = "int8", .granularity = "row", .rounding = "stochastic", .seed = 1};
  QuantizeOptions two = one;
  two.seed = 2;
  EXPECT_EQ(bytes(one), bytes(one));
  EXPECT_NE(bytes(one), bytes(two));
  EXPECT_NE(bytes(one), bytes({.format = "int8", .granularity = "row"}));
  EXPECT_EQ(quantize(runner, view(), {.format = "q4_0", .rounding = "stochastic"}).error().code,
            ErrorCode::invalid_argument);
  EXPECT_EQ(quantize(runner, view(), {.format = "int8", .rounding = "odd"}).error().code,
            ErrorCode::usage);
}

TEST_F(Facade, CallerOwnedArraysAreWritten) {
  std::vector<std::uint8_t> codes(3 * 144);
  const std::int64_t shape[] = {3, 144};
  QuantizeOptions options{.format = "q4_0"};
  options.codes_out = TensorView(static_cast<void *>(codes.data()), dtypes::u8, shape);
  auto q = quantize(runner, view(), options);
  ASSERT_TRUE(q) << q.error().text();
  EXPECT_EQ(q->codes.data<std::uint8_t>(), codes.data());
  EXPECT_NE(codes[2], 0);
  options.scales_out = options.codes_out;
  EXPECT_EQ(quantize(runner, view(), options).error().code, ErrorCode::invalid_argument);

  std::vector<std::uint16_t> y(3 * 300);
  const std::int64_t dims[] = {3, 256}, strides[] = {300, 1};
  const TensorView out(y.data(), dtypes::bf16, dims, strides);
  RunInfo info;
  auto back = dequantize(runner, *q, out, &info);
  ASSERT_TRUE(back) << back.error().text();
  EXPECT_EQ(back->data<std::uint16_t>(), y.data());
  EXPECT_EQ(info.backend, "reference");
  EXPECT_EQ(y[256], 0) << "the gap between rows was written to";
  EXPECT_NE(y[300], 0);
}

TEST_F(Facade, WrongInputsAreClearErrors) {
  const auto error = [&](const TensorView &t, const QuantizeOptions &options) {
    auto q = quantize(runner, t, options);
    EXPECT_FALSE(q);
    return q ? Error{} : q.error();
  };
  const Error format = error(view(), {.format = "q4_0x"});
  EXPECT_EQ(format.code, ErrorCode::usage);
  EXPECT_NE(format.message.find("did you mean 'q4_0'"), std::string::npos) << format.message;
  EXPECT_EQ(error(view(), {.format = "ternary", .granularity = "rows"}).code, ErrorCode::usage);
  EXPECT_EQ(error(view(), {.format = "q4_0", .scale = "absmen"}).code, ErrorCode::usage);
  EXPECT_EQ(error(view(), {.format = "q4_0", .nonfinite = "ignore"}).code, ErrorCode::usage);
  EXPECT_EQ(error(view(), {.format = "mlx_affine4", .group_size = -1}).code, ErrorCode::usage);
  EXPECT_EQ(error(view(), {.format = "mlx_affine4", .group_size = 48}).code,
            ErrorCode::invalid_argument);
  EXPECT_EQ(error(view(), {.format = "q4_0", .group_size = 32}).code, ErrorCode::invalid_argument);
  EXPECT_EQ(error(view(), {.format = "q4_0", .granularity = "row"}).code,
            ErrorCode::invalid_argument);
  EXPECT_EQ(error(view(), {.format = "q8_0", .scale = "absmean"}).code,
            ErrorCode::invalid_argument);

  const Error shape = error({x.data(), {2, 96}}, {.format = "tq2_0"});
  EXPECT_EQ(shape.code, ErrorCode::shape);
  EXPECT_NE(shape.message.find("[2, 96]"), std::string::npos) << shape.message;
  EXPECT_NE(shape.message.find(
                "q4_0, q4_1, q5_0, q5_1, q8_0, mxfp4_ggml, mxfp4, mlx_affine2 (group size 32)"),
            std::string::npos)
      << shape.message;
  EXPECT_EQ(error({}, {.format = "q4_0"}).code, ErrorCode::dtype);

  const std::int64_t dims[] = {3, 64}, strides[] = {64, 2};
  EXPECT_EQ(error(TensorView(const_cast<float *>(x.data()), dtypes::f32, dims, strides),
                  {.format = "q4_0"})
                .code,
            ErrorCode::shape);
  const std::int64_t whole[] = {32};
  EXPECT_EQ(
      error(TensorView(static_cast<const void *>(x.data()), dtypes::f64, whole), {.format = "q4_0"})
          .code,
      ErrorCode::dtype);
  x[300] = std::numeric_limits<float>::quiet_NaN();
  const Error nan = error(view(), {.format = "q4_0"});
  EXPECT_EQ(nan.code, ErrorCode::nonfinite);
  EXPECT_EQ(nan.index, 300);
  x[300] = 1e30f;
  const Error overflow = error(view(), {.format = "q4_0"});
  EXPECT_EQ(overflow.code, ErrorCode::overflow);
  EXPECT_EQ(overflow.index, 288);
}

TEST_F(Facade, ArraysThatDoNotFitTheirMetaAreErrors) {
  auto q = quantize(runner, view(), {.format = "mlx_affine4"});
  ASSERT_TRUE(q);
  const auto code = [&](Quantized &broken) {
    auto y = dequantize(runner, broken, {}, nullptr);
    EXPECT_FALSE(y);
    return y ? ErrorCode::internal : y.error().code;
  };
  q->shape = {3, 512};
  EXPECT_EQ(code(*q), ErrorCode::shape);
  q->shape = {3, std::int64_t{1} << 61};
  EXPECT_EQ(code(*q), ErrorCode::overflow);
  q->shape = {3, 256};
  q->group_size = 32;
  EXPECT_EQ(code(*q), ErrorCode::shape);
  q->group_size = 64;
  q->format = "nonsense";
  EXPECT_EQ(code(*q), ErrorCode::usage);
  q->format = "mlx_affine4";
  q->biases = Tensor();
  EXPECT_EQ(code(*q), ErrorCode::invalid_argument);
  EXPECT_EQ(dequantize(runner, *q, view(), nullptr).error().code, ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace switchyard::test
