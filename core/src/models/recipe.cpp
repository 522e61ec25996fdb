// SPDX-License-Identifier: Apache-2.0
#include "models/recipe.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>
#include <array>

#include "base/suggest.hpp"
#include "models/quant_spec.hpp"

namespace switchyard {
namespace models {
namespace {

/// Choices as text, in order of preference; "" ends a list.
using Preferences = std::array<std::string_view, 4>;

struct BuiltInRule {
  std::string_view pattern;
  Preferences safetensors, gguf;
};

struct BuiltIn {
  std::string_view name;
  bool keeps_critical;  ///< critical tensors get eight bits
  /// Tensors whose errors weigh more, and all others.
  std::span<const BuiltInRule> rules;
};

constexpr Preferences kEightMlx = {"mlx_affine8:64", "mlx_affine8:32"}, kEightGguf = {"q8_0"};

/// Embeddings, output heads and routers: small errors there reach every token.
constexpr std::string_view kCritical[] = {
    "*embed*",       "*wte*",        "*wpe*",    "*lm_head*", "token_embd*",   "position_embd*",
    "output.weight", "*classifier*", "*pooler*", "*router*",  "*ffn_gate_inp*"};

constexpr BuiltInRule kSpeed[] = {{"*", {"mlx_affine4:64", "mlx_affine4:32"}, {"q4_0"}}};
constexpr BuiltInRule kBalanced[] = {{"*", {"mlx_affine5:64", "mlx_affine5:32"}, {"q5_0"}}};
constexpr BuiltInRule kQuality[] = {{"*", kEightMlx, kEightGguf}};
/// Values and down projections: where 4 bits cost most, by the experience of other quantisers.
constexpr Preferences kSixMlx = {"mlx_affine6:64", "mlx_affine6:32"}, kSixGguf = {"q6_k", "q8_0"};
constexpr BuiltInRule kMixed[] = {{"*v_proj*", kSixMlx, kSixGguf},
                                  {"*attention.self.value*", kSixMlx, kSixGguf},
                                  {"*attn_v.*", kSixMlx, kSixGguf},
                                  {"*down_proj*", kSixMlx, kSixGguf},
                                  {"*ffn_down*", kSixMlx, kSixGguf},
                                  {"*[0-9].output.dense*", kSixMlx, kSixGguf},
                                  {"*", {"mlx_affine4:64", "mlx_affine4:32"}, {"q4_k", "q4_0"}}};
constexpr BuiltInRule kTernary[] = {
    {"*", {"tern2:128", "tern2:64", "tern2:32"}, {"tq1_0", "tq2_0", "q2_0"}}};

constexpr BuiltIn kBuiltIn[] = {{"SPEED_4BIT", false, kSpeed},
                                {"BALANCED_5BIT", false, kBalanced},
                                {"QUALITY_8BIT", false, kQuality},
                                {"MIXED_PRECISION", true, kMixed},
                                {"TERNARY_158", true, kTernary}};

constexpr auto kNames = [] {
  std::array<std::string_view, std::size(kBuiltIn)> names{};
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = kBuiltIn[i].name;
  return names;
}();

constexpr std::string_view kMlxCandidates[] = {
    "tern2:128",      "mlx_affine2:32", "mlx_affine2:64",  "mlx_affine3:32", "mlx_affine3:64",
    "mlx_affine4:32", "mlx_affine4:64", "mlx_affine4:128", "mlx_affine5:32", "mlx_affine5:64",
    "mlx_affine6:32", "mlx_affine6:64", "mlx_affine8:32",  "mlx_affine8:64", "mxfp4"};
constexpr std::string_view kGgufCandidates[] = {
    "tq1_0", "tq2_0", "q2_0", "q4_0", "q4_1", "q4_k", "q5_0", "q5_1", "q6_k", "q8_0", "mxfp4_ggml"};

constexpr char upper(char c) noexcept {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c == '-' ? '_' : c;
}

/// A choice that the code names; nullopt where this build lacks the format. Ternary formats take
/// BitNet's scale, and tern2 one for each group.
std::optional<TensorChoice> known_choice(std::string_view text) {
  auto choice = parse_choice(std::string(text));
  if (!choice) return std::nullopt;
  if (choice->format == "tern2") choice->granularity = "group";
  if (choice->format == "tq1_0" || choice->format == "tq2_0" || choice->format == "q2_0") {
    const auto format = parse_quant_format(choice->format);
    if (((*format)->scale_rules >> SY_SCALE_ABSMEAN & 1u) != 0) choice->scale = "absmean";
  }
  return *choice;
}

template <class Texts>
std::vector<TensorChoice> known_choices(const Texts &texts) {
  std::vector<TensorChoice> out;
  for (std::string_view text : texts)
    if (auto choice = text.empty() ? std::nullopt : known_choice(text)) out.push_back(*choice);
  return out;
}

}  // namespace

bool glob_match(const std::string &pattern, const std::string &name) {
  return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

std::vector<TensorChoice> default_candidates(Container container) {
  return container == Container::gguf ? known_choices(kGgufCandidates)
                                      : known_choices(kMlxCandidates);
}

Result<Recipe> built_in_recipe(std::string_view name, Container container) {
  const auto same = [&](std::string_view known) {
    return std::ranges::equal(known, name, {}, upper, upper);
  };
  const auto at = std::ranges::find_if(kBuiltIn, same, &BuiltIn::name);
  if (at == std::end(kBuiltIn))
    return fail(ErrorCode::usage,
                fmt::format("unknown recipe '{}'{}; choose {}, or a .yaml file", name,
                            did_you_mean(name, kNames), fmt::join(kNames, ", ")));
  Recipe recipe;
  recipe.name = at->name;
  const auto add = [&](std::string_view pattern, const Preferences &mlx,
                       const Preferences &gguf) -> Status {
    const Preferences &wanted = container == Container::gguf ? gguf : mlx;
    auto choices = known_choices(wanted);
    if (choices.empty())
      return fail(ErrorCode::unsupported, fmt::format("recipe {} needs the format {}, which this "
                                                      "build lacks",
                                                      at->name, wanted.front()));
    recipe.rules.push_back({std::string(pattern), std::move(choices), true, recipe.name});
    return {};
  };
  if (at->keeps_critical)
    for (std::string_view pattern : kCritical)
      if (auto ok = add(pattern, kEightMlx, kEightGguf); !ok) return tl::unexpected(ok.error());
  for (const BuiltInRule &rule : at->rules)
    if (auto ok = add(rule.pattern, rule.safetensors, rule.gguf); !ok)
      return tl::unexpected(ok.error());
  return recipe;
}

Result<Recipe> recipe_of(const ModelOptions &options, Container container) {
  const bool file = options.recipe.ends_with(".yaml") || options.recipe.ends_with(".yml");
  Recipe recipe;
  if (!options.rules.empty() || file) {
    auto parsed = options.rules.empty() ? load_recipe(options.recipe, container)
                                        : parse_recipe(options.rules, "recipe", container);
    if (!parsed) return parsed;
    recipe = std::move(*parsed);
  }
  if (!options.recipe.empty() && !file) {
    auto built_in = built_in_recipe(options.recipe, container);
    if (!built_in) return built_in;
    recipe.name = built_in->name;
    std::ranges::move(built_in->rules, std::back_inserter(recipe.rules));
  }
  if (options.target_bits) recipe.target_bits = options.target_bits;
  if (options.choice) {
    recipe.rules.push_back({"*", {*options.choice}, false, "the given format"});
    if (recipe.name.empty()) recipe.name = options.choice->text();
  }
  if (recipe.target_bits && !recipe.rules.empty() && recipe.rules.back().pattern == "*")
    return fail(ErrorCode::usage,
                fmt::format("target_bits leaves nothing to decide: {} already decides about every "
                            "tensor",
                            recipe.rules.back().source));
  return recipe;
}

}  // namespace models

std::span<const std::string_view> recipe_names() noexcept { return models::kNames; }

}  // namespace switchyard
