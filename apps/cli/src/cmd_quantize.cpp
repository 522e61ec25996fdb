// SPDX-License-Identifier: Apache-2.0
// switchyard quantize IN OUT: one array by --format F, or a model by --recipe, --format or
// --target-bits.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "arrays.hpp"
#include "cancel.hpp"
#include "compare.hpp"
#include "io/safetensors.hpp"
#include "model_file.hpp"
#include "models/plan.hpp"
#include "ops/quantize_formats.hpp"
#include "session.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

constexpr std::int64_t kCompareValues = std::int64_t{1} << 20;

struct Arguments {
  std::string in, out, recipe;
  QuantizeOptions options;
  std::optional<double> target_bits;
  bool dry_run = false, bench = false, restart = false, no_quality = false;

  bool for_models() const { return !recipe.empty() || target_bits || dry_run || bench; }
};

void add_sizes(Json &doc, std::uint64_t before, std::uint64_t after, const TensorQuality &quality) {
  doc["bytes_before"] = before;
  doc["bytes_after"] = after;
  doc.update(quality_json(quality));
}

Outcome quantize_array(const Arguments &a, const Common &common) {
  auto x = load_input(a.in, common.dtype);
  if (!x) return tl::unexpected(x.error());
  auto engine = make_engine(common);
  if (!engine) return tl::unexpected(engine.error());
  auto q = [&] {
    EndAtOnce scope;
    return engine->quantize(*x, a.options);
  }();
  if (!q) {
    Error error = q.error();
    if (error.file.empty() && exit_code(error.code) == 1) error.file = a.in;
    return tl::unexpected(error);
  }
  auto quality = measure_quality(*engine, *x, *q);
  if (!quality) return tl::unexpected(quality.error());
  if (auto ok = check_cancelled(); !ok) return tl::unexpected(ok.error());
  if (auto ok = write_quantized(a.out, *q); !ok) return tl::unexpected(ok.error());

  Rivals rivals(engine->options(), *engine);
  const auto compared = compare_with_reference(rivals, q->info, [&](Engine &reference) {
    return compare_quantize(*engine, reference, *x, a.options, kCompareValues);
  });
  const std::uint64_t before = static_cast<std::uint64_t>(x->elements()) * size_of(x->dtype());
  Json doc = document("quantize");
  add_run_info(doc, "quantize", q->info);
  doc["shape"] = shape_json(x->shape());
  doc["dtype"] = to_string(x->dtype());
  doc["outputs"] = Json{{"out", a.out}};
  doc["format"] = q->format;
  doc["group_size"] = q->group_size;
  add_sizes(doc, before, q->bytes(), *quality);
  add_comparison(doc, compared);
  std::string text = run_info_text(q->info) + '\n';
  if (compared) text += compared->text() + '\n';
  text += fmt::format("{} {} to {}: ", to_string(x->dtype()), shape_text(x->shape()), q->format) +
          size_text(before, q->bytes(), *quality) + fmt::format("out: {}\n", a.out);
  print_result(common, doc, text);
  return 0;
}

ModelOptions model_options(const Arguments &a, const Common &common) {
  ModelOptions options;
  options.recipe = a.recipe;
  options.target_bits = a.target_bits;
  options.nonfinite = a.options.nonfinite;
  options.dtype = common.dtype;
  options.dry_run = a.dry_run;
  options.bench = a.bench;
  options.resume = !a.restart;
  options.quality = !a.no_quality;
  options.progress = model_progress("quantize");
  if (!a.options.format.empty())
    options.choice = TensorChoice{a.options.format, a.options.group_size, a.options.granularity,
                                  a.options.scale};
  return options;
}

/// About kCompareValues values from a tensor's begin: the tensor may be larger than memory.
Result<Tensor> leading_rows(const std::string &path, const ModelTensor &tensor) {
  auto model = SafetensorsModel::open(path);
  if (!model) return tl::unexpected(model.error());
  const SafetensorInfo *info = model->find(tensor.name);
  const std::int64_t cols = tensor.shape.back();
  if (info == nullptr || !info->dtype || cols > kCompareValues || cols <= 0)
    return fail(ErrorCode::unsupported, "no rows to compare");
  const std::int64_t rows = std::min(tensor.values, kCompareValues) / cols;
  auto x = Tensor::empty(*info->dtype, std::vector<std::int64_t>{rows, cols});
  if (!x) return x;
  if (auto ok = model->read_bytes(tensor.name, 0, {x->data<std::byte>(), x->bytes()}); !ok)
    return tl::unexpected(ok.error());
  return x;
}

/// The largest quantised tensor against the reference, where the input holds it as plain values.
std::optional<Comparison> compare_largest(Engine &engine, const Arguments &a,
                                          const TensorReport &largest) {
  Rivals rivals(engine.options(), engine);
  return compare_with_reference(rivals, largest.info, [&](Engine &reference) -> Result<Comparison> {
    auto x = leading_rows(a.in, largest.tensor);
    if (!x) return tl::unexpected(x.error());
    QuantizeOptions options;
    options.format = largest.choice.format;
    options.group_size = largest.choice.group_size;
    options.granularity = largest.choice.granularity;
    options.scale = largest.choice.scale;
    return compare_quantize(engine, reference, *x, options, kCompareValues);
  });
}

Outcome quantize_models(const Arguments &a, const Common &common) {
  if (auto ok = check_model_output(a.out); !ok) return tl::unexpected(ok.error());
  if (auto ok = check_model_rounding(a.options); !ok) return tl::unexpected(ok.error());
  auto engine = make_engine(common);
  if (!engine) return tl::unexpected(engine.error());
  auto report = quantize_model(*engine, a.in, a.out, model_options(a, common));
  clear_status();
  if (!report) return tl::unexpected(report.error());
  const TensorReport *largest = report->largest();
  const bool plain = largest != nullptr && a.in.find(".safetensors") != std::string::npos;
  const auto compared = plain ? compare_largest(*engine, a, *largest) : std::nullopt;
  Json doc = document("quantize");
  add_run_info(doc, "quantize", report->info());
  doc["shape"] = largest ? Json(largest->tensor.shape) : Json(nullptr);
  doc["dtype"] = largest ? Json(largest->tensor.dtype) : Json(nullptr);
  doc["outputs"] = a.dry_run ? Json::object() : Json{{"out", a.out}};
  if (!a.options.format.empty()) doc["format"] = a.options.format;
  doc.update(Json::parse(report->json()));
  add_comparison(doc, compared);
  std::string text = largest ? run_info_text(report->info()) + '\n' : std::string();
  if (compared) text += compared->text() + '\n';
  text += model_summary(*report);
  if (!a.dry_run) text += fmt::format("out: {}\n", a.out);
  if (a.dry_run || common.verbose > 0) text += '\n' + model_table(*report);
  const std::string candidates = candidates_table(*report);
  if (!candidates.empty() && (a.dry_run || common.verbose > 0)) text += '\n' + candidates;
  print_result(common, doc, text);
  return 0;
}

Status check_arguments(const Arguments &a) {
  if (a.options.format.empty() && a.recipe.empty() && !a.target_bits)
    return fail(ErrorCode::usage, "--format is required, or for a model --recipe or --target-bits");
  if (!a.options.format.empty()) {
    if (auto ok = check_quantize_options(a.options); !ok) return ok;
    auto format = parse_quant_format(a.options.format);
    if (extension_of(a.out) == ".gguf" && models::ggml_name(**format).empty())
      return fail(ErrorCode::usage,
                  fmt::format("format {} has no GGUF type; write .safetensors", (*format)->name));
    return {};
  }
  if (a.options.group_size != 0)
    return fail(ErrorCode::usage, "--group-size belongs to --format; recipes name theirs");
  if (auto ok = check_model_output(a.out); !ok) return ok;
  if (!a.recipe.empty() && !a.recipe.ends_with(".yaml") && !a.recipe.ends_with(".yml"))
    if (auto recipe = models::built_in_recipe(a.recipe, models::container_of(a.out)); !recipe)
      return tl::unexpected(recipe.error());
  return {};
}

Outcome run(Arguments a, const Common &common) {
  a.options.seed = common.seed.value_or(0);
  if (auto ok = check_common(common); !ok) return tl::unexpected(ok.error());
  if (auto ok = check_arguments(a); !ok) return tl::unexpected(ok.error());
  if (a.for_models()) return quantize_models(a, common);
  auto model = is_model_input(a.in);
  if (model && *model) return quantize_models(a, common);
  if (auto ok = check_output(a.out, {".npz", ".safetensors", ".gguf"}); !ok)
    return tl::unexpected(ok.error());
  if (!model) return tl::unexpected(model.error());
  return quantize_array(a, common);
}

}  // namespace

void add_quantize(Program &program) {
  auto a = std::make_shared<Arguments>();
  CLI::App *app = add_command(program, nullptr, "quantize", "Quantise an array or a model",
                              [a, &program] { return run(*a, program.common); });
  app->add_option("IN", a->in,
                  ".npy, .npz:KEY, .safetensors:NAME; or a model: a folder, "
                  ".safetensors, .safetensors.index.json or .gguf")
      ->required();
  app->add_option("OUT", a->out, ".npz, .safetensors or .gguf; a model: also a folder")->required();
  QuantizeOptions &o = a->options;
  app->add_option("--format", o.format, fmt::format("{}", fmt::join(quant_format_names(), ", ")))
      ->type_name("F");
  app->add_option("--recipe", a->recipe,
                  fmt::format("Models: {}, or FILE.yaml", fmt::join(recipe_names(), ", ")))
      ->type_name("R");
  app->add_option("--target-bits", a->target_bits,
                  "Models: bits per value on average; formats are chosen by measured error")
      ->type_name("B")
      ->check(CLI::Range(0.5, 32.0));
  app->add_flag("--dry-run", a->dry_run, "Models: print every tensor's decision, write nothing");
  app->add_flag("--bench", a->bench, "Models: also time each format alone, in the same run");
  app->add_flag("--restart", a->restart, "Models: do not continue an interrupted conversion");
  app->add_flag("--no-quality", a->no_quality, "Models: do not measure errors");
  app->add_option("--group-size", o.group_size, "Values per scale; default: the format's")
      ->type_name("G")
      ->check(CLI::Range(1, 65536));
  app->add_option("--granularity", o.granularity, "tensor (default), row, group or channel")
      ->type_name("WHAT");
  app->add_option("--scale", o.scale, "absmax, absmean, floor or rceil; default: the format's")
      ->type_name("RULE");
  app->add_option("--nonfinite", o.nonfinite, "error (default) or saturate")->type_name("WHAT");
  app->add_option("--rounding", o.rounding, "nearest (default) or stochastic (int8; --seed S)")
      ->type_name("HOW");
}

}  // namespace switchyard::cli
