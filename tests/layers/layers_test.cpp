// SPDX-License-Identifier: Apache-2.0
/// The C++ calls of layers.hpp against sums written out here, on every backend.
#include <cmath>
#include <switchyard/layers.hpp>

#include "support/engine_support.hpp"

namespace switchyard {
namespace {

std::vector<float> values(std::size_t n, float seed) {
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = std::sin(seed + 1.7f * static_cast<float>(i));
  return out;
}

Engine &engine() {
  static Engine made = testing::make_engine();
  return made;
}

TensorView view(const std::vector<float> &data, std::initializer_list<std::int64_t> shape) {
  return TensorView(data.data(), shape);
}

TEST(Matmul, PlainWeightsBothWays) {
  const std::int64_t m = 5, n = 37, k = 70;
  const auto x = values(m * k, 1), w = values(n * k, 2), add = values(n, 3);
  std::vector<float> turned(w.size());
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t e = 0; e < k; ++e) turned[e * n + j] = w[j * k + e];
  int answers = 0;
  for (const std::string &backend : engine().backends()) {
    Engine *pinned = *engine().pinned(backend);
    for (const bool transpose : {true, false}) {
      RunInfo info;
      MatmulOptions options{.transpose = transpose, .add = view(add, {n})};
      options.output.info = &info;
      const auto y = matmul(*pinned, view(x, {1, m, k}),
                            transpose ? view(w, {n, k}) : view(turned, {k, n}), options);
      if (!y && y.error().message.find("offers no such kernel") != std::string::npos) continue;
      ++answers;
      ASSERT_TRUE(y) << backend << ": " << y.error().text();
      EXPECT_EQ(info.backend, backend);
      ASSERT_EQ(shape_text(y->shape()), "[1, 5, 37]");
      for (std::int64_t i = 0; i < m; ++i)
        for (std::int64_t j = 0; j < n; ++j) {
          double want = add[j];
          for (std::int64_t e = 0; e < k; ++e)
            want += static_cast<double>(x[i * k + e]) * w[j * k + e];
          EXPECT_NEAR(y->data<float>()[i * n + j], want, 2e-5) << backend;
        }
    }
  }
  EXPECT_GE(answers, 6) << "three backends, both ways";
}

TEST(Matmul, QuantisedWeightsGiveTheSameBitsEverywhere) {
  const std::int64_t m = 3, n = 21, k = 512;
  const auto x = values(m * k, 1), w = values(n * k, 2);
  for (const char *format : {"q4_0", "q8_0", "tq1_0", "tq2_0", "mlx_affine4", "mlx_affine8"}) {
    const auto q = engine().quantize(view(w, {n, k}), {.format = format});
    ASSERT_TRUE(q) << q.error().text();
    const auto back = engine().dequantize(*q);
    ASSERT_TRUE(back);
    std::vector<float> first;
    for (const std::string &backend : engine().backends()) {
      const auto y = matmul(**engine().pinned(backend), view(x, {m, k}), *q);
      if (!y && y.error().code == ErrorCode::backend) continue;  // offers plain weights only
      ASSERT_TRUE(y) << backend << ": " << y.error().text();
      const std::vector<float> got(y->data<float>(), y->data<float>() + m * n);
      if (first.empty()) first = got;
      EXPECT_EQ(got, first) << format << " on " << backend;
    }
    ASSERT_FALSE(first.empty());
    // Values of x are at most 1 and err by at most 1 / 254.
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        double want = 0, room = 1e-4;
        for (std::int64_t e = 0; e < k; ++e) {
          const double weight = back->data<float>()[j * k + e];
          want += x[i * k + e] * weight;
          room += std::abs(weight) / 254;
        }
        EXPECT_NEAR(first[i * n + j], want, room) << format;
      }
  }
}

TEST(Matmul, RefusesWhatDoesNotFit) {
  const auto x = values(64, 1), w = values(64, 2);
  const auto short_w = matmul(engine(), view(x, {2, 32}), view(w, {4, 16}));
  ASSERT_FALSE(short_w);
  EXPECT_EQ(short_w.error().code, ErrorCode::shape);
  EXPECT_NE(short_w.error().message.find("must be 4"), std::string::npos)
      << short_w.error().message;
  const auto q = engine().quantize(view(w, {2, 32}), {.format = "q5_0"});
  ASSERT_TRUE(q);
  const auto refused = matmul(engine(), view(x, {2, 32}), *q);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::unsupported);
  EXPECT_NE(refused.error().message.find("dequantize"), std::string::npos);
}

TEST(Matmul, LeadingDimensionsThatDoNotLieEvenly) {
  const auto x = values(2 * 6 * 8, 1), w = values(3 * 8, 2);
  const std::int64_t shape[] = {2, 3, 8}, strides[] = {48, 16, 1};  // every other row
  const TensorView part(const_cast<float *>(x.data()), dtypes::f32, shape, strides);
  const std::int64_t odd_strides[] = {8, 16, 1};  // the first dimension inside the second
  const TensorView odd(const_cast<float *>(x.data()), dtypes::f32, shape, odd_strides);
  for (const TensorView &v : {part, odd}) {
    const auto y = matmul(engine(), v, view(w, {3, 8}), {.transpose = true});
    ASSERT_TRUE(y) << y.error().text();
    for (std::int64_t a = 0; a < 2; ++a)
      for (std::int64_t b = 0; b < 3; ++b)
        for (std::int64_t j = 0; j < 3; ++j) {
          float want = 0;
          for (std::int64_t e = 0; e < 8; ++e)
            want += v.data<float>()[a * v.stride(0) + b * v.stride(1) + e] * w[j * 8 + e];
          EXPECT_NEAR(y->data<float>()[(a * 3 + b) * 3 + j], want, 1e-5);
        }
  }
}

TEST(Norms, AsWrittenDown) {
  const std::int64_t rows = 4, d = 33;
  const auto x = values(rows * d, 1), weight = values(d, 2), bias = values(d, 3);
  const auto rms = rms_norm(engine(), view(x, {2, 2, d}), view(weight, {d}), 0.5f);
  const auto layer = layer_norm(engine(), view(x, {rows, d}), view(weight, {d}), view(bias, {d}));
  ASSERT_TRUE(rms) << rms.error().text();
  ASSERT_TRUE(layer) << layer.error().text();
  for (std::int64_t r = 0; r < rows; ++r) {
    double mean = 0, squares = 0, centred = 0;
    for (std::int64_t i = 0; i < d; ++i) mean += x[r * d + i] / static_cast<double>(d);
    for (std::int64_t i = 0; i < d; ++i) {
      const double v = x[r * d + i];
      squares += v * v / static_cast<double>(d);
      centred += (v - mean) * (v - mean) / static_cast<double>(d);
    }
    for (std::int64_t i = 0; i < d; ++i) {
      EXPECT_NEAR(rms->data<float>()[r * d + i],
                  x[r * d + i] / std::sqrt(squares + 0.5) * weight[i], 1e-6);
      EXPECT_NEAR(layer->data<float>()[r * d + i],
                  (x[r * d + i] - mean) / std::sqrt(centred + 1e-5) * weight[i] + bias[i], 1e-5);
    }
  }
  const auto wrong = rms_norm(engine(), view(x, {rows, d}), view(weight, {d - 1}));
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::shape);
}

TEST(Activations, AsWrittenDown) {
  const std::int64_t n = 101;
  auto gate = values(n, 1), up = values(n, 2);
  for (float &v : gate) v *= 9;
  std::vector<float> out(n);
  const auto none =
      swiglu(engine(), view(gate, {n}), view(up, {n}),
             {.out = TensorView(static_cast<void *>(out.data()), dtypes::f32, std::array{n})});
  ASSERT_TRUE(none) << none.error().text();
  EXPECT_FALSE(none->present());
  const auto exact = gelu(engine(), view(gate, {n})), tanh = gelu(engine(), view(gate, {n}), true);
  ASSERT_TRUE(exact && tanh);
  for (std::int64_t i = 0; i < n; ++i) {
    const double v = gate[i];
    EXPECT_NEAR(out[i], up[i] * v / (1 + std::exp(-v)), 2e-5);
    EXPECT_NEAR(exact->data<float>()[i], v / 2 * (1 + std::erf(v / std::sqrt(2.0))), 2e-5);
    const double inner = std::sqrt(2 / 3.14159265358979) * (v + 0.044715 * v * v * v);
    EXPECT_NEAR(tanh->data<float>()[i], v / 2 * (1 + std::tanh(inner)), 2e-5);
  }
}

TEST(Rope, BothStylesOffsetsAndPositions) {
  const std::int64_t heads = 2, length = 5, d = 8;
  const auto x = values(heads * length * d, 1);
  const std::int32_t positions[] = {11, 12, 13, 14, 15};
  const std::int64_t five[] = {5};
  for (const bool interleaved : {false, true}) {
    const auto y = rope(engine(), view(x, {heads, length, d}),
                        {.offset = 11, .interleaved = interleaved, .rotary = 6});
    const auto same =
        rope(engine(), view(x, {heads, length, d}),
             {.positions = TensorView(static_cast<const void *>(positions), dtypes::i32, five),
              .interleaved = interleaved,
              .rotary = 6});
    ASSERT_TRUE(y) << y.error().text();
    ASSERT_TRUE(same) << same.error().text();
    for (std::int64_t row = 0; row < heads * length; ++row) {
      const float *in = x.data() + row * d, *out = y->data<float>() + row * d;
      for (std::int64_t j = 0; j < 3; ++j) {
        const double angle = static_cast<double>(11 + row % length) *
                             std::pow(10000.0, -2.0 * static_cast<double>(j) / 6);
        const std::int64_t a = interleaved ? 2 * j : j, b = interleaved ? 2 * j + 1 : j + 3;
        EXPECT_NEAR(out[a], in[a] * std::cos(angle) - in[b] * std::sin(angle), 1e-6);
        EXPECT_NEAR(out[b], in[b] * std::cos(angle) + in[a] * std::sin(angle), 1e-6);
      }
      for (std::int64_t e = 0; e < d; ++e) EXPECT_EQ(out[e], same->data<float>()[row * d + e]);
      EXPECT_EQ(out[6], in[6]);
      EXPECT_EQ(out[7], in[7]);
    }
  }
  const auto odd = rope(engine(), view(x, {heads, length, d}), {.rotary = 5});
  ASSERT_FALSE(odd);
  EXPECT_EQ(odd.error().code, ErrorCode::shape);
}

}  // namespace
}  // namespace switchyard
