// SPDX-License-Identifier: Apache-2.0
// Patterns, thresholds, the dispatcher's evidence and the host's own times.
#include <switchyard/attention.hpp>

#include "support/engine_support.hpp"

namespace switchyard {
namespace {

using testing::make_engine;
using testing::test_options;

AttentionConfig prefill(std::int64_t length) {
  AttentionConfig c;
  c.q_heads = 40;
  c.kv_heads = 8;
  c.q_len = length;
  c.causal = "bottom_right";
  return c;
}

class AdviceTest : public ::testing::Test {
 protected:
  Engine engine = make_engine();
  Advice ask(const AttentionConfig &config, const AttentionThresholds &thresholds = {}) {
    return AttentionAdvisor(engine, thresholds).should_optimize(config);
  }
};

TEST(AttentionPattern, CountsHeadsInMemory) {
  EXPECT_EQ(prefill(1).pattern(), "GQA-5:1");
  AttentionConfig c = prefill(1);
  c.kv_heads = 40;
  EXPECT_EQ(c.pattern(), "MHA");
  c.expanded = true;
  EXPECT_EQ(c.pattern(), "MQA");
}

TEST(AttentionPattern, AZeroStrideOfBothIsExpanded) {
  std::vector<float> data(4 * 6 * 8);
  const TensorView q(data.data(), {1, 4, 6, 8}), whole(data.data(), {1, 4, 6, 8});
  const std::array<std::int64_t, 4> shape{1, 4, 6, 8}, shared{48, 0, 8, 1}, blhd{192, 8, 32, 1};
  const TensorView one(data.data(), dtypes::f32, shape, shared);
  const auto expanded = AttentionConfig::of(q, one, one);
  ASSERT_TRUE(expanded);
  EXPECT_TRUE(expanded->expanded);
  EXPECT_EQ(expanded->pattern(), "MQA");
  EXPECT_FALSE(expanded->blhd);
  EXPECT_EQ(AttentionConfig::of(q, one, whole)->pattern(), "MHA");
  const TensorView turned(data.data(), dtypes::f32, shape, blhd);
  EXPECT_TRUE(AttentionConfig::of(turned, turned, turned)->blhd);
  const TensorView other(data.data(), {1, 3, 6, 8}), flat(data.data(), {4, 6, 8});
  EXPECT_EQ(AttentionConfig::of(q, other, other).error().code, ErrorCode::shape);
  EXPECT_EQ(AttentionConfig::of(q, flat, flat).error().code, ErrorCode::shape);
}

TEST_F(AdviceTest, ThresholdsSpeakInNumbers) {
  const auto reason = [&](AttentionThresholds t) {
    const Advice advice = ask(prefill(32), t);
    EXPECT_FALSE(advice.optimize);
    return advice.reason;
  };
  EXPECT_EQ(reason({.min_seq_len = 64}), "sequence length 32 below threshold 64");
  EXPECT_EQ(reason({.max_seq_len = 16}), "sequence length 32 above threshold 16");
  EXPECT_EQ(reason({.gqa_ratio_min = 8}), "GQA ratio 5 below threshold 8");
  EXPECT_EQ(reason({.min_heads = 64}), "head count 40 below threshold 64");
}

TEST_F(AdviceTest, WhatIsNotOfferedIsDeclined) {
  AttentionConfig c = prefill(512);
  c.requires_grad = true;
  EXPECT_EQ(ask(c).kind, "requires_grad");
  c = prefill(512);
  c.dropout = 0.1;
  EXPECT_EQ(ask(c).kind, "dropout");
  c = prefill(512);
  c.causal = "causal";
  EXPECT_NE(ask(c).kind, "ambiguous_causal");  // as many queries as keys: both rules agree
  c.kv_len = 600;
  const Advice advice = ask(c);
  EXPECT_EQ(advice.kind, "ambiguous_causal");
  EXPECT_NE(advice.reason.find("512 queries over 600 keys"), std::string::npos);
  c = prefill(0);
  EXPECT_EQ(ask(c).kind, "too_little_work");
  c = prefill(512);
  c.kv_heads = 7;
  EXPECT_EQ(ask(c).kind, "invalid");
}

TEST_F(AdviceTest, EvidenceNamesTheKernel) {
  if (engine.backends().size() < 2) GTEST_SKIP() << "only the reference is loaded";
  const Advice advice = ask(prefill(512));
  EXPECT_TRUE(advice.optimize) << advice.reason;
  EXPECT_GT(advice.expected_ms, 0);
  EXPECT_NE(advice.kernel.find("attention."), std::string::npos);
  EXPECT_NE(advice.reason.find("GQA-5:1"), std::string::npos);
  EXPECT_NE(advice.reason.find(advice.kernel), std::string::npos);
}

TEST_F(AdviceTest, TooLittleWorkIsLeftAlone) {
  if (engine.backends().size() < 2) GTEST_SKIP() << "only the reference is loaded";
  const Advice advice = ask(prefill(64), {.min_work_us = 1e6});
  EXPECT_FALSE(advice.optimize);
  EXPECT_EQ(advice.kind, "too_little_work");
}

TEST_F(AdviceTest, TheReferenceAloneIsNoReasonToOptimize) {
  Options options = test_options();
  options.pin = {{"attention", "reference"}};
  Engine plain = make_engine(options);
  const Advice advice = AttentionAdvisor(plain).should_optimize(prefill(64));
  EXPECT_FALSE(advice.optimize);
  EXPECT_EQ(advice.kind, "no_backend");
}

TEST_F(AdviceTest, AFasterHostKeepsItsWork) {
  if (engine.backends().size() < 2) GTEST_SKIP() << "only the reference is loaded";
  AttentionAdvisor advisor(engine);
  const AttentionConfig c = prefill(512);
  for (int i = 0; i < 2; ++i) advisor.observe(c, 1e-6);
  EXPECT_FALSE(advisor.observed(c));
  EXPECT_TRUE(advisor.should_optimize(c).optimize);  // two times are too few to go by
  advisor.observe(c, 1e-6);
  EXPECT_TRUE(advisor.observed(c));
  const Advice kept = advisor.should_optimize(c);
  EXPECT_FALSE(kept.optimize);
  EXPECT_EQ(kept.kind, "host_as_fast");
  EXPECT_NE(kept.reason.find("the host's own takes"), std::string::npos);
  for (int i = 0; i < 9; ++i) advisor.observe(c, 1e6);
  EXPECT_TRUE(advisor.should_optimize(c).optimize);
  EXPECT_TRUE(advisor.should_optimize(prefill(2000)).optimize);  // told nothing of those
}

TEST_F(AdviceTest, StatusCounts) {
  AttentionAdvisor advisor(engine, {.min_seq_len = 64});
  AttentionConfig c = prefill(32);
  advisor.should_optimize(c);
  c.requires_grad = true;
  advisor.should_optimize(c);
  const AdviceStatus status = advisor.status();
  EXPECT_EQ(status.asked, 2u);
  EXPECT_EQ(status.optimized, 0u);
  EXPECT_EQ(status.rate(), 0);
  EXPECT_EQ(status.declined.at("min_seq_len"), 1u);
  EXPECT_EQ(status.declined.at("requires_grad"), 1u);
  EXPECT_EQ(status.patterns.at("GQA-5:1"), 2u);
  advisor.reset_status();
  EXPECT_EQ(advisor.status().asked, 0u);
}

TEST(AttentionModels, HaveNamesAndPatterns) {
  EXPECT_GE(model_attentions().size(), 20u);
  for (const ModelAttention &m : model_attentions()) {
    EXPECT_EQ(m.q_heads % m.kv_heads, 0) << m.name;
    EXPECT_EQ(model_attention(m.name)->layers, m.layers);
  }
  EXPECT_EQ(model_attention("qwen3-14b")->config(1, 4096).pattern(), "GQA-5:1");
  EXPECT_EQ(model_attention("gemma-2b")->config(1, 4096).pattern(), "MQA");
  EXPECT_EQ(model_attention("phi-3-mini")->config(8).pattern(), "MHA");
  const auto unknown = model_attention("llama-3-7b");
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().message.find("llama-3-8b"), std::string::npos);
}

}  // namespace
}  // namespace switchyard
