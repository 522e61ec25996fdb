// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What happens to each tensor, decided before anything is written.

#include "models/recipe.hpp"
#include "models/source.hpp"

namespace switchyard::models {

enum class Action {
  copy,      ///< the bytes as they are
  quantize,  ///< values -> a format
  restore    ///< a quantised tensor -> plain values
};

struct PlanTensor {
  const SourceTensor *source = nullptr;
  Action action = Action::copy;
  DType dtype{};                   ///< of the values that are quantised or written
  std::optional<QuantSpec> quant;  ///< as it will be stored; copies of quantised tensors too
  std::string rule;
  std::vector<CandidateError> candidates;
};

struct Plan {
  Container container = Container::safetensors;
  bool folder = false;  ///< safetensors in a folder with config.json
  std::string recipe;
  std::vector<PlanTensor> tensors;
  std::vector<std::string> unused_rules;
  double target_bits = 0, target_gap = 0;
};

/// By the name of the output.
Container container_of(const std::string &out) noexcept;
bool is_folder(const std::string &out) noexcept;

/// Decides by the options' recipe; measures candidates where a target chooses.
Result<Plan> plan_quantize(Engine &engine, const Source &source, const std::string &out,
                           const ModelOptions &options);
/// Everything quantised becomes plain again.
Result<Plan> plan_dequantize(const Source &source, const std::string &out,
                             const ModelOptions &options);

/// An error about one tensor of the source.
Error about(Error error, const Source &source, const std::string &tensor);

// choose.cpp
/// Chooses formats for the tensors whose `rule` is empty, so that the average over all that rules
/// decide about meets `target_bits`.
Status choose_by_error(Engine &engine, const Source &source, const Recipe &recipe,
                       const ModelOptions &options, Plan &plan);

}  // namespace switchyard::models
