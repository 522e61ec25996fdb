// SPDX-License-Identifier: Apache-2.0
// What docs/formats.md promises beyond the owners' bytes: worked examples, the mean of ternary,
// errors and their indices, any number of threads, cancelling.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "io/cast.hpp"
#include "kernels.hpp"
#include "op/op_spec.hpp"
#include "ops/quantize_formats.hpp"

namespace switchyard::test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

/// Reproducible values around 1.
std::vector<float> values(std::size_t n) {
  std::vector<float> x(n);
  std::uint32_t state = 12345;
  for (float &v : x) {
    state = state * 1664525u + 1013904223u;
    v = static_cast<float>(static_cast<std::int32_t>(state)) * 0x1p-30f;
  }
  return x;
}

TensorView rows(const std::vector<float> &x, std::int64_t n_rows) {
  return {x.data(), {n_rows, static_cast<std::int64_t>(x.size()) / n_rows}};
}

TEST(Examples, Blocks) {
  std::vector<float> x(256, 0.0f);
  x[0] = 1.0f, x[1] = -2.0f, x[2] = 0.5f;
  for (const Backend &backend : backends()) {
    const TensorView one{x.data(), {32}};
    EXPECT_EQ(hex(quantize(backend, one, params_of(SY_QUANT_Q4_0)).codes, 6), "00 34 8c 80 8a 88");
    EXPECT_EQ(hex(quantize(backend, one, params_of(SY_QUANT_Q8_0)).codes, 6), "08 24 40 81 20 00");
    std::vector<float> t(256, 0.0f);
    t[0] = 1.0f, t[64] = -1.0f;  // (+, 0, -, 0)
    EXPECT_EQ(hex(quantize(backend, {t.data(), {256}}, params_of(SY_QUANT_TQ2_0)).codes, 2),
              "46 55");
  }
}

TEST(Examples, MoreBlocks) {
  std::vector<float> x(256, 0.0f), m(256, 0.0f);
  x[0] = 1.0f, x[1] = -2.0f, x[2] = 0.5f;
  m[0] = 1.0f, m[1] = -0.5f, m[2] = 0.25f, m[3] = 0.75f;
  std::vector<float> t(256, 0.0f);  // digits 2, 1, 0, 1, 1 of the first byte
  t[0] = 1.0f, t[64] = -1.0f;
  for (const Backend &backend : backends()) {
    const auto first = [&](sy_quant_format f, const std::vector<float> &values, std::int64_t n,
                           std::size_t bytes) {
      return hex(quantize(backend, {values.data(), {n}}, params_of(f)).codes, bytes);
    };
    EXPECT_EQ(first(SY_QUANT_Q4_1, x, 32, 6), "66 32 00 c0 af a0");
    EXPECT_EQ(first(SY_QUANT_Q5_0, x, 32, 9), "00 30 fd ff ff ff 08 00 04");
    EXPECT_EQ(first(SY_QUANT_Q5_1, x, 32, 4), "32 2e 00 c0");
    EXPECT_EQ(first(SY_QUANT_TQ1_0, t, 256, 1), "cc");
    EXPECT_EQ(first(SY_QUANT_MXFP4_GGML, m, 32, 5), "7d 06 0c 02 05");
    EXPECT_EQ(first(SY_QUANT_I2_S, std::vector<float>(128, 1.0f), 128, 2), "aa aa");
  }
}

TEST(Int8, ClampsAndRounds) {
  std::vector<float> x(64, 0.0f);
  x[0] = 127.0f, x[1] = -127.0f, x[2] = 0.5f, x[3] = 1.5f, x[4] = -2.5f;
  for (const Backend &backend : backends()) {
    const Arrays q = quantize(backend, {x.data(), {64}}, params_of(SY_QUANT_INT8));
    EXPECT_EQ(q.scales.data<float>()[0], 1.0f);
    const auto *c = q.codes.data<std::int8_t>();
    EXPECT_EQ((std::vector<int>(c, c + 5)), (std::vector<int>{127, -127, 0, 2, -2}));
    const std::vector<float> zeros(64, -0.0f);
    const Arrays z = quantize(backend, {zeros.data(), {64}}, params_of(SY_QUANT_INT8));
    EXPECT_EQ(z.scales.data<float>()[0], 0.0f);
    EXPECT_EQ(z.codes.data<std::int8_t>()[63], 0);
  }
}

TEST(Int8, StochasticRoundingIsUnbiased) {
  std::vector<float> x(1 << 16, 0.3f);
  x[0] = 127.0f;  // scale 1
  sy_quantize_params params = params_of(SY_QUANT_INT8);
  params.rounding = SY_ROUNDING_STOCHASTIC;
  params.seed = 7;
  for (const Backend &backend : backends()) {
    const Arrays q = quantize(backend, {x.data(), {1 << 16}}, params);
    double sum = 0;
    for (std::size_t i = 1; i < x.size(); ++i) {
      const int c = q.codes.data<std::int8_t>()[i];
      ASSERT_TRUE(c == 0 || c == 1);
      sum += c;
    }
    // Four standard deviations: 4 * sqrt(0.3 * 0.7 / 65535).
    EXPECT_NEAR(sum / static_cast<double>(x.size() - 1), 0.3, 0.0072) << backend.name;
  }
}

TEST(Int8, ChannelsAreTheFirstDimension) {
  std::vector<float> x(2 * 3 * 64);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  for (const Backend &backend : backends()) {
    const TensorView view{x.data(), {2, 3, 64}};
    const Arrays q = quantize(backend, view, params_of(SY_QUANT_INT8, 0, SY_GRANULARITY_CHANNEL));
    EXPECT_EQ(q.scales.data<float>()[0], 191.0f / 127.0f);
    EXPECT_EQ(q.scales.data<float>()[1], 383.0f / 127.0f);
    const Arrays r = quantize(backend, view, params_of(SY_QUANT_INT8, 0, SY_GRANULARITY_ROW));
    ASSERT_EQ(shape_text(r.scales.shape()), "[6]");
    EXPECT_EQ(r.scales.data<float>()[0], 63.0f / 127.0f);
  }
}

TEST(Errors, Tern2ScaleOverflow) {
  std::vector<std::uint16_t> x(128, f32_to_f16(1.0f));
  for (std::size_t i = 64; i < 128; ++i) x[i] = f32_to_f16(40000.0f);  // twice that is infinite
  const std::int64_t shape[] = {2, 64};
  const TensorView view(static_cast<const void *>(x.data()), dtypes::f16, shape);
  for (const Backend &backend : backends()) {
    const Arrays q = quantize(backend, view, params_of(SY_QUANT_TERN2, 64, SY_GRANULARITY_GROUP));
    EXPECT_EQ(q.status, SY_E_OVERFLOW) << backend.name;
    EXPECT_EQ(q.error.index, 64) << backend.name;
  }
}

TEST(Examples, Affine) {
  std::vector<float> x(32, 0.0f);
  x[0] = 1.0f, x[1] = -0.5f, x[2] = 0.25f, x[3] = 0.75f;
  for (const Backend &backend : backends()) {
    const Arrays q = quantize(backend, {x.data(), {32}}, params_of(SY_QUANT_MLX_AFFINE4, 32));
    EXPECT_EQ(hex(q.codes, 3), "f0 28 aa");
    EXPECT_EQ(q.scales.data<float>()[0], -0.1f);
    EXPECT_EQ(q.biases.data<float>()[0], 1.0f);
  }
}

TEST(Examples, ZeroBlocksHaveNegativeZeroScaleInQ4_0) {
  const std::vector<float> x(32, -0.0f);
  for (const Backend &backend : backends())
    EXPECT_EQ(hex(quantize(backend, {x.data(), {32}}, params_of(SY_QUANT_Q4_0)).codes, 3),
              "00 80 88");
}

/// The tree level by level: neighbours are added, an odd last one moves up as it is.
double mean_magnitude(const std::vector<float> &x) {
  std::vector<double> level;
  for (std::size_t first = 0; first < x.size(); first += 4096) {
    std::vector<double> lanes(32, 0.0);
    for (std::size_t i = first; i < std::min(first + 4096, x.size()); ++i)
      lanes[i % 32] += std::fabs(static_cast<double>(x[i]));
    while (lanes.size() > 1) {
      const std::size_t half = lanes.size() / 2;
      for (std::size_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
      lanes.resize(half);
    }
    level.push_back(lanes[0]);
  }
  while (level.size() > 1) {
    std::vector<double> next;
    for (std::size_t i = 0; i + 1 < level.size(); i += 2) next.push_back(level[i] + level[i + 1]);
    if (level.size() % 2 != 0) next.push_back(level.back());
    level = next;
  }
  return level[0] / static_cast<double>(x.size());
}

TEST(Ternary, MeanFollowsTheTreeAndCodesTheRule) {
  for (std::size_t n : {1u, 31u, 4096u, 4097u, 5u * 4096u + 17u, 300001u}) {
    std::vector<float> x = values(n);
    // Magnitudes apart by 2^20 make every other order of summation visible.
    for (std::size_t i = 0; i < n; i += 7) x[i] *= 0x1p20f;
    const float m = std::max(static_cast<float>(mean_magnitude(x)), 1e-5f);
    for (const Backend &backend : backends()) {
      const Arrays q = quantize(backend, {x.data(), {static_cast<std::int64_t>(n)}},
                                params_of(SY_QUANT_TERNARY));
      ASSERT_EQ(q.scales.data<float>()[0], m) << n << " on " << backend.name;
      for (std::size_t i = 0; i < n; ++i)
        ASSERT_EQ(q.codes.data<std::int8_t>()[i],
                  std::clamp(std::nearbyint(x[i] * (1.0f / m)), -1.0f, 1.0f))
            << i;
    }
  }
}

TEST(Ternary, RowsAndGroupsHaveTheirOwnScales) {
  std::vector<float> x = values(3 * 128);
  for (std::size_t i = 128; i < 256; ++i) x[i] = 0.0f;
  for (const Backend &backend : backends()) {
    const Arrays row =
        quantize(backend, rows(x, 3), params_of(SY_QUANT_TERNARY, 0, SY_GRANULARITY_ROW));
    ASSERT_EQ(shape_text(row.scales.shape()), "[3]");
    EXPECT_EQ(row.scales.data<float>()[1], 1e-5f);
    EXPECT_EQ(row.scales.data<float>()[0],
              static_cast<float>(mean_magnitude({x.begin(), x.begin() + 128})));
    const Arrays group =
        quantize(backend, rows(x, 3), params_of(SY_QUANT_TERNARY, 32, SY_GRANULARITY_GROUP));
    ASSERT_EQ(shape_text(group.scales.shape()), "[3, 4]");
    EXPECT_EQ(group.scales.data<float>()[9],
              static_cast<float>(mean_magnitude({x.begin() + 288, x.begin() + 320})));
  }
}

TEST(Ternary, EmptyTensorsHaveTheLeastScale) {
  for (const Backend &backend : backends()) {
    const Arrays q =
        quantize(backend, {static_cast<const float *>(nullptr), {0}}, params_of(SY_QUANT_TERNARY));
    ASSERT_EQ(q.status, SY_OK);
    EXPECT_EQ(q.scales.data<float>()[0], 1e-5f);
  }
}

struct FormatCase {
  std::string name;
  sy_quantize_params params;
};
std::vector<FormatCase> all_formats() {
  std::vector<FormatCase> all;
  for (const QuantFormat &f : quant_formats())
    for (const std::uint32_t g :
         {SY_GRANULARITY_TENSOR, SY_GRANULARITY_ROW, SY_GRANULARITY_GROUP, SY_GRANULARITY_CHANNEL})
      if ((f.granularities >> g & 1u) != 0)
        all.push_back({fmt::format("{} by {}", f.name, granularity_name(g)),
                       params_of(f.id, f.grouped(g) ? 64 : 0, g)});
  return all;
}

TEST(Errors, NonfiniteNamesTheFirstIndexOnAnyThreadCount) {
  std::vector<float> x = values(4 * 65536);
  x[70001] = kInf, x[70002] = kNan, x[200000] = kNan, x[262143] = -kInf;
  for (const FormatCase &f : all_formats())
    for (const Backend &backend : backends()) {
      const Arrays q = quantize(backend, rows(x, 4), f.params);
      EXPECT_EQ(q.status, SY_E_NONFINITE) << f.name << " on " << backend.name;
      EXPECT_EQ(q.error.index, 70001) << f.name << " on " << backend.name;
    }
}

TEST(Errors, EarliestOfOverflowAndNonfiniteWins) {
  for (const bool nan_first : {false, true}) {
    std::vector<float> x = values(2 * 131072);
    x[100003] = nan_first ? kNan : 3e38f;
    x[220000] = nan_first ? 3e38f : kNan;
    for (const QuantFormat &f : quant_formats())
      for (const Backend &backend : backends()) {
        if (f.family != QuantFamily::blocks || f.id == SY_QUANT_MXFP4_GGML) continue;
        const Arrays q = quantize(backend, rows(x, 2), params_of(f.id));
        const std::int64_t block = f.block;
        EXPECT_EQ(q.status, nan_first ? SY_E_NONFINITE : SY_E_OVERFLOW) << backend.name;
        EXPECT_EQ(q.error.index, nan_first ? 100003 : 100003 / block * block) << backend.name;
      }
  }
}

TEST(Errors, AffineRangeOverflow) {
  std::vector<float> x(256, 0.0f);
  x[64] = 3e38f, x[65] = -3e38f;
  for (const Backend &backend : backends()) {
    const Arrays q = quantize(backend, rows(x, 2), params_of(SY_QUANT_MLX_AFFINE4, 64));
    EXPECT_EQ(q.status, SY_E_OVERFLOW) << backend.name;
    EXPECT_EQ(q.error.index, 64) << backend.name;
  }
}

TEST(Errors, LargestScalesThatFitAreNotErrors) {
  const std::pair<sy_quant_format, float> limits[] = {
      {SY_QUANT_Q4_0, 8 * 65520.0f},  {SY_QUANT_Q5_0, 16 * 65520.0f},
      {SY_QUANT_Q4_1, 15 * 65520.0f}, {SY_QUANT_Q5_1, 31 * 65520.0f},
      {SY_QUANT_TQ1_0, 65520.0f},     {SY_QUANT_TQ2_0, 65520.0f},
      {SY_QUANT_Q2_0, 65520.0f}};
  for (const auto &[format, limit] : limits) {
    std::vector<float> x(256, 0.0f);
    for (const bool fits : {true, false}) {
      x[200] = fits ? std::nextafter(limit, 0.0f) : limit;
      for (const Backend &backend : backends())
        EXPECT_EQ(quantize(backend, {x.data(), {256}}, params_of(format)).status,
                  fits ? SY_OK : SY_E_OVERFLOW)
            << backend.name;
    }
  }
}

TEST(Saturate, NanIsZeroAndInfinityTheLargestFinite) {
  std::vector<float> dirty = values(1024);
  std::vector<std::uint16_t> dirty16, clean16;
  dirty[5] = kNan, dirty[300] = kInf, dirty[900] = -kInf;
  for (float v : dirty) {
    dirty16.push_back(f32_to_f16(v));
    clean16.push_back(std::isnan(v)   ? std::uint16_t{0}
                      : std::isinf(v) ? f32_to_f16(std::copysign(65504.0f, v))
                                      : f32_to_f16(v));
  }
  const std::int64_t shape[] = {2, 512};
  const TensorView x(static_cast<const void *>(dirty16.data()), dtypes::f16, shape);
  const TensorView clean(static_cast<const void *>(clean16.data()), dtypes::f16, shape);
  for (FormatCase f : all_formats())
    for (const Backend &backend : backends()) {
      if (f.params.format == SY_QUANT_TERN2) continue;  // largest values are beyond its scales
      f.params.nonfinite = SY_NONFINITE_SATURATE;
      const Arrays got = quantize(backend, x, f.params), want = quantize(backend, clean, f.params);
      ASSERT_EQ(got.status, SY_OK) << f.name << " on " << backend.name;
      EXPECT_TRUE(bytes_of(got.codes) == bytes_of(want.codes)) << f.name << " " << backend.name;
      if (got.scales.present()) {
        EXPECT_TRUE(bytes_of(got.scales) == bytes_of(want.scales)) << f.name << " " << backend.name;
      }
    }
}

TEST(Threads, ConformanceOnEveryBackend) {
  const std::vector<Backend> all = backends();
  int checks = 0;
  for (const OpSpec *spec : {&quantize_spec(), &dequantize_spec()}) {
    const std::vector<Shape> shapes = spec->conformance_shapes();
    // Every fifth: all of them run through the plugins in tests/conformance.
    for (std::size_t i = 0; i < shapes.size(); i += 5) {
      const auto problem = spec->make_problem(shapes[i], i);
      ASSERT_TRUE(problem) << shapes[i].text() << ": " << problem.error().text();
      const auto inputs = static_cast<std::uint32_t>(problem->inputs.size());
      const auto outputs = static_cast<std::uint32_t>(problem->outputs.size());
      auto want = ProblemOutputs::make(*problem);
      ASSERT_TRUE(want);
      CallFrame want_frame(inputs, outputs);
      bind(*problem, *want, want_frame);
      const Status valid = spec->validate(want_frame.call());
      ASSERT_TRUE(valid) << shapes[i].text() << ": " << valid.error().text();
      ASSERT_EQ(run(all[0], spec->id(), want_frame.call(), nullptr), SY_OK) << shapes[i].text();
      for (const Backend &backend : all) {
        auto got = ProblemOutputs::make(*problem);
        ASSERT_TRUE(got);
        CallFrame frame(inputs, outputs);
        bind(*problem, *got, frame);
        ASSERT_EQ(run(backend, spec->id(), frame.call(), nullptr), SY_OK) << shapes[i].text();
        EXPECT_FALSE(got->overrun()) << shapes[i].text() << " on " << backend.name;
        const auto difference =
            spec->compare(*problem, frame.call(), want_frame.call(), ReferenceRunner());
        EXPECT_FALSE(difference) << shapes[i].text() << " on " << backend.name << ": "
                                 << *difference;
        ++checks;
      }
    }
  }
  EXPECT_GT(checks, 1000);
}

TEST(Progress, PolledAndObeyed) {
  const std::vector<float> x = values(std::size_t{1} << 22), fewer = values(std::size_t{1} << 19);
  for (const FormatCase &f : all_formats())
    for (const Backend &backend : backends()) {
      std::vector<std::byte> codes(x.size() * 2);
      std::vector<float> scales(x.size() / 32), biases(x.size() / 32);
      struct Host {
        int calls = 0;
        double last = 0;
        bool ordered = true;
      } host;
      CallFrame frame(SY_QUANTIZE_INPUTS, SY_QUANTIZE_OUTPUTS);
      sy_quantize_params params = f.params;
      frame.params(params);
      // The searches are slow.
      const bool searches = params.format == SY_QUANT_Q4_K || params.format == SY_QUANT_Q6_K;
      frame.input(0, rows(searches ? fewer : x, 4));
      const std::int64_t flat[] = {4};
      frame.output(0, TensorView(static_cast<void *>(codes.data()), dtypes::u8, flat));
      frame.output(1, TensorView(static_cast<void *>(scales.data()), dtypes::f32, flat));
      frame.output(2, TensorView(static_cast<void *>(biases.data()), dtypes::f32, flat));
      frame.call().progress_arg = &host;
      frame.call().progress = [](void *arg, double done) -> std::int32_t {
        Host &h = *static_cast<Host *>(arg);
        ++h.calls;
        h.ordered = h.ordered && done >= h.last && done <= 1.0 + 1e-9;
        h.last = done;
        return 0;
      };
      sy_error error{sizeof(sy_error), SY_OK, -1, {}};
      EXPECT_EQ(run(backend, SY_OP_QUANTIZE, frame.call(), &error), SY_OK) << error.message;
      EXPECT_TRUE(host.ordered) << f.name << " on " << backend.name;
      EXPECT_GT(host.calls, 0) << f.name << " on " << backend.name;
      frame.call().progress = [](void *, double) -> std::int32_t { return 1; };
      EXPECT_EQ(run(backend, SY_OP_QUANTIZE, frame.call(), &error), SY_E_CANCELLED)
          << f.name << " on " << backend.name;
    }
}

}  // namespace
}  // namespace switchyard::test
