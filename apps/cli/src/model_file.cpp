// SPDX-License-Identifier: Apache-2.0
#include "model_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "arrays.hpp"
#include "base/checked.hpp"
#include "cancel.hpp"
#include "io/array_file.hpp"
#include "ops/quantize_formats.hpp"
#include "quantize/quantize.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

bool is_floating(const std::optional<DType> &t) {
  return t && (t->code == SY_TYPE_FLOAT || t->code == SY_TYPE_BFLOAT);
}

std::uint64_t bytes_of(const TensorView &x) {
  return static_cast<std::uint64_t>(x.elements()) * size_of(x.dtype());
}

/// MLX's description of its own formats, for tools that look for one.
SafetensorsMetadata model_metadata(const Json &tensors, const QuantizeOptions &options) {
  SafetensorsMetadata metadata{{"meta", Json{{"tensors", tensors}}.dump()}};
  const auto format = parse_quant_format(options.format);
  if (format && (*format)->family == QuantFamily::affine && !tensors.empty()) {
    metadata["format"] = "mlx";
    metadata["quantization"] = Json{
        {"group_size", tensors.front()["group_size"]},
        {"bits", (*format)->bits},
        {"mode", "affine"}}.dump();
  }
  return metadata;
}

/// The result of the run with the median time.
Result<Quantized> median_quantize(Engine &engine, const TensorView &x,
                                  const QuantizeOptions &options, int repeat) {
  EndAtOnce scope;
  auto q = engine.quantize(x, options);
  std::vector<double> times;
  if (q) times.push_back(q->info.time_ms);
  QuantizeOptions again = options;
  for (int i = 1; q && i < repeat; ++i) {
    again.codes_out = q->codes;
    again.scales_out = q->scales;
    again.biases_out = q->biases;
    auto next = engine.quantize(x, again);
    if (!next) return next;
    times.push_back(next->info.time_ms);
    q->info = next->info;
  }
  if (!q) return q;
  std::ranges::sort(times);
  q->info.time_ms = times[times.size() / 2];
  return q;
}

/// What will be written for every tensor of the model, known before anything is computed.
struct Plan {
  std::vector<SafetensorSpec> specs;
  std::vector<const SafetensorInfo *> quantized, copied;
};

Error about(Error error, const std::string &path, const std::string &tensor) {
  if (error.file.empty()) error.file = path;
  error.message = fmt::format("tensor '{}': {}", tensor, error.message);
  return error;
}

Result<Plan> make_plan(const SafetensorsModel &model, const QuantizeOptions &options,
                       const std::string &dtype, const NameFilter &wanted) {
  Plan plan;
  const auto add = [&](const std::string &name, const QuantArray &array) {
    plan.specs.push_back({name, array.dtype, {array.shape().begin(), array.shape().end()}});
  };
  auto params = quantize_params_of(options);
  if (!params) return tl::unexpected(params.error());
  for (const std::string &name : model.names()) {
    const SafetensorInfo &info = *model.find(name);
    if (!is_floating(info.dtype) || info.shape.size() < 2 || !wanted(name)) {
      if (!info.dtype)
        return tl::unexpected(about(
            Error{
                ErrorCode::dtype, "dtype " + info.dtype_name + " cannot be read", {}, 0, 0, -1, {}},
            model.path(), name));
      plan.copied.push_back(&info);
      plan.specs.push_back({name, *info.dtype, info.shape});
      continue;
    }
    const DType type = dtype.empty() ? *info.dtype : parse_dtype(dtype).value_or(*info.dtype);
    auto layout = quant_layout(*params, info.shape, type);
    if (!layout) return tl::unexpected(about(layout.error(), model.path(), name));
    const ArrayNames names = model_names(name);
    add(names.codes, layout->codes);
    if (layout->scales) add(names.scales, *layout->scales);
    if (layout->biases) add(names.biases, *layout->biases);
    plan.quantized.push_back(&info);
  }
  return plan;
}

/// The metadata that a tensor will have, also before it is quantised.
Json planned_meta(const SafetensorInfo &info, const QuantizeOptions &options,
                  const std::string &dtype) {
  Quantized q;
  const auto params = quantize_params_of(options);
  q.format = (*parse_quant_format(options.format))->name;
  q.shape = info.shape;
  q.dtype = dtype.empty() ? *info.dtype : parse_dtype(dtype).value_or(*info.dtype);
  q.group_size = static_cast<int>(params->group_size);
  q.granularity = options.granularity;
  return quantized_meta(q);
}

template <class F>
void for_each_f32(const Tensor &x, F use) {
  const float *p = x.data<const float>();
  for (std::int64_t i = 0; i < x.elements(); ++i) use(i, p[i]);
}

}  // namespace

void Distortion::add(const Distortion &other) noexcept {
  squared_error += other.squared_error;
  squared_signal += other.squared_signal;
  values += other.values;
}

double Distortion::snr_db() const noexcept {
  return 10 * std::log10(squared_signal / squared_error);
}

Json Distortion::json() const {
  const double ratio = snr_db();
  return Json{{"mse", mse()}, {"snr_db", std::isfinite(ratio) ? Json(ratio) : Json(nullptr)}};
}

Result<Distortion> measure_distortion(Engine &engine, const TensorView &x, const Quantized &q) {
  EndAtOnce scope;
  auto y = engine.dequantize(q);
  if (!y) return tl::unexpected(y.error());
  auto want = cast(x, dtypes::f32);
  auto have = cast(*y, dtypes::f32);
  if (!want || !have) return tl::unexpected(want ? have.error() : want.error());
  Distortion d;
  d.values = want->elements();
  const float *restored = have->data<const float>();
  for_each_f32(*want, [&](std::int64_t i, float v) {
    const double error = static_cast<double>(v) - static_cast<double>(restored[i]);
    d.squared_error += error * error;
    d.squared_signal += static_cast<double>(v) * static_cast<double>(v);
  });
  return d;
}

Json TensorReport::json() const {
  Json doc;
  doc["name"] = name;
  doc["shape"] = shape;
  doc["backend"] = info.backend;
  doc["kernel"] = info.kernel;
  doc["verified"] = info.verified;
  doc["time_ms"] = info.time_ms;
  doc["bytes_before"] = bytes_before;
  doc["bytes_after"] = bytes_after;
  if (distortion.values > 0) doc.update(distortion.json());
  return doc;
}

const TensorReport *ModelReport::largest() const noexcept {
  const auto at = std::ranges::max_element(
      tensors, {}, [](const TensorReport &t) { return checked_elements(t.shape).value_or(0); });
  return at == tensors.end() ? nullptr : &*at;
}

RunInfo ModelReport::info() const {
  RunInfo all;
  if (const TensorReport *t = largest()) all = t->info;
  all.time_ms = time_ms;
  for (const TensorReport &t : tensors) {
    if (t.info.verified == "no") all.verified = "no";
    if (all.fallback_reason.empty()) all.fallback_reason = t.info.fallback_reason;
  }
  return all;
}

Result<ModelReport> quantize_model(Engine &engine, const SafetensorsModel &model,
                                   const std::string &out, const QuantizeOptions &options,
                                   const std::string &dtype, const NameFilter &wanted, int repeat) {
  auto plan = make_plan(model, options, dtype, wanted);
  if (!plan) return tl::unexpected(plan.error());
  if (plan->quantized.empty())
    return fail(ErrorCode::shape,
                fmt::format("{} has no floating tensor of two or more dimensions to quantise",
                            model.path()));
  Json meta = Json::object();
  for (const SafetensorInfo *info : plan->quantized)
    meta[info->name] = planned_meta(*info, options, dtype);
  std::optional<SafetensorsWriter> writer;
  if (!out.empty()) {
    auto created = SafetensorsWriter::create(out, plan->specs, model_metadata(meta, options));
    if (!created) return tl::unexpected(created.error());
    writer.emplace(std::move(*created));
  }
  const auto write = [&](const std::string &name, const Tensor &array) -> Status {
    return writer && array.present() ? writer->write(name, array) : Status{};
  };

  ModelReport report;
  for (const SafetensorInfo *info : plan->quantized) {
    show_status(fmt::format("quantize {}/{} {}", report.tensors.size() + 1, plan->quantized.size(),
                            info->name));
    if (auto ok = check_cancelled(); !ok) return tl::unexpected(ok.error());
    auto x = model.read(info->name);
    if (x && !dtype.empty()) x = cast(*x, *parse_dtype(dtype));
    if (!x) return tl::unexpected(x.error());
    auto q = median_quantize(engine, *x, options, repeat);
    if (!q) return tl::unexpected(about(q.error(), model.path(), info->name));
    auto distortion = measure_distortion(engine, *x, *q);
    if (!distortion) return tl::unexpected(about(distortion.error(), model.path(), info->name));
    const ArrayNames names = model_names(info->name);
    if (auto ok = write(names.codes, q->codes); !ok) return tl::unexpected(ok.error());
    if (auto ok = write(names.scales, q->scales); !ok) return tl::unexpected(ok.error());
    if (auto ok = write(names.biases, q->biases); !ok) return tl::unexpected(ok.error());
    report.tensors.push_back(
        {info->name, info->shape, bytes_of(*x), q->bytes(), *distortion, q->info});
    const TensorReport &t = report.tensors.back();
    report.bytes_before += t.bytes_before;
    report.bytes_after += t.bytes_after;
    report.time_ms += t.info.time_ms;
    report.distortion.add(t.distortion);
  }
  for (const SafetensorInfo *info : plan->copied) {
    ++report.copied;
    if (!writer) continue;
    auto x = model.read(info->name);
    if (!x) return tl::unexpected(x.error());
    if (auto ok = writer->write(info->name, *x); !ok) return tl::unexpected(ok.error());
  }
  clear_status();
  if (auto ok = check_cancelled(); !ok) return tl::unexpected(ok.error());
  if (writer)
    if (auto ok = writer->finish(); !ok) return tl::unexpected(ok.error());
  return report;
}

Result<bool> is_model_input(const std::string &name) {
  const ArrayName parts = parse_array_name(name);
  if (name.ends_with(".safetensors.index.json")) return true;
  if (!parts.key.empty() || extension_of(name) != ".safetensors") return false;
  auto file = SafetensorsReader::open(parts.path);
  if (!file) return tl::unexpected(file.error());
  return file->tensors().size() > 1;
}

std::string model_text(const ModelReport &report, bool quantized) {
  std::vector<std::string> header{"tensor", "shape", "before", "after", "time", "backend"};
  if (quantized) header.insert(header.end(), {"MSE", "SNR dB"});
  Table table(header, "llrrrlrr");
  const auto row = [&](const std::string &name, const std::string &shape, std::uint64_t before,
                       std::uint64_t after, double ms, const std::string &backend,
                       const Distortion &d) {
    std::vector<std::string> cells{name,
                                   shape,
                                   byte_size(static_cast<double>(before)),
                                   byte_size(static_cast<double>(after)),
                                   duration(ms),
                                   backend};
    if (quantized)
      cells.insert(cells.end(),
                   {fmt::format("{:.3g}", d.mse()), fmt::format("{:.2f}", d.snr_db())});
    table.add(std::move(cells));
  };
  for (const TensorReport &t : report.tensors)
    row(t.name, shape_text(t.shape), t.bytes_before, t.bytes_after, t.info.time_ms, t.info.backend,
        t.distortion);
  row(fmt::format("all {}", report.tensors.size()), "", report.bytes_before, report.bytes_after,
      report.time_ms, "", report.distortion);
  return table.text();
}

}  // namespace switchyard::cli
