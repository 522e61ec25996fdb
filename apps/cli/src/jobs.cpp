// SPDX-License-Identifier: Apache-2.0
#include "jobs.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "arrays.hpp"
#include "cancel.hpp"
#include "io/cast.hpp"
#include "io/safetensors.hpp"
#include "model_file.hpp"
#include "peak_memory.hpp"
#include "picture.hpp"
#include "session.hpp"
#include "shapes.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

std::string find(const std::map<std::string, std::string> &slots, const std::string &name) {
  const auto at = slots.find(name);
  return at == slots.end() ? std::string() : at->second;
}

/// Runs `call` job.repeat times; the last result, with the median time.
template <class F>
auto repeated(const Job &job, F call) -> decltype(call()) {
  std::vector<double> times;
  for (int i = 1;; ++i) {
    auto result = call();
    if (!result) return result;
    times.push_back(result->info.time_ms);
    if (i < job.repeat && !cancelled()) continue;
    std::ranges::sort(times);
    result->info.time_ms = times[times.size() / 2];
    return result;
  }
}

template <class F>
Status compare_with(JobReport &report, Rivals &rivals, const Job &job, F compare) {
  for (const std::string &name : job.compare) {
    show_status(fmt::format("{}: comparing with {}", job.name, name));
    auto other = rivals.get(name);
    if (!other) return tl::unexpected(other.error());
    Result<Comparison> comparison = compare(**other);
    if (!comparison) return tl::unexpected(comparison.error());
    comparison->backend = name;
    report.compared.push_back(std::move(*comparison));
  }
  return {};
}

void describe_data(JobReport &report, const TensorView &x) {
  report.shape = shape_json(x.shape());
  report.dtype = to_string(x.dtype());
}

void add_sizes(JobReport &report, std::uint64_t before, std::uint64_t after,
               const TensorQuality &q) {
  report.extra["bytes_before"] = before;
  report.extra["bytes_after"] = after;
  report.extra.update(quality_json(q));
  report.details.push_back(fmt::format("{} -> {}, MSE {:.3g}, {:.2f} dB signal to noise",
                                       byte_size(static_cast<double>(before)),
                                       byte_size(static_cast<double>(after)), q.mse(), q.snr_db()));
}

Status run_quantize_array(Engine &engine, Rivals &rivals, const Job &job, JobReport &report) {
  auto x = load_input(find(job.inputs, "x"), job.dtype);
  if (!x) return tl::unexpected(x.error());
  auto q = repeated(job, [&] {
    EndAtOnce scope;
    return engine.quantize(*x, job.quantize);
  });
  if (!q) return tl::unexpected(q.error());
  report.info = q->info;
  report.why = why(engine, describe_quantize(*x, job.quantize));
  describe_data(report, *x);
  auto quality = measure_quality(engine, *x, *q);
  if (!quality) return tl::unexpected(quality.error());
  add_sizes(report, static_cast<std::uint64_t>(x->elements()) * size_of(x->dtype()), q->bytes(),
            *quality);
  if (auto ok = check_cancelled(); !ok) return ok;
  if (const std::string out = find(job.outputs, "out"); !out.empty()) {
    if (auto ok = write_quantized(out, *q); !ok) return ok;
    report.outputs["out"] = out;
  }
  return compare_with(report, rivals, job, [&](Engine &other) {
    return compare_quantize(engine, other, *x, job.quantize, job.compare_limit);
  });
}

/// All quantised tensors of a plain model, compared one by one.
Result<Comparison> compare_model(Engine &engine, Engine &other, const ModelReport &report,
                                 const Job &job) {
  Comparison all;
  all.equal = true;
  auto model = SafetensorsModel::open(report.in);
  if (!model) return tl::unexpected(model.error());
  for (const TensorReport &t : report.tensors) {
    if (!t.quantized()) continue;
    auto x = model->read(t.tensor.name);
    if (x && !job.dtype.empty()) x = cast(*x, *parse_dtype(job.dtype));
    if (!x) return tl::unexpected(x.error());
    auto one = compare_quantize(engine, other, *x, job.quantize, job.compare_limit);
    if (!one) return one;
    all.own_ms += one->own_ms;
    all.other_ms += one->other_ms;
    if (!one->sample.empty())
      all.sample = fmt::format("at most {} values of each tensor", job.compare_limit);
    if (!one->equal && all.equal) {
      all.equal = false;
      all.difference = t.tensor.name + ": " + one->difference;
    }
    if (auto ok = check_cancelled(); !ok) return tl::unexpected(ok.error());
  }
  return all;
}

/// Tensors that the job's filter takes, in the job's format; the others stay.
ModelOptions model_options(const Job &job) {
  const QuantizeOptions &o = job.quantize;
  const TensorChoice choice{o.format, o.group_size, o.granularity, o.scale};
  ModelOptions options;
  options.predicate = [choice, &job](const ModelTensor &t) -> std::optional<TensorChoice> {
    return job.tensors.matches(t.name) ? choice : TensorChoice{};
  };
  options.nonfinite = o.nonfinite;
  options.dtype = job.dtype;
  options.repeat = job.repeat;
  options.progress = model_progress(job.name);
  return options;
}

Status run_quantize_model(Engine &engine, Rivals &rivals, const Job &job, JobReport &report) {
  if (auto ok = check_model_rounding(job.quantize); !ok) return ok;
  const std::string out = find(job.outputs, "out");
  auto tensors = quantize_model(engine, find(job.inputs, "x"), out, model_options(job));
  if (!tensors) return tl::unexpected(tensors.error());
  const TensorReport *largest = tensors->largest();
  if (largest == nullptr)
    return fail(ErrorCode::shape,
                fmt::format("{} has no floating tensor of two or more dimensions to quantise",
                            tensors->in));
  const DType dtype =
      parse_dtype(job.dtype.empty() ? largest->tensor.dtype : job.dtype).value_or(dtypes::f32);
  const TensorView like(static_cast<void *>(nullptr), dtype, largest->tensor.shape);
  report.info = tensors->info();
  report.why = why(engine, describe_quantize(like, job.quantize));
  describe_data(report, like);
  if (!out.empty()) report.outputs["out"] = out;
  report.extra["tensor_count"] = tensors->quantized();
  add_sizes(report, tensors->bytes_before(), tensors->bytes_after(), tensors->quality());
  const Json all = Json::parse(tensors->json());
  report.extra["copied_tensors"] = all["copied_tensors"];
  report.extra["time"] = all["time"];
  report.extra["tensors"] = Json::array();
  for (const Json &t : all["tensors"])
    if (!t["choice"].is_null()) report.extra["tensors"].push_back(t);
  report.details.push_back(
      fmt::format("{} tensors quantised, {} copied; the largest is {}", tensors->quantized(),
                  tensors->tensors.size() - tensors->quantized(), largest->tensor.name));
  report.details.push_back(model_table(*tensors));
  return compare_with(report, rivals, job,
                      [&](Engine &other) { return compare_model(engine, other, *tensors, job); });
}

Status run_quantize(Engine &engine, Rivals &rivals, const Job &job, JobReport &report) {
  if (job.tensors.given) return run_quantize_model(engine, rivals, job, report);
  auto model = is_model_input(find(job.inputs, "x"));
  if (!model) return tl::unexpected(model.error());
  return *model ? run_quantize_model(engine, rivals, job, report)
                : run_quantize_array(engine, rivals, job, report);
}

Status run_dequantize(Engine &engine, Rivals &rivals, const Job &job, JobReport &report) {
  const std::string in = find(job.inputs, "x"), out = find(job.outputs, "out");
  auto model = is_quantized_model(in);
  if (!model) return tl::unexpected(model.error());
  if (*model) {
    ModelOptions options;
    options.predicate = [&job](const ModelTensor &t) -> std::optional<TensorChoice> {
      if (!job.tensors.matches(t.name)) return std::nullopt;
      return TensorChoice{};
    };
    options.dtype = job.dtype;
    options.progress = model_progress(job.name);
    auto tensors = dequantize_model(engine, in, out, options);
    if (!tensors) return tl::unexpected(tensors.error());
    report.info = tensors->info();
    if (const TensorReport *largest = tensors->largest()) report.shape = largest->tensor.shape;
    report.extra["tensor_count"] = tensors->tensors.size();
    report.details.push_back(fmt::format("{} tensors restored", tensors->tensors.size()));
    if (!out.empty()) report.outputs["out"] = out;
    return {};
  }
  auto q = read_quantized(in);
  if (!q) return tl::unexpected(q.error());
  struct Restored {
    Tensor y;
    RunInfo info;
  };
  auto restored = repeated(job, [&]() -> Result<Restored> {
    EndAtOnce scope;
    Restored r;
    auto y = engine.dequantize(*q, {}, &r.info);
    if (!y) return tl::unexpected(y.error());
    r.y = std::move(*y);
    return r;
  });
  if (!restored) return tl::unexpected(restored.error());
  report.info = restored->info;
  report.why = why(engine, describe_dequantize(*q));
  describe_data(report, restored->y);
  if (auto ok = write_outputs({{"out", out, restored->y}}, report.outputs); !ok) return ok;
  return compare_with(report, rivals, job,
                      [&](Engine &other) { return compare_dequantize(engine, other, *q); });
}

Status run_kmeans(Engine &engine, Rivals &rivals, const Job &job, JobReport &report) {
  auto x = load_points(find(job.inputs, "x"), job.dtype);
  if (!x) return tl::unexpected(x.error());
  auto weights = load_optional(find(job.inputs, "sample_weight"));
  if (!weights) return tl::unexpected(weights.error());
  const std::string init_file = find(job.inputs, "init");
  auto init = init_file.empty() ? Result<Tensor>(Tensor{}) : load_input(init_file, "f32");
  if (!init) return tl::unexpected(init.error());
  KMeansOptions options = job.kmeans;
  options.sample_weight = *weights;
  options.init_centroids = *init;
  options.progress = progress_bar(job.name);
  auto fit = repeated(job, [&] { return engine.kmeans(*x, options); });
  clear_status();
  if (!fit) return tl::unexpected(fit.error());
  if (fit->cancelled) return cancelled_error();
  report.info = fit->info;
  report.why = why(engine, describe_kmeans(*x, options));
  describe_data(report, *x);
  report.extra["k"] = options.k;
  report.extra["inertia"] = fit->inertia;
  report.extra["n_iter"] = fit->n_iter;
  report.extra["converged"] = fit->converged;
  report.details.push_back(fmt::format("k = {}: inertia {:.9g} after {} iterations, {}", options.k,
                                       fit->inertia, fit->n_iter,
                                       fit->converged ? "converged" : "not converged"));
  if (auto ok = write_outputs({{"labels", find(job.outputs, "labels"), fit->labels},
                               {"centroids", find(job.outputs, "centroids"), fit->centroids},
                               {"counts", find(job.outputs, "counts"), fit->counts}},
                              report.outputs);
      !ok)
    return ok;
  if (const std::string picture = find(job.outputs, "picture"); !picture.empty()) {
    const std::string from = find(job.inputs, "x");
    if (auto ok = write_clustered_picture(picture, from, fit->labels, fit->centroids); !ok)
      return ok;
    report.outputs["picture"] = picture;
    report.extra["picture"] = Json{{"before", from}, {"after", picture}};
  }
  return compare_with(report, rivals, job, [&](Engine &other) {
    return compare_kmeans(engine, other, *x, options, job.compare_limit);
  });
}

Status run_attention(Engine &engine, Rivals &rivals, const Job &job, JobReport &report) {
  Tensor q, k, v;
  for (auto &[slot, into] : {std::pair{"q", &q}, std::pair{"k", &k}, std::pair{"v", &v}}) {
    auto array = load_input(find(job.inputs, slot), job.dtype);
    if (!array) return tl::unexpected(array.error());
    *into = std::move(*array);
  }
  auto mask = load_optional(find(job.inputs, "mask"));
  if (!mask) return tl::unexpected(mask.error());
  auto sinks = load_optional(find(job.inputs, "sinks"));
  if (!sinks) return tl::unexpected(sinks.error());
  AttentionOptions options = job.attention;
  options.mask = *mask;
  options.sinks = *sinks;
  options.return_lse = !find(job.outputs, "lse").empty();
  auto result = repeated(job, [&] {
    EndAtOnce scope;
    return engine.attention(q, k, v, options);
  });
  if (!result) return tl::unexpected(result.error());
  report.info = result->info;
  report.why = why(engine, describe_attention(q, k, v, options));
  describe_data(report, q);
  report.details.push_back(fmt::format("q {}, k {}, v {}", shape_text(q.shape()),
                                       shape_text(k.shape()), shape_text(v.shape())));
  if (auto ok = write_outputs({{"out", find(job.outputs, "out"), result->out},
                               {"lse", find(job.outputs, "lse"), result->lse}},
                              report.outputs);
      !ok)
    return ok;
  return compare_with(report, rivals, job, [&](Engine &other) {
    return compare_attention(engine, other, q, k, v, options, job.compare_limit);
  });
}

}  // namespace

bool JobReport::right() const {
  return std::ranges::all_of(compared, [](const Comparison &c) { return c.equal; });
}

Json JobReport::json() const {
  Json doc;
  doc["name"] = name;
  add_run_info(doc, op, info);
  doc["why"] = why;
  doc["shape"] = shape;
  doc["dtype"] = dtype;
  doc["outputs"] = outputs;
  doc["compared"] = Json::array();
  for (const Comparison &c : compared) doc["compared"].push_back(c.json());
  doc.update(extra);
  return doc;
}

Status check_jobs(const RunConfig &config) {
  for (const Job &job : config.jobs)
    for (const auto &[slot, path] : job.outputs) {
      auto ok = slot == "picture"      ? check_picture(path, find(job.inputs, "x"))
                : job.op == "quantize" ? check_output(path, {".npz", ".safetensors"})
                                       : check_output(path, {".npy", ".npz", ".safetensors"});
      if (ok) continue;
      Error error = ok.error();
      error.message = fmt::format("job '{}', output {}: {}", job.name, slot, error.message);
      if (error.code == ErrorCode::usage) {
        error.code = ErrorCode::config;
        error.file = config.path;
        error.line = job.line;
        error.column = 1;
      }
      return tl::unexpected(error);
    }
  return {};
}

Result<JobReport> run_job(Engine &engine, Rivals &rivals, const Job &job) {
  show_status(job.name);
  restart_peak_memory();
  JobReport report;
  report.name = job.name;
  report.op = job.op;
  Status done = job.op == "quantize"     ? run_quantize(engine, rivals, job, report)
                : job.op == "dequantize" ? run_dequantize(engine, rivals, job, report)
                : job.op == "kmeans"     ? run_kmeans(engine, rivals, job, report)
                                         : run_attention(engine, rivals, job, report);
  clear_status();
  if (!done) {
    Error error = done.error();
    error.message = fmt::format("job '{}': {}", job.name, error.message);
    return tl::unexpected(error);
  }
  if (const std::uint64_t peak = peak_memory(); peak > 0) report.extra["peak_memory_bytes"] = peak;
  return report;
}

}  // namespace switchyard::cli
