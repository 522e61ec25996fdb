// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Recipes: which tensors are stored how. Built-in ones, and files in YAML.

#include <switchyard/models.hpp>

namespace switchyard::models {

/// What kind of file the tensors go to; the built-in recipes choose their formats by it.
enum class Container { safetensors, gguf };

struct Rule {
  std::string pattern;                ///< a glob over tensor names: '*', '?', '[a-z]'
  std::vector<TensorChoice> choices;  ///< the first that fits the tensor
  bool keep_unfit = false;            ///< built in: what fits nothing is kept
  std::string source;                 ///< "SPEED_4BIT", or the recipe file's path
};

struct Recipe {
  std::string name;  ///< for reports
  std::vector<Rule> rules;
  std::optional<double> target_bits;
  std::vector<TensorChoice> candidates;  ///< of the target; empty = all that the container has
};

/// A built-in recipe. usage: unknown, with "did you mean"; unsupported: this build lacks a format.
Result<Recipe> built_in_recipe(std::string_view name, Container container);

/// A recipe file, or its text (`path` is for messages). Errors: config, with the place; io.
Result<Recipe> load_recipe(const std::string &path, Container container);
Result<Recipe> parse_recipe(const std::string &text, const std::string &path, Container container);

/// The recipe that options name.
Result<Recipe> recipe_of(const ModelOptions &options, Container container);

/// What a target may choose from in a container, plainly keeping not included.
std::vector<TensorChoice> default_candidates(Container container);

bool glob_match(const std::string &pattern, const std::string &name);

/// The Markdown table of a recipe file's keys.
std::string recipe_markdown();

}  // namespace switchyard::models
