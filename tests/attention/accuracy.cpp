// SPDX-License-Identifier: Apache-2.0
// Every conformance problem on every kernel; equal bits for any thread count; errors no larger than
// twice those of plain f32 loops; and a comparison that does notice.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "kernels.hpp"
#include "ops/attention_problem.hpp"

namespace switchyard::test {
namespace {

struct Attempt {
  ProblemOutputs outputs;
  CallFrame frame;

  explicit Attempt(const Problem &problem)
      : outputs(*ProblemOutputs::make(problem)),
        frame(static_cast<std::uint32_t>(problem.inputs.size()), SY_ATTENTION_OUTPUTS) {
    bind(problem, outputs, frame);
  }
  std::string bytes() const {
    std::string all;
    for (std::size_t i = 0; i < outputs.size(); ++i)
      if (outputs.view(i).present())
        all.append(outputs.view(i).data<char>(), outputs.view(i).raw().byte_size);
    return all;
  }
};

Status run_reference(const sy_call &call) {
  if (reference().run(call) != SY_OK) return fail(ErrorCode::internal, "the reference failed");
  return {};
}

TEST(Accuracy, EveryKernelOnEveryConformanceProblem) {
  const OpSpec &spec = attention_spec();
  const auto all = kernels({3});
  int checks = 0;
  for (const Shape &shape : spec.conformance_shapes()) {
    const auto problem = spec.make_problem(shape, 5);
    ASSERT_TRUE(problem) << shape.text() << ": " << problem.error().text();
    Attempt want(*problem);
    const Status valid = spec.validate(want.frame.call());
    ASSERT_TRUE(valid) << shape.text() << ": " << valid.error().text();
    ASSERT_EQ(reference().run(want.frame.call()), SY_OK);
    for (const Kernel &kernel : all) {
      Attempt got(*problem);
      if (!kernel.supports(got.frame.call())) continue;
      ASSERT_EQ(kernel.run(got.frame.call()), SY_OK);
      EXPECT_FALSE(got.outputs.overrun()) << kernel.name << " on " << shape.text();
      const auto wrong = spec.compare(*problem, got.frame.call(), want.frame.call(), run_reference);
      EXPECT_FALSE(wrong) << kernel.name << " on " << shape.text() << ": " << wrong.value_or("");
      ++checks;
    }
  }
  EXPECT_GE(checks, 190);
}

TEST(Accuracy, ThreadCountsDoNotChangeABit) {
  for (const char *text :
       {"hq=8,hkv=2,lq=200,lkv=200,d=32,causal=bottom_right,lse=1",
        "b=2,hq=4,hkv=1,lq=1,lkv=3000,d=64,lse=1", "hq=32,hkv=1,lq=1,lkv=4000,d=32,lse=1",
        "b=3,hq=4,hkv=2,lq=7,lkv=1500,d=40,lens=1,sinks=1,causal=bottom_right",
        "hq=4,hkv=4,lq=90,lkv=400,d=32,mask=bool,pattern=blocks,dtype=bf16",
        "hq=4,hkv=2,lq=130,lkv=130,d=33,softcap=9,dtype=f16,layout=unit_stride_off"}) {
    const auto problem = *attention_spec().make_problem(*Shape::parse(text), 3);
    std::map<const cpu::KernelDef *, std::string> first;
    for (const Kernel &kernel : kernels({1, 2, 3, 7})) {
      Attempt run(problem);
      if (!kernel.supports(run.frame.call())) continue;
      ASSERT_EQ(kernel.run(run.frame.call()), SY_OK);
      const auto [it, is_new] = first.emplace(kernel.def, run.bytes());
      EXPECT_TRUE(is_new || it->second == run.bytes()) << kernel.name << " on " << text;
    }
    EXPECT_FALSE(first.empty());
  }
}

/// Plain loops that accumulate in f32: what a kernel's rounding is measured against.
void naive_f32(const attention_op::View &a, float *o) {
  std::vector<float> t(static_cast<std::size_t>(a.lkv));
  const auto *q = TensorView(*a.q).data<float>(), *k = TensorView(*a.k).data<float>(),
             *v = TensorView(*a.v).data<float>();
  for (std::int64_t h = 0; h < a.hq; ++h)
    for (std::int64_t i = 0; i < a.lq; ++i) {
      const float *row = q + (h * a.lq + i) * a.dk;
      const float *keys = k + h / a.group() * a.lkv * a.dk;
      const float *values = v + h / a.group() * a.lkv * a.dv;
      const auto seen = attention_op::visible(a, 0, i);
      float max = -std::numeric_limits<float>::infinity(), sum = 0;
      for (std::int64_t j = seen.begin; j < seen.end; ++j) {
        float dot = 0;
        for (std::int64_t e = 0; e < a.dk; ++e) dot += row[e] * keys[j * a.dk + e];
        t[static_cast<std::size_t>(j)] = dot * a.params.scale;
        max = std::max(max, t[static_cast<std::size_t>(j)]);
      }
      for (std::int64_t j = seen.begin; j < seen.end; ++j)
        sum += t[static_cast<std::size_t>(j)] = std::exp(t[static_cast<std::size_t>(j)] - max);
      for (std::int64_t e = 0; e < a.dv; ++e) {
        float x = 0;
        for (std::int64_t j = seen.begin; j < seen.end; ++j)
          x += t[static_cast<std::size_t>(j)] * values[j * a.dv + e];
        o[(h * a.lq + i) * a.dv + e] = x / sum;
      }
    }
}

/// Plain loops in f64, unrounded.
std::vector<double> exact(const attention_op::View &a) {
  std::vector<double> out(static_cast<std::size_t>(a.hq * a.lq * a.dv));
  std::vector<double> t(static_cast<std::size_t>(a.lkv));
  const auto *q = TensorView(*a.q).data<float>(), *k = TensorView(*a.k).data<float>(),
             *v = TensorView(*a.v).data<float>();
  for (std::int64_t h = 0; h < a.hq; ++h)
    for (std::int64_t i = 0; i < a.lq; ++i) {
      const std::int64_t g = h / a.group();
      const auto seen = attention_op::visible(a, 0, i);
      double sum = 0;
      for (std::int64_t j = seen.begin; j < seen.end; ++j) {
        double dot = 0;
        for (std::int64_t e = 0; e < a.dk; ++e)
          dot += static_cast<double>(q[(h * a.lq + i) * a.dk + e]) *
                 static_cast<double>(k[(g * a.lkv + j) * a.dk + e]);
        sum += t[static_cast<std::size_t>(j)] = std::exp(dot * static_cast<double>(a.params.scale));
      }
      for (std::int64_t j = seen.begin; j < seen.end; ++j)
        for (std::int64_t e = 0; e < a.dv; ++e)
          out[static_cast<std::size_t>((h * a.lq + i) * a.dv + e)] +=
              t[static_cast<std::size_t>(j)] / sum *
              static_cast<double>(v[(g * a.lkv + j) * a.dv + e]);
    }
  return out;
}

double rms(const float *got, const std::vector<double> &want) {
  double sum = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double d = static_cast<double>(got[i]) - want[i];
    sum += d * d;
  }
  return std::sqrt(sum / static_cast<double>(want.size()));
}

TEST(Accuracy, RootMeanSquareErrorIsAtMostTwicePlainLoops) {
  for (const char *text : {"hq=4,hkv=2,lq=256,lkv=256,d=64,causal=bottom_right",
                           "hq=2,hkv=2,lq=300,lkv=500,d=128", "hq=64,hkv=8,lq=1,lkv=2000,d=128"}) {
    const auto problem = *attention_spec().make_problem(*Shape::parse(text), 11);
    Attempt run(problem);
    const attention_op::View a = attention_op::view(run.frame.call());
    const std::vector<double> want = exact(a);
    ASSERT_GE(want.size(), 4096u);
    std::vector<float> plain(want.size());
    naive_f32(a, plain.data());
    const double allowed = 2 * rms(plain.data(), want);
    int checks = 0;
    for (const Kernel &kernel : kernels({2})) {
      if (!kernel.supports(run.frame.call())) continue;
      ASSERT_EQ(kernel.run(run.frame.call()), SY_OK);
      EXPECT_LE(rms(run.outputs.view(SY_ATTENTION_OUT_O).data<float>(), want), allowed)
          << kernel.name << " on " << text;
      ++checks;
    }
    EXPECT_GT(checks, 0);
  }
}

TEST(Accuracy, TheComparisonNoticesWhatItShould) {
  const OpSpec &spec = attention_spec();
  const auto problem = *spec.make_problem(
      *Shape::parse("hq=4,hkv=2,lq=9,lkv=20,d=16,mask=bool,pattern=empty_rows,lse=1"), 1);
  Attempt want(problem), got(problem);
  ASSERT_EQ(reference().run(want.frame.call()), SY_OK);
  ASSERT_EQ(reference().run(got.frame.call()), SY_OK);
  const auto compared = [&] {
    return spec.compare(problem, got.frame.call(), want.frame.call(), run_reference);
  };
  EXPECT_FALSE(compared()) << *compared();
  float *o = got.outputs.view(SY_ATTENTION_OUT_O).data<float>();
  float *lse = got.outputs.view(SY_ATTENTION_OUT_LSE).data<float>();
  const auto changed = [&](float &x, float value) {
    const float before = std::exchange(x, value);
    const bool noticed = compared().has_value();
    x = before;
    return noticed;
  };
  EXPECT_TRUE(changed(o[16], o[16] + 1e-4f));  // row 1 of head 0 sees something
  EXPECT_FALSE(changed(o[16], o[16] * 1.0000002f));
  EXPECT_TRUE(changed(o[0], 1e-30f));  // row 0 sees nothing: exactly 0
  EXPECT_TRUE(changed(o[16], NAN));
  EXPECT_TRUE(changed(lse[0], -1e30f));
  EXPECT_TRUE(changed(lse[1], lse[1] + 1e-3f));
  EXPECT_FALSE(compared());
}

}  // namespace
}  // namespace switchyard::test
