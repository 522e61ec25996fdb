// SPDX-License-Identifier: Apache-2.0
#include "model_file.hpp"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>

#include "arrays.hpp"
#include "base/checked.hpp"
#include "cancel.hpp"
#include "io/array_file.hpp"
#include "io/file.hpp"
#include "io/safetensors.hpp"
#include "models/quality.hpp"
#include "ops/quantize_formats.hpp"
#include "session.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

bool is_folder(const std::string &name) {
  std::error_code ignored;
  return std::filesystem::is_directory(name, ignored);
}

bool is_model_name(const std::string &name) {
  return name.ends_with(".safetensors.index.json") || name.ends_with(".gguf") || is_folder(name);
}

std::string bytes_text(std::uint64_t bytes) { return byte_size(static_cast<double>(bytes)); }

std::string bits_text(std::uint64_t bytes, std::int64_t values) {
  return values > 0
             ? fmt::format("{:.2f}", static_cast<double>(bytes) * 8 / static_cast<double>(values))
             : "-";
}

}  // namespace

Json quality_json(const TensorQuality &quality) {
  const double ratio = quality.snr_db();
  return Json{{"mse", quality.mse()},
              {"snr_db", std::isfinite(ratio) ? Json(ratio) : Json(nullptr)}};
}

Result<TensorQuality> measure_quality(Engine &engine, const TensorView &x, const Quantized &q) {
  EndAtOnce scope;
  auto restored = Tensor::empty(dtypes::f32, x.shape());
  if (!restored) return tl::unexpected(restored.error());
  if (auto y = engine.dequantize(q, *restored); !y) return tl::unexpected(y.error());
  auto values = contiguous_copy(x);
  if (!values) return tl::unexpected(values.error());
  TensorQuality quality;
  models::add_errors(*values, restored->data<const float>(), quality);
  return quality;
}

Result<bool> is_model_input(const std::string &name) {
  if (is_model_name(name)) return true;
  const ArrayName parts = parse_array_name(name);
  if (!parts.key.empty() || extension_of(name) != ".safetensors") return false;
  auto file = SafetensorsReader::open(parts.path);
  if (!file) return tl::unexpected(file.error());
  return file->tensors().size() > 1;
}

Result<bool> is_quantized_model(const std::string &name) {
  if (is_model_name(name)) return true;
  if (extension_of(name) != ".safetensors") return false;
  auto file = SafetensorsReader::open(name);
  if (!file) return tl::unexpected(file.error());
  const auto text = file->metadata().find("meta");
  if (text == file->metadata().end())
    return file_error(name, "not a file of quantised arrays: it has no 'meta'");
  const Json meta = Json::parse(text->second, nullptr, false);
  return meta.is_object() && meta.contains("tensors");
}

Status check_model_output(const std::string &out) {
  const std::string end = extension_of(out);
  if (end == ".npy" || end == ".npz")
    return fail(
        ErrorCode::usage,
        fmt::format("'{}': a model goes into a folder, a .safetensors or a .gguf file", out));
  return {};
}

Status check_model_rounding(const QuantizeOptions &options) {
  auto rounding = parse_rounding(options.rounding);
  if (!rounding) return tl::unexpected(rounding.error());
  if (*rounding == SY_ROUNDING_NEAREST) return {};
  return fail(ErrorCode::usage,
              "stochastic rounding is for one array; a model's weights are rounded "
              "to nearest");
}

ModelProgress model_progress(std::string label) {
  return [label = std::move(label)](const std::string &what, double done) {
    show_status(fmt::format("{} {:3.0f} % {}", label, done * 100, what));
    return !cancelled();
  };
}

std::string size_text(std::uint64_t before, std::uint64_t after, const TensorQuality &quality) {
  return fmt::format(
      "{} -> {} ({:.3g} times smaller), error {:.3g} (MSE), {:.2f} dB signal to noise\n",
      bytes_text(before), bytes_text(after),
      after > 0 ? static_cast<double>(before) / static_cast<double>(after) : 0.0, quality.mse(),
      quality.snr_db());
}

std::string model_summary(const ModelReport &r) {
  std::string out =
      fmt::format("{} tensors {}, {} kept; {:.3f} bits per value where rules decide\n",
                  r.quantized(), r.dry_run ? "would be quantised" : "quantised",
                  r.tensors.size() - r.quantized(), r.bits_per_value());
  if (r.dry_run)
    out += fmt::format("{} -> {}; nothing was written\n", bytes_text(r.bytes_before()),
                       bytes_text(r.bytes_after()));
  else
    out += size_text(r.bytes_before(), r.bytes_after(), r.quality());
  if (r.target_bits > 0)
    out += fmt::format(
        "target {:g} bits per value; its error is at most {:.2g} % above the best "
        "possible\n",
        r.target_bits, r.target_gap * 100);
  if (!r.dry_run)
    out += fmt::format("decide {}, read {}, compute {}, measure errors {}, write {}; {} in all\n",
                       duration(r.decide_ms), duration(r.read_ms), duration(r.compute_ms),
                       duration(r.quality_ms), duration(r.write_ms), duration(r.total_ms));
  for (const FormatSpeed &s : r.speeds) {
    out += fmt::format("{}: {} in {}, {:.2f} GB/s", s.choice, bytes_text(s.bytes),
                       duration(s.compute_ms), s.gb_per_s);
    if (s.bench_gb_per_s > 0)
      out += fmt::format(", {:.0f} % of the {:.2f} GB/s that it reaches alone",
                         s.gb_per_s / s.bench_gb_per_s * 100, s.bench_gb_per_s);
    out += '\n';
  }
  for (const std::string &rule : r.unused_rules) out += "unused rule: " + rule + '\n';
  return out;
}

std::string model_table(const ModelReport &r) {
  std::vector<std::string> header{"tensor", "shape", "stored", "becomes",
                                  "before", "after", "bits"};
  if (!r.dry_run) header.insert(header.end(), {"MSE", "SNR dB", "max error"});
  header.push_back("rule");
  Table table(header, r.dry_run ? "llllrrrl" : "llllrrrrrrl");
  for (const TensorReport &t : r.tensors) {
    std::vector<std::string> cells{t.tensor.name,
                                   shape_text(t.tensor.shape),
                                   t.tensor.stored,
                                   t.choice.text(),
                                   bytes_text(t.tensor.bytes),
                                   bytes_text(t.bytes_after),
                                   bits_text(t.bytes_after, t.tensor.values)};
    if (!r.dry_run && t.quality)
      cells.insert(cells.end(), {fmt::format("{:.3g}", t.quality->mse()),
                                 fmt::format("{:.2f}", t.quality->snr_db()),
                                 fmt::format("{:.3g}", t.quality->max_error)});
    else if (!r.dry_run)
      cells.insert(cells.end(), {"", "", ""});
    cells.push_back(t.rule);
    table.add(std::move(cells));
  }
  return table.text();
}

std::string candidates_table(const ModelReport &r) {
  Table table({"tensor", "candidate", "bits", "MSE", ""}, "llrrl");
  bool any = false;
  for (const TensorReport &t : r.tensors)
    for (const CandidateError &c : t.candidates) {
      any = true;
      const auto values = static_cast<double>(std::max<std::int64_t>(t.tensor.values, 1));
      table.add({t.tensor.name, c.choice.text(), bits_text(c.bytes, t.tensor.values),
                 fmt::format("{:.3g}", c.squared_error / values), c.chosen ? "chosen" : ""});
    }
  return any ? table.text() : "";
}

}  // namespace switchyard::cli
