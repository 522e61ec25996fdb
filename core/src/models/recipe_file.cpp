// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/suggest.hpp"
#include "config/engine_schema.hpp"
#include "models/quant_spec.hpp"
#include "models/recipe.hpp"
#include "quantize/quantize.hpp"

namespace switchyard::models {
namespace {

using config::Document;
using config::Field;
using config::Node;
using config::Section;
using config::Type;
using config::View;

constexpr std::string_view kGranularities[] = {"tensor", "row", "group", "channel"};
constexpr std::string_view kScales[] = {"default", "absmax", "absmean", "floor", "rceil"};

const std::array kChoiceFields = {
    Field{.name = "format",
          .type = Type::choice,
          .doc = "quantised format, in any case",
          .required = true,
          .choices = quant_format_names()},
    Field{.name = "group_size",
          .type = Type::integer,
          .fallback = "0",
          .doc = "values per scale; 0 = the format's default",
          .low = 0,
          .high = 1 << 20},
    Field{.name = "granularity",
          .type = Type::choice,
          .fallback = "tensor",
          .doc = "what shares a scale",
          .choices = kGranularities},
    Field{.name = "scale",
          .type = Type::choice,
          .fallback = "default",
          .doc = "rule for the scale",
          .choices = kScales},
};
const Section kChoice{"rules: a choice", kChoiceFields};

const std::array kRecipeFields = {
    config::kVersionField,
    Field{.name = "recipe",
          .type = Type::choice,
          .fallback = "null",
          .doc = "built-in recipe for what no rule matches",
          .choices = recipe_names()},
    Field{.name = "rules",
          .type = Type::any_map,
          .doc = "glob pattern over tensor names -> `FORMAT`, `FORMAT:GROUP`, `false` (keep), a "
                 "choice in full, or a list of which the first that fits is taken; the first "
                 "pattern that matches decides"},
    Field{.name = "target_bits",
          .type = Type::number,
          .fallback = "null",
          .doc = "bits per value on average: formats are chosen by measured error",
          .least = 0.5,
          .most = 32},
    Field{.name = "candidates",
          .type = Type::text_list,
          .doc = "`FORMAT` or `FORMAT:GROUP` that target_bits may choose; none = all of the "
                 "container"},
};
const Section kRecipe{"the recipe", kRecipeFields};

/// Granularities and scales that a format does not offer are found here, with their place.
Result<TensorChoice> checked(const Document &document, const Node &node, TensorChoice choice,
                             const std::string &pattern) {
  if (auto params = quantize_params_of(options_of(choice)); !params)
    return document.error(node.place, fmt::format("{}: {}", pattern, params.error().message));
  return choice;
}

Result<TensorChoice> read_choice(const Document &document, const Node &node,
                                 const std::string &pattern) {
  if (node.kind == Node::Kind::map) {
    if (auto ok = config::check(document, node, kChoice); !ok) return tl::unexpected(ok.error());
    const View view(node, kChoice);
    TensorChoice choice;
    choice.format = view.text("format");
    choice.group_size = static_cast<int>(view.integer("group_size"));
    choice.granularity = view.text("granularity");
    choice.scale = view.text("scale");
    return checked(document, node, std::move(choice), pattern);
  }
  if (node.kind != Node::Kind::scalar)
    return document.error(node.place,
                          fmt::format("{}: expected a format, false, a mapping or a list, found {}",
                                      pattern, node.found()));
  if (!node.quoted && config::parse_boolean(node.value)) {
    if (*config::parse_boolean(node.value))
      return document.error(node.place, fmt::format("{}: name a format; only false (keep) stands "
                                                    "alone",
                                                    pattern));
    return TensorChoice{};
  }
  auto choice = parse_choice(node.value);
  if (!choice)
    return document.error(node.place, fmt::format("{}: {}", pattern, choice.error().message));
  return checked(document, node, std::move(*choice), pattern);
}

Result<Recipe> read(const Document &document, Container container) {
  if (auto ok = config::check_root(document, kRecipe); !ok) return tl::unexpected(ok.error());
  const View view(document.root(), kRecipe);
  Recipe recipe;
  recipe.name = document.path();
  if (const Node *rules = view.node("rules"))
    for (const config::Entry &entry : rules->entries) {
      Rule rule;
      rule.pattern = entry.key;
      rule.source = document.path();
      const bool list = entry.value.kind == Node::Kind::list;
      const auto items =
          list ? std::span(entry.value.items) : std::span<const Node>(&entry.value, 1);
      if (items.empty())
        return document.error(entry.value.place, fmt::format("{}: an empty list", entry.key));
      for (const Node &item : items) {
        auto choice = read_choice(document, item, entry.key);
        if (!choice) return tl::unexpected(choice.error());
        rule.choices.push_back(std::move(*choice));
      }
      recipe.rules.push_back(std::move(rule));
    }
  if (view.has("target_bits")) recipe.target_bits = view.number("target_bits");
  const Node *candidates = view.node("candidates");
  if (candidates != nullptr) {
    const bool list = candidates->kind == Node::Kind::list;
    for (const Node &item :
         list ? std::span(candidates->items) : std::span<const Node>(candidates, 1)) {
      auto choice = read_choice(document, item, "candidates");
      if (!choice) return tl::unexpected(choice.error());
      recipe.candidates.push_back(std::move(*choice));
    }
  }
  if (view.has("recipe")) {
    auto base = built_in_recipe(view.text("recipe"), container);
    if (!base) return base;
    if (recipe.target_bits)
      return document.error(view.node("recipe")->place,
                            "recipe: decides about every tensor, which leaves target_bits nothing");
    std::ranges::move(base->rules, std::back_inserter(recipe.rules));
  }
  return recipe;
}

}  // namespace

Result<Recipe> parse_recipe(const std::string &text, const std::string &path, Container container) {
  auto document = Document::parse(text, path);
  if (!document) return tl::unexpected(document.error());
  return read(*document, container);
}

Result<Recipe> load_recipe(const std::string &path, Container container) {
  auto document = Document::load(path);
  if (!document) return tl::unexpected(document.error());
  return read(*document, container);
}

std::string recipe_markdown() { return config::markdown(kRecipe) + config::markdown(kChoice); }

}  // namespace switchyard::models
