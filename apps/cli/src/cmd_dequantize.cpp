// SPDX-License-Identifier: Apache-2.0
// switchyard dequantize IN OUT: back to plain numbers, with the original shape and dtype.
#include <fmt/format.h>

#include <algorithm>

#include "arrays.hpp"
#include "cancel.hpp"
#include "compare.hpp"
#include "model_file.hpp"
#include "session.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

struct Arguments {
  std::string in, out;
};

Outcome restore_array(const Arguments &a, const Common &common) {
  auto q = read_quantized(a.in);
  if (!q) return tl::unexpected(q.error());
  auto engine = make_engine(common);
  if (!engine) return tl::unexpected(engine.error());
  Tensor out;
  if (!common.dtype.empty()) {
    auto made = Tensor::empty(*parse_dtype(common.dtype), q->shape);
    if (!made) return tl::unexpected(made.error());
    out = std::move(*made);
  }
  RunInfo info;
  auto y = [&] {
    EndAtOnce scope;
    return engine->dequantize(*q, out, &info);
  }();
  if (!y) return tl::unexpected(y.error());
  if (!out.present()) out = std::move(*y);
  Json outputs = Json::object();
  if (auto ok = write_outputs({{"out", a.out, out}}, outputs); !ok)
    return tl::unexpected(ok.error());

  Rivals rivals(engine->options(), *engine);
  const auto compared = compare_with_reference(
      rivals, info, [&](Engine &reference) { return compare_dequantize(*engine, reference, *q); });
  Json doc = document("dequantize");
  add_run_info(doc, "dequantize", info);
  doc["shape"] = q->shape;
  doc["dtype"] = to_string(out.dtype());
  doc["outputs"] = outputs;
  doc["format"] = q->format;
  add_comparison(doc, compared);
  std::string text = run_info_text(info) + '\n';
  if (compared) text += compared->text() + '\n';
  text += fmt::format("{} to {} {}\nout: {}\n", q->format, to_string(out.dtype()),
                      shape_text(q->shape), a.out);
  print_result(common, doc, text);
  return 0;
}

Outcome restore_model(const Arguments &a, const Common &common) {
  if (auto ok = check_model_output(a.out); !ok) return tl::unexpected(ok.error());
  auto engine = make_engine(common);
  if (!engine) return tl::unexpected(engine.error());
  ModelOptions options;
  options.dtype = common.dtype;
  options.progress = model_progress("dequantize");
  auto report = dequantize_model(*engine, a.in, a.out, options);
  clear_status();
  if (!report) return tl::unexpected(report.error());
  Json doc = document("dequantize");
  add_run_info(doc, "dequantize", report->info());
  const TensorReport *largest = report->largest();
  doc["shape"] = largest ? Json(largest->tensor.shape) : Json(nullptr);
  doc["dtype"] = largest ? Json(largest->tensor.dtype) : Json(nullptr);
  doc["outputs"] = Json{{"out", a.out}};
  doc.update(Json::parse(report->json()));
  const auto restored = std::ranges::count_if(
      report->tensors, [](const TensorReport &t) { return !t.info.backend.empty(); });
  doc["restored_tensors"] = restored;
  doc["copied_tensors"] = report->tensors.size() - static_cast<std::size_t>(restored);
  std::string text = fmt::format(
      "{} tensors restored: {}\n{} -> {}, {} other tensors copied\nout: {}\n", restored,
      run_info_text(report->info()), byte_size(static_cast<double>(report->bytes_before())),
      byte_size(static_cast<double>(report->bytes_after())),
      report->tensors.size() - static_cast<std::size_t>(restored), a.out);
  if (common.verbose > 0) text += '\n' + model_table(*report);
  print_result(common, doc, text);
  return 0;
}

Outcome run(const Arguments &a, const Common &common) {
  if (auto ok = check_common(common); !ok) return tl::unexpected(ok.error());
  auto model = is_quantized_model(a.in);
  if (model && *model) return restore_model(a, common);
  if (auto ok = check_output(a.out, {".npy", ".npz", ".safetensors"}); !ok)
    return tl::unexpected(ok.error());
  if (!model) return tl::unexpected(model.error());
  return restore_array(a, common);
}

}  // namespace

void add_dequantize(Program &program) {
  auto a = std::make_shared<Arguments>();
  CLI::App *app = add_command(program, nullptr, "dequantize", "Restore what `quantize` wrote",
                              [a, &program] { return run(*a, program.common); });
  app->add_option(
         "IN", a->in,
         ".npz or .safetensors written by `quantize`, or a model: a folder, .safetensors or .gguf")
      ->required();
  app->add_option("OUT", a->out,
                  ".npy, .npz or .safetensors; a model: a folder, .safetensors or .gguf")
      ->required();
}

}  // namespace switchyard::cli
