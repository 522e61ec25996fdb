// SPDX-License-Identifier: Apache-2.0
// Attention as the engine offers it, over the reference kernel; and the operation's checks.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "attention/attention.hpp"
#include "base/status_codes.hpp"
#include "kernels.hpp"
#include "ops/attention_problem.hpp"

namespace switchyard::test {
namespace {

/// Answers every call with the reference kernel and keeps the last call's parameters.
class ReferenceOnly final : public Runner {
 public:
  std::unique_ptr<States> make_states(std::uint64_t) override { return nullptr; }
  Status run(std::string_view op, sy_call &call, States *, Answer *answer) override {
    EXPECT_EQ(op, SY_OP_ATTENTION);
    if (auto ok = attention_spec().validate(call); !ok) return ok;
    params = *static_cast<const sy_attention_params *>(call.params);
    sy_error error = make_abi_error();
    const std::int32_t status = reference().run(call, &error);
    if (status != SY_OK) return tl::unexpected(from_abi(error, status, "reference"));
    answer->backend = "reference";
    return {};
  }
  std::uint32_t threads() const noexcept override { return 1; }
  void parallel_for(std::uint64_t n, const std::function<void(std::uint64_t)> &fn) override {
    for (std::uint64_t i = 0; i < n; ++i) fn(i);
  }

  sy_attention_params params{};
};

class Facade : public testing::Test {
 protected:
  Facade() {
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = std::sin(static_cast<float>(i) * 1.3f);
  }
  TensorView q() const { return {data.data(), {2, 4, 3, 8}}; }
  TensorView kv() const { return {data.data() + 50, {2, 2, 5, 8}}; }

  Result<AttentionResult> run(const AttentionOptions &options = {}) {
    return attention(runner, q(), kv(), kv(), options);
  }
  ErrorCode error_of(const Result<AttentionResult> &result) {
    EXPECT_FALSE(result);
    return result ? ErrorCode::internal : result.error().code;
  }

  ReferenceOnly runner;
  std::array<float, 400> data{};
};

TEST_F(Facade, AllocatesAndFillsInDefaults) {
  const auto r = run();
  ASSERT_TRUE(r) << r.error().text();
  EXPECT_EQ(shape_text(r->out.shape()), "[2, 4, 3, 8]");
  EXPECT_FALSE(r->lse.present());
  EXPECT_EQ(r->info.backend, "reference");
  EXPECT_FLOAT_EQ(runner.params.scale, 1 / std::sqrt(8.0f));
  EXPECT_EQ(runner.params.window_left, -1);
  EXPECT_EQ(runner.params.causal, static_cast<std::uint32_t>(SY_CAUSAL_NONE));
}

TEST_F(Facade, WindowCountsTheOwnPosition) {
  ASSERT_TRUE(run({.causal = SY_CAUSAL_BOTTOM_RIGHT, .window = 3}));
  EXPECT_EQ(runner.params.window_left, 2);
  EXPECT_EQ(runner.params.window_right, -1);
  EXPECT_EQ(error_of(run({.window = 0})), ErrorCode::invalid_argument);
  EXPECT_EQ(error_of(run({.window = 3, .window_left = 1})), ErrorCode::invalid_argument);
}

TEST_F(Facade, MasksAreBroadcastFromTheRight) {
  // Key 4 hidden, said in four shapes.
  std::array<std::uint8_t, 2 * 4 * 3 * 5> bits{};
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = i % 5 != 4;
  const auto masked = [&](std::initializer_list<std::int64_t> shape) {
    AttentionOptions options;
    options.mask = TensorView(static_cast<const void *>(bits.data()), dtypes::boolean,
                              std::span(shape.begin(), shape.size()));
    const auto r = run(options);
    EXPECT_TRUE(r) << r.error().text();
    return std::vector<float>(r->out.data<float>(), r->out.data<float>() + r->out.elements());
  };
  const auto want = masked({5});
  EXPECT_EQ(masked({3, 5}), want);
  EXPECT_EQ(masked({2, 1, 1, 5}), want);
  EXPECT_EQ(masked({2, 4, 3, 5}), want);
  const auto unmasked = run();
  EXPECT_NE(want[0], unmasked->out.data<float>()[0]);

  AttentionOptions options;
  options.mask = TensorView(static_cast<const void *>(bits.data()), dtypes::boolean,
                            std::array<std::int64_t, 2>{3, 4});
  const auto wrong = run(options);
  EXPECT_EQ(error_of(wrong), ErrorCode::shape);
  EXPECT_NE(wrong.error().message.find("[3, 4]"), std::string::npos);
}

TEST_F(Facade, ThreeAxesMeanOneSequence) {
  const TensorView q3(data.data(), {4, 3, 8}), k3(data.data() + 50, {2, 5, 8});
  const auto r = attention(runner, q3, k3, k3, {.return_lse = true});
  ASSERT_TRUE(r) << r.error().text();
  EXPECT_EQ(shape_text(r->out.shape()), "[4, 3, 8]");
  EXPECT_EQ(shape_text(r->lse.shape()), "[4, 3]");
  const auto four = run({.return_lse = true});
  for (std::int64_t i = 0; i < r->out.elements(); ++i)
    ASSERT_EQ(r->out.data<float>()[i], four->out.data<float>()[i]);
  EXPECT_EQ(error_of(attention(runner, q3, kv(), kv(), {})), ErrorCode::shape);
}

TEST_F(Facade, WritesToTheCallersStridedOutput) {
  std::vector<float> memory(2 * 4 * 3 * 8 * 2, -1);
  const std::array<std::int64_t, 4> shape{2, 4, 3, 8}, blhd{96 * 2, 8 * 2, 32 * 2, 2};
  AttentionOptions options;
  options.out = TensorView(memory.data(), dtypes::f32, shape, blhd);
  const auto r = run(options);
  ASSERT_TRUE(r) << r.error().text();
  EXPECT_FALSE(r->out.present());
  const auto want = run();
  EXPECT_EQ(memory[2 * 64 + 3 * 16 + 5 * 2], want->out.data<float>()[3 * 24 + 2 * 8 + 5]);
  EXPECT_EQ(memory[1], -1);
}

TEST_F(Facade, SaysWhatDoesNotFit) {
  const std::vector<double> f64(1000);
  const TensorView other(data.data(), {2, 3, 5, 8}), narrow(data.data(), {2, 2, 5, 4}),
      longer(data.data(), {2, 2, 6, 8}), flat(data.data(), {8, 8});
  EXPECT_EQ(error_of(attention(runner, q(), other, other, {})), ErrorCode::shape);
  EXPECT_EQ(error_of(attention(runner, q(), narrow, kv(), {})), ErrorCode::shape);
  EXPECT_EQ(error_of(attention(runner, q(), kv(), longer, {})), ErrorCode::shape);
  EXPECT_EQ(error_of(attention(runner, flat, flat, flat, {})), ErrorCode::shape);
  EXPECT_EQ(error_of(attention(runner, {}, kv(), kv(), {})), ErrorCode::invalid_argument);
  const TensorView wide(static_cast<const void *>(f64.data()), dtypes::f64,
                        std::array<std::int64_t, 4>{2, 4, 3, 8});
  EXPECT_EQ(error_of(attention(runner, wide, kv(), kv(), {})), ErrorCode::dtype);
  EXPECT_EQ(error_of(run({.softcap = -1})), ErrorCode::invalid_argument);
  EXPECT_EQ(error_of(run({.scale = std::numeric_limits<float>::infinity()})),
            ErrorCode::invalid_argument);
  AttentionOptions options;
  options.sinks = TensorView(data.data(), {3});
  EXPECT_EQ(error_of(run(options)), ErrorCode::shape);
  options = {};
  options.out =
      TensorView(static_cast<void *>(data.data()), dtypes::f32,
                 std::array<std::int64_t, 4>{2, 4, 3, 8}, std::array<std::int64_t, 4>{8, 8, 8, 1});
  EXPECT_EQ(error_of(run(options)), ErrorCode::shape);  // elements on top of each other
}

TEST(Pattern, NamesHowHeadsAreShared) {
  EXPECT_EQ(attention_pattern(24, 24), "MHA");
  EXPECT_EQ(attention_pattern(1, 1), "MHA");
  EXPECT_EQ(attention_pattern(32, 1), "MQA");
  EXPECT_EQ(attention_pattern(40, 8), "GQA-5:1");
}

TEST(Spec, DescriptionsMakeTheSameKindOfProblem) {
  for (const Shape &shape : attention_spec().conformance_shapes()) {
    const auto described = [](const Shape &s) {
      const auto problem = *attention_spec().make_problem(s, 2);
      const auto outputs = *ProblemOutputs::make(problem);
      CallFrame frame(static_cast<std::uint32_t>(problem.inputs.size()), SY_ATTENTION_OUTPUTS);
      bind(problem, outputs, frame);
      Key key;
      KeyBuilder builder(key);
      attention_spec().key(frame.call(), builder);
      return std::pair(attention_spec().describe(frame.call()), key.words);
    };
    const auto [once, key] = described(shape);
    const auto [twice, key2] = described(once);
    EXPECT_EQ(once.text(), twice.text()) << shape.text();
    EXPECT_EQ(key, key2) << shape.text();
  }
}

TEST(Spec, FlopsCountVisibleScores) {
  for (const char *text :
       {"lq=7,lkv=12,d=4", "lq=7,lkv=12,d=4,causal=top_left", "lq=12,lkv=7,d=4,causal=top_left",
        "lq=7,lkv=12,d=4,causal=bottom_right", "lq=12,lkv=7,d=4,causal=bottom_right",
        "lq=30,lkv=30,d=4,window=5,causal=bottom_right",
        "lq=9,lkv=30,d=4,window_left=3,window_right=4",
        "lq=30,lkv=9,d=4,window_left=0,window_right=40", "b=4,lq=8,lkv=20,d=4,lens=1",
        "b=4,lq=8,lkv=20,d=4,lens=1,causal=bottom_right,window=3", "lq=0,lkv=3,d=4"}) {
    const auto problem = *attention_spec().make_problem(*Shape::parse(text), 9);
    const auto outputs = *ProblemOutputs::make(problem);
    CallFrame frame(SY_ATTENTION_INPUTS, SY_ATTENTION_OUTPUTS);
    bind(problem, outputs, frame);
    const attention_op::View a = attention_op::view(frame.call());
    double pairs = 0;
    for (std::int64_t b = 0; b < a.batch; ++b)
      for (std::int64_t i = 0; i < a.lq; ++i) {
        const auto seen = attention_op::visible(a, b, i);
        pairs += static_cast<double>(std::max<std::int64_t>(0, seen.end - seen.begin));
      }
    EXPECT_EQ(attention_spec().work(frame.call()).flops, pairs * 8 * 2 * (4 + 4)) << text;
  }
}

TEST(Spec, UnknownShapeItemsAreUsageErrors) {
  for (const char *text : {"heads=3", "mask=boolean", "hq=5,hkv=2", "causal=left", "dtype=i8",
                           "window=0", "d=0", "layout=hbld"}) {
    const auto problem = attention_spec().make_problem(*Shape::parse(text), 1);
    ASSERT_FALSE(problem) << text;
    EXPECT_EQ(problem.error().code, ErrorCode::usage) << text;
  }
}

TEST(Spec, GateShapesKeepTheKind) {
  const Shape like = *Shape::parse(
      "b=4,hq=32,hkv=8,lq=1024,lkv=4096,d=128,dtype=bf16,causal=bottom_right,window=1000,sinks=1");
  const auto shapes = attention_spec().gate_shapes(like);
  EXPECT_GE(shapes.size(), 3u);
  for (const Shape &s : shapes) {
    EXPECT_EQ(s.word("d", ""), "128");
    EXPECT_EQ(s.word("dtype", ""), "bf16");
    EXPECT_EQ(s.word("sinks", ""), "1");
    EXPECT_EQ(*s.integer("hq", 0, 0, 100) / *s.integer("hkv", 1, 0, 100), 4);
    EXPECT_TRUE(attention_spec().make_problem(s, 1)) << s.text();
  }
}

}  // namespace
}  // namespace switchyard::test
