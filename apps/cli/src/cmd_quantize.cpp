// SPDX-License-Identifier: Apache-2.0
// switchyard quantize IN OUT --format F: one array, or every weight matrix of a model.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "arrays.hpp"
#include "cancel.hpp"
#include "compare.hpp"
#include "model_file.hpp"
#include "ops/quantize_formats.hpp"
#include "session.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

constexpr std::int64_t kCompareValues = std::int64_t{1} << 20;

struct Arguments {
  std::string in, out;
  QuantizeOptions options;
};

std::string size_text(std::uint64_t before, std::uint64_t after, const Distortion &d) {
  return fmt::format(
      "{} -> {} ({:.3g} times smaller), error {:.3g} (MSE), {:.2f} dB signal to noise\n",
      byte_size(static_cast<double>(before)), byte_size(static_cast<double>(after)),
      after > 0 ? static_cast<double>(before) / static_cast<double>(after) : 0.0, d.mse(),
      d.snr_db());
}

/// What both kinds of input add to the document.
void add_sizes(Json &doc, std::uint64_t before, std::uint64_t after, const Distortion &d) {
  doc["bytes_before"] = before;
  doc["bytes_after"] = after;
  doc.update(d.json());
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
  auto distortion = measure_distortion(*engine, *x, *q);
  if (!distortion) return tl::unexpected(distortion.error());
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
  add_sizes(doc, before, q->bytes(), *distortion);
  add_comparison(doc, compared);
  std::string text = run_info_text(q->info) + '\n';
  if (compared) text += compared->text() + '\n';
  text += fmt::format("{} {} to {}: ", to_string(x->dtype()), shape_text(x->shape()), q->format) +
          size_text(before, q->bytes(), *distortion) + fmt::format("out: {}\n", a.out);
  print_result(common, doc, text);
  return 0;
}

Outcome quantize_file(const Arguments &a, const Common &common) {
  if (extension_of(a.out) != ".safetensors")
    return fail(ErrorCode::usage,
                fmt::format("'{}': a model's tensors go into one .safetensors file", a.out));
  auto model = SafetensorsModel::open(a.in);
  if (!model) return tl::unexpected(model.error());
  auto engine = make_engine(common);
  if (!engine) return tl::unexpected(engine.error());
  auto report = quantize_model(*engine, *model, a.out, a.options, common.dtype,
                               [](const std::string &) { return true; });
  clear_status();
  if (!report) return tl::unexpected(report.error());

  const TensorReport &largest = *report->largest();
  Rivals rivals(engine->options(), *engine);
  const auto compared =
      compare_with_reference(rivals, largest.info, [&](Engine &reference) -> Result<Comparison> {
        auto x = model->read(largest.name);
        if (!x) return tl::unexpected(x.error());
        return compare_quantize(*engine, reference, *x, a.options, kCompareValues);
      });
  Json doc = document("quantize");
  add_run_info(doc, "quantize", report->info());
  doc["shape"] = largest.shape;
  doc["dtype"] = common.dtype.empty() ? to_string(*model->find(largest.name)->dtype) : common.dtype;
  doc["outputs"] = Json{{"out", a.out}};
  doc["format"] = a.options.format;
  doc["copied_tensors"] = report->copied;
  add_sizes(doc, report->bytes_before, report->bytes_after, report->distortion);
  doc["tensors"] = Json::array();
  for (const TensorReport &t : report->tensors) doc["tensors"].push_back(t.json());
  add_comparison(doc, compared);
  std::string text =
      fmt::format("{} tensors: {}\n", report->tensors.size(), run_info_text(report->info()));
  if (compared) text += compared->text() + '\n';
  text += size_text(report->bytes_before, report->bytes_after, report->distortion);
  text += fmt::format("{} other tensors copied\nout: {}\n", report->copied, a.out);
  if (common.verbose > 0) text += '\n' + model_text(*report, true);
  print_result(common, doc, text);
  return 0;
}

Outcome run(Arguments a, const Common &common) {
  a.options.seed = common.seed.value_or(0);
  if (auto ok = check_common(common); !ok) return tl::unexpected(ok.error());
  if (auto ok = check_quantize_options(a.options); !ok) return tl::unexpected(ok.error());
  if (auto ok = check_output(a.out, {".npz", ".safetensors"}); !ok)
    return tl::unexpected(ok.error());
  auto model = is_model_input(a.in);
  if (!model) return tl::unexpected(model.error());
  return *model ? quantize_file(a, common) : quantize_array(a, common);
}

}  // namespace

void add_quantize(Program &program) {
  auto a = std::make_shared<Arguments>();
  CLI::App *app = add_command(program, nullptr, "quantize", "Quantise an array or a model",
                              [a, &program] { return run(*a, program.common); });
  app->add_option("IN", a->in, ".npy, .npz:KEY, .safetensors:NAME, or a model's .safetensors")
      ->required();
  app->add_option("OUT", a->out, ".npz or .safetensors")->required();
  QuantizeOptions &o = a->options;
  app->add_option("--format", o.format, fmt::format("{}", fmt::join(quant_format_names(), ", ")))
      ->required()
      ->type_name("F");
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
