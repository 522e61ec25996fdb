// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "model_support.hpp"

namespace switchyard::test {
namespace {

class Recipes : public ModelFixture {
 protected:
  void SetUp() override {
    add_all();
    in_ = folder();
  }
  std::string in_;
};

TEST_F(Recipes, SpeedTakesFourBitsAndKeepsWhatCannotBe) {
  const auto report = dry(in_, recipe("speed_4bit"));
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ(report->recipe, "SPEED_4BIT");
  EXPECT_EQ(report->quantized(), 4u);
  EXPECT_EQ(of(*report, "lm_head.weight").choice, choice("mlx_affine4", 64));
  EXPECT_EQ(of(*report, "model.layers.0.input_layernorm.weight").rule,
            "kept: fewer than two dimensions");
  EXPECT_NE(of(*report, "position_ids").rule.find("I64"), std::string::npos);
  EXPECT_NE(of(*report, "model.layers.0.odd.weight").rule.find("rows of 7 values"),
            std::string::npos);
  // 128 * 256 values: half a byte each, two f32 for every 64.
  EXPECT_EQ(of(*report, "lm_head.weight").bytes_after, 128u * (128 + 4 * 8));
  EXPECT_TRUE(report->unused_rules.empty());
  EXPECT_FALSE(fs::exists(path("out")));
}

TEST_F(Recipes, EveryBuiltInRecipeDecidesForBothContainers) {
  for (std::string_view name : recipe_names())
    for (const char *out : {"out", "out.gguf"}) {
      SCOPED_TRACE(std::string(name) + " to " + out);
      const auto report = dry(in_, recipe(std::string(name)), path(out));
      if (!report) {
        // Formats that this build lacks are said to be lacking.
        EXPECT_EQ(to_string(report.error().code), to_string(ErrorCode::unsupported));
        continue;
      }
      EXPECT_GE(report->quantized(), 4u);
      EXPECT_LT(report->bytes_after(), report->bytes_before());
    }
  EXPECT_FALSE(fs::exists(path("out.gguf")));
}

TEST_F(Recipes, MixedPrecisionGivesCriticalTensorsMoreBits) {
  const auto report = dry(in_, recipe("MIXED_PRECISION"), path("out.gguf"));
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ(of(*report, "model.embed_tokens.weight").choice.format, "q8_0");
  EXPECT_EQ(of(*report, "lm_head.weight").choice.format, "q8_0");
  const TensorReport &q = of(*report, "model.layers.0.self_attn.q_proj.weight");
  EXPECT_TRUE(q.choice.format == "q4_k" || q.choice.format == "q4_0") << q.choice.format;
}

TEST_F(Recipes, FirstMatchWinsAndFalseKeeps) {
  const auto report = dry(in_, rules(R"(
rules:
  "*embed*": false
  lm_head.weight: {format: mlx_affine8, group_size: 32}
  "*proj*": mlx_affine4:128
  "*.odd.*": [q8_0, false]
  "*": q8_0
)"));
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_FALSE(of(*report, "model.embed_tokens.weight").quantized());
  EXPECT_EQ(of(*report, "lm_head.weight").choice, choice("mlx_affine8", 32));
  EXPECT_EQ(of(*report, "model.layers.0.mlp.down_proj.weight").choice, choice("mlx_affine4", 128));
  EXPECT_FALSE(of(*report, "model.layers.0.odd.weight").quantized());
  EXPECT_NE(of(*report, "model.embed_tokens.weight").rule.find("'*embed*'"), std::string::npos);
}

TEST_F(Recipes, ABaseDecidesWhatNoRuleMatches) {
  const auto report = dry(in_, rules("recipe: QUALITY_8BIT\nrules: {\"*q_proj*\": mlx_affine4}\n"));
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ(of(*report, "lm_head.weight").choice.format, "mlx_affine8");
  EXPECT_EQ(of(*report, "model.layers.0.self_attn.q_proj.weight").choice,
            choice("mlx_affine4", 64));
}

TEST_F(Recipes, UnusedPatternsAreReported) {
  const auto report = dry(in_, rules(R"(
rules:
  lm_haed.weight: q8_0
  "*.never.*": q8_0
  "*lm_head*": q8_0
)"));
  ASSERT_TRUE(report) << report.error().text();
  ASSERT_EQ(report->unused_rules.size(), 2u);
  EXPECT_EQ(report->unused_rules[0],
            "'lm_haed.weight' matches no tensor; did you mean 'lm_head.weight'?");
  EXPECT_EQ(report->unused_rules[1], "'*.never.*' matches no tensor");
  EXPECT_EQ(report->quantized(), 1u);
}

TEST_F(Recipes, AFormatThatDoesNotFitIsAnError) {
  expect_error(dry(in_, rules("rules: {\"*odd*\": q4_0}\n")), ErrorCode::shape,
               "tensor 'model.layers.0.odd.weight'");
  expect_error(dry(in_, rules("rules: {\"*odd*\": q4_0}\n")), ErrorCode::shape, "formats that fit");
  expect_error(dry(in_, rules("rules: {\"*lm_head*\": mlx_affine4}\n"), path("o.gguf")),
               ErrorCode::usage, "has no GGUF type");
}

TEST_F(Recipes, WrongFilesAreRefusedWithTheirPlace) {
  const auto wrong = [&](const std::string &text, const std::string &part) {
    SCOPED_TRACE(text);
    expect_error(dry(in_, rules(text)), ErrorCode::config, part);
  };
  wrong("rulse: {}\n", "did you mean 'rules'");
  wrong("rules: [a]\n", "expected a mapping");
  wrong("rules: {\"*\": q4_O}\n", "did you mean 'q4_0'");
  wrong("rules: {\"*\": true}\n", "only false");
  wrong("rules: {\"*\": []}\n", "an empty list");
  wrong("rules: {\"*\": mlx_affine4:48}\n", "group size 48");
  wrong("rules: {\"*\": \"mlx_affine4:\"}\n", "FORMAT:GROUP");
  wrong("rules: {\"*\": {format: q4_0, granularity: row}}\n", "granularity row");
  wrong("rules: {\"*\": {group_size: 32}}\n", "format");
  wrong("rules: {\"*\": {format: q4_0, bits: 4}}\n", "bits");
  wrong("rules: {a: q4_0, a: q8_0}\n", "twice");
  wrong("recipe: FAST\n", "unknown value");
  wrong("target_bits: 0\n", "not in 0.5..32");
  wrong("recipe: SPEED_4BIT\ntarget_bits: 4\n", "leaves target_bits nothing");
  const auto placed = dry(in_, rules("rules:\n  \"*\": nope\n"));
  ASSERT_FALSE(placed);
  EXPECT_EQ(placed.error().line, 3);
  expect_error(dry(in_, recipe("SPEED")), ErrorCode::usage, "SPEED_4BIT");
  expect_error(dry(in_, recipe(path("none.yaml"))), ErrorCode::io, "none.yaml");
}

TEST_F(Recipes, ThePredicateIsAskedFirst) {
  ModelOptions options = recipe("SPEED_4BIT");
  std::vector<std::string> asked;
  options.predicate = [&](const ModelTensor &t) -> std::optional<TensorChoice> {
    asked.push_back(t.name + " " + t.dtype);
    if (t.name == "lm_head.weight") return TensorChoice{};
    if (t.name.find("down_proj") != std::string::npos) return choice("q8_0");
    return std::nullopt;
  };
  const auto report = dry(in_, options);
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ(asked.size(), 5u);  // floating, two dimensions or more
  EXPECT_EQ(std::ranges::count(asked, "model.embed_tokens.weight f16"), 1);
  EXPECT_FALSE(of(*report, "lm_head.weight").quantized());
  EXPECT_EQ(of(*report, "model.layers.0.mlp.down_proj.weight").choice.format, "q8_0");
  EXPECT_EQ(of(*report, "model.embed_tokens.weight").choice.format, "mlx_affine4");
}

TEST_F(Recipes, EveryExampleRecipeIsRead) {
  int seen = 0;
  for (const auto &file : fs::directory_iterator(SWITCHYARD_SOURCE_DIR "/config/recipes")) {
    SCOPED_TRACE(file.path().string());
    const auto report = dry(in_, recipe(file.path().string()));
    ASSERT_TRUE(report) << report.error().text();
    EXPECT_GT(report->quantized(), 0u);
    ++seen;
  }
  EXPECT_GE(seen, 1);
}

}  // namespace
}  // namespace switchyard::test
