// SPDX-License-Identifier: Apache-2.0
#include "models/plan.hpp"

#include <fmt/format.h>

#include "base/checked.hpp"
#include "base/suggest.hpp"

namespace switchyard::models {
namespace {

/// Rules decide about floating tensors of two or more dimensions.
bool is_candidate(const SourceTensor &t) { return t.floating() && t.info.shape.size() >= 2; }

std::string why_not(const SourceTensor &t) {
  if (!t.dtype) return fmt::format("kept: {} cannot be read here", t.info.stored);
  if (!t.floating())
    return fmt::format("kept: {} is not a floating type to quantise", t.info.stored);
  return "kept: fewer than two dimensions";
}

/// A tensor may be copied where the other container knows its type.
Status check_copy(const Source &source, const PlanTensor &p, Container container) {
  const SourceTensor &t = *p.source;
  const auto refuse = [&](const std::string &why) {
    return tl::unexpected(about(Error{ErrorCode::dtype,
                                      fmt::format("stored as {}, which {}", t.info.stored, why),
                                      {},
                                      0,
                                      0,
                                      -1,
                                      {}},
                                source, t.info.name));
  };
  if (container == Container::gguf) {
    if (t.type != nullptr) return {};
    if (t.quant && ggml_name(*t.quant->layout.format).empty())
      return refuse("GGUF cannot hold: let a rule quantise it again");
    if (!t.quant && (!t.dtype || find_ggml_type(*t.dtype) == nullptr))
      return refuse("GGUF cannot hold");
    return {};
  }
  if (!t.quant && !t.dtype) return refuse("cannot be read here");
  return {};
}

Status set_quantize(PlanTensor &p, const TensorChoice &choice, DType dtype) {
  auto spec = quant_spec(choice, p.source->info.shape, dtype);
  if (!spec) return tl::unexpected(spec.error());
  p.action = Action::quantize;
  p.quant = std::move(*spec);
  p.dtype = dtype;
  return {};
}

Status check_container(const TensorChoice &choice, Container container) {
  auto format = parse_quant_format(choice.format);
  if (!format) return tl::unexpected(format.error());
  if (container == Container::gguf && ggml_name(**format).empty())
    return fail(
        ErrorCode::usage,
        fmt::format("format {} has no GGUF type: choose q4_0, q8_0 or another of ggml's, or "
                    "write a folder or a .safetensors file",
                    (*format)->name));
  return {};
}

/// Takes the first of a rule's choices that fits.
Status apply(const Source &source, const Rule &rule, Container container, DType dtype,
             PlanTensor &p) {
  Error last;
  for (const TensorChoice &choice : rule.choices) {
    if (choice.format.empty()) {
      p.rule = fmt::format("'{}' of {}: kept", rule.pattern, rule.source);
      return {};
    }
    if (auto ok = check_container(choice, container); !ok) return ok;
    const auto ok = set_quantize(p, choice, dtype);
    if (ok) {
      p.rule = fmt::format("'{}' of {}", rule.pattern, rule.source);
      return {};
    }
    last = ok.error();
    if (last.code != ErrorCode::shape) break;
  }
  if (rule.keep_unfit && last.code == ErrorCode::shape) {
    p.rule = fmt::format("kept: none of {}'s formats fits rows of {} values", rule.source,
                         p.source->info.shape.back());
    return {};
  }
  return tl::unexpected(about(last, source, p.source->info.name));
}

std::string unused(const Rule &rule, const Source &source) {
  std::vector<std::string_view> names;
  for (const SourceTensor &t : source.tensors()) names.push_back(t.info.name);
  const bool glob = rule.pattern.find_first_of("*?[") != std::string::npos;
  return fmt::format("'{}' matches no tensor{}", rule.pattern,
                     glob ? "" : did_you_mean(rule.pattern, names));
}

}  // namespace

Error about(Error error, const Source &source, const std::string &tensor) {
  if (error.file.empty()) error.file = source.path();
  error.message = fmt::format("tensor '{}': {}", tensor, error.message);
  return error;
}

Container container_of(const std::string &out) noexcept {
  return out.ends_with(".gguf") ? Container::gguf : Container::safetensors;
}

bool is_folder(const std::string &out) noexcept {
  return !out.ends_with(".gguf") && !out.ends_with(".safetensors");
}

Result<Plan> plan_quantize(Engine &engine, const Source &source, const std::string &out,
                           const ModelOptions &options) {
  Plan plan;
  plan.container = container_of(out);
  plan.folder = is_folder(out);
  auto recipe = recipe_of(options, plan.container);
  if (!recipe) return tl::unexpected(recipe.error());
  plan.recipe = recipe->name;
  std::vector<bool> used(recipe->rules.size());
  bool undecided = false;
  for (const SourceTensor &t : source.tensors()) {
    PlanTensor p;
    p.source = &t;
    // A pattern counts as used by every tensor that it names first, quantised or not.
    const auto rule = std::ranges::find_if(
        recipe->rules, [&](const Rule &r) { return glob_match(r.pattern, t.info.name); });
    if (rule != recipe->rules.end())
      used[static_cast<std::size_t>(rule - recipe->rules.begin())] = true;
    if (!is_candidate(t)) {
      p.rule = why_not(t);
    } else {
      DType dtype = *t.dtype;
      if (!options.dtype.empty()) {
        auto cast_to = parse_dtype(options.dtype);
        if (!cast_to) return tl::unexpected(cast_to.error());
        dtype = *cast_to;
      }
      p.dtype = dtype;
      const auto asked = options.predicate ? options.predicate(t.info) : std::nullopt;
      if (asked) {
        const Rule own{t.info.name, {*asked}, false, "the predicate"};
        if (auto ok = apply(source, own, plan.container, dtype, p); !ok)
          return tl::unexpected(ok.error());
      } else if (rule != recipe->rules.end()) {
        if (auto ok = apply(source, *rule, plan.container, dtype, p); !ok)
          return tl::unexpected(ok.error());
      } else if (recipe->target_bits) {
        undecided = true;
      } else {
        p.rule = "kept: no rule matches";
      }
    }
    plan.tensors.push_back(std::move(p));
  }
  for (std::size_t i = 0; i < used.size(); ++i)
    // Built-in recipes name layers that many models lack.
    if (!used[i] && !recipe->rules[i].keep_unfit)
      plan.unused_rules.push_back(unused(recipe->rules[i], source));
  if (recipe->target_bits) {
    plan.target_bits = *recipe->target_bits;
    if (undecided)
      if (auto ok = choose_by_error(engine, source, *recipe, options, plan); !ok)
        return tl::unexpected(ok.error());
  }
  for (PlanTensor &p : plan.tensors) {
    if (p.action != Action::copy) continue;
    p.quant = p.source->quant;
    if (auto ok = check_copy(source, p, plan.container); !ok) return tl::unexpected(ok.error());
  }
  return plan;
}

Result<Plan> plan_dequantize(const Source &source, const std::string &out,
                             const ModelOptions &options) {
  Plan plan;
  plan.container = container_of(out);
  plan.folder = is_folder(out);
  plan.recipe = "restore";
  for (const SourceTensor &t : source.tensors()) {
    if (options.predicate && !options.predicate(t.info)) continue;
    PlanTensor p;
    p.source = &t;
    if (t.quant) {
      p.action = Action::restore;
      p.dtype = *t.dtype;
      if (!options.dtype.empty()) {
        auto wanted = parse_dtype(options.dtype);
        if (!wanted) return tl::unexpected(wanted.error());
        p.dtype = *wanted;
      }
      p.rule = "restored";
    } else {
      p.rule = "kept: not quantised";
      if (t.dtype) p.dtype = *t.dtype;
      if (auto ok = check_copy(source, p, plan.container); !ok) return tl::unexpected(ok.error());
    }
    plan.tensors.push_back(std::move(p));
  }
  return plan;
}

}  // namespace switchyard::models
