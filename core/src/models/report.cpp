// SPDX-License-Identifier: Apache-2.0
#include "models/report.hpp"

#include <algorithm>
#include <cmath>

namespace switchyard {
namespace models {
namespace {

Json choice_json(const TensorChoice &choice) {
  if (choice.format.empty()) return nullptr;
  return {{"format", choice.format},
          {"group_size", choice.group_size},
          {"granularity", choice.granularity},
          {"scale", choice.scale}};
}

Json finite(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

double bits_of(std::uint64_t bytes, std::int64_t values) {
  return values > 0 ? static_cast<double>(bytes) * 8 / static_cast<double>(values) : 0;
}

/// Rules decide about floating tensors of two or more dimensions.
bool counts(const TensorReport &t) {
  const std::string &dtype = t.tensor.dtype;
  return t.tensor.shape.size() >= 2 && (dtype == "f32" || dtype == "f16" || dtype == "bf16");
}

Json tensor_json(const TensorReport &t, bool dry_run) {
  Json doc;
  doc["name"] = t.tensor.name;
  doc["shape"] = t.tensor.shape;
  doc["dtype"] = t.tensor.dtype;
  doc["stored"] = t.tensor.stored;
  doc["candidate"] = counts(t);
  doc["choice"] = choice_json(t.choice);
  doc["rule"] = t.rule;
  doc["bytes_before"] = t.tensor.bytes;
  doc["bytes_after"] = t.bytes_after;
  doc["bits_per_value"] = bits_of(t.bytes_after, t.tensor.values);
  if (!t.candidates.empty()) {
    doc["candidates"] = Json::array();
    for (const CandidateError &c : t.candidates)
      doc["candidates"].push_back(
          {{"choice", c.choice.text()},
           {"bits_per_value", bits_of(c.bytes, t.tensor.values)},
           {"mse",
            t.tensor.values > 0 ? c.squared_error / static_cast<double>(t.tensor.values) : 0},
           {"chosen", c.chosen}});
  }
  if (dry_run) return doc;
  if (t.quality) {
    doc["mse"] = t.quality->mse();
    doc["snr_db"] = finite(t.quality->snr_db());
    doc["max_error"] = t.quality->max_error;
    doc["histogram"] = t.quality->histogram;
  }
  if (!t.info.backend.empty()) {
    doc["backend"] = t.info.backend;
    doc["kernel"] = t.info.kernel;
    doc["verified"] = t.info.verified;
    doc["time_ms"] = t.compute_ms;
  }
  doc["resumed"] = t.resumed;
  doc["checksums"] = Json::object();
  for (const auto &[name, sum] : t.checksums) doc["checksums"][name] = sum;
  return doc;
}

}  // namespace

Json journal_entry(const TensorReport &t) {
  Json entry{{"tensor", t.tensor.name}, {"checksums", Json::array()}};
  for (const auto &[name, sum] : t.checksums) entry["checksums"].push_back({name, sum});
  entry["info"] = {t.info.backend, t.info.kernel, t.info.requested_backend, t.info.verified,
                   t.info.fallback_reason};
  if (t.quality)
    entry["quality"] = {{"error", t.quality->squared_error},
                        {"signal", t.quality->squared_signal},
                        {"max", t.quality->max_error},
                        {"values", t.quality->values},
                        {"histogram", t.quality->histogram}};
  return entry;
}

bool read_journal(const Json &entry, TensorReport &t) {
  try {
    t.checksums = entry.at("checksums").get<std::vector<std::pair<std::string, std::string>>>();
    const Json &info = entry.at("info");
    t.info.backend = info.at(0).get<std::string>();
    t.info.kernel = info.at(1).get<std::string>();
    t.info.requested_backend = info.at(2).get<std::string>();
    t.info.verified = info.at(3).get<std::string>();
    t.info.fallback_reason = info.at(4).get<std::string>();
    if (const auto q = entry.find("quality"); q != entry.end()) {
      TensorQuality quality;
      quality.squared_error = q->at("error").get<double>();
      quality.squared_signal = q->at("signal").get<double>();
      quality.max_error = q->at("max").get<double>();
      quality.values = q->at("values").get<std::int64_t>();
      quality.histogram = q->at("histogram").get<std::vector<std::uint64_t>>();
      t.quality = std::move(quality);
    }
    return true;
  } catch (const Json::exception &) {
    return false;
  }
}

ModelReport report_of(const Plan &plan, const Source &source, const std::string &out) {
  ModelReport report;
  report.in = source.path();
  report.out = out;
  report.recipe = plan.recipe;
  report.unused_rules = plan.unused_rules;
  report.target_bits = plan.target_bits;
  report.target_gap = plan.target_gap;
  for (const PlanTensor &p : plan.tensors) {
    TensorReport t;
    t.tensor = p.source->info;
    t.rule = p.rule;
    t.candidates = p.candidates;
    if (p.action == Action::quantize) t.choice = p.quant->choice;
    t.bytes_after = p.action == Action::quantize ? p.quant->bytes
                    : p.action == Action::restore
                        ? static_cast<std::uint64_t>(t.tensor.values) * size_of(p.dtype)
                        : t.tensor.bytes;
    report.tensors.push_back(std::move(t));
  }
  return report;
}

}  // namespace models

std::uint64_t ModelReport::bytes_before() const noexcept {
  std::uint64_t sum = 0;
  for (const TensorReport &t : tensors) sum += t.tensor.bytes;
  return sum;
}

std::uint64_t ModelReport::bytes_after() const noexcept {
  std::uint64_t sum = 0;
  for (const TensorReport &t : tensors) sum += t.bytes_after;
  return sum;
}

std::size_t ModelReport::quantized() const noexcept {
  return static_cast<std::size_t>(std::ranges::count_if(tensors, &TensorReport::quantized));
}

double ModelReport::bits_per_value() const noexcept {
  std::uint64_t bytes = 0;
  std::int64_t values = 0;
  for (const TensorReport &t : tensors)
    if (models::counts(t)) {
      bytes += t.bytes_after;
      values += t.tensor.values;
    }
  return models::bits_of(bytes, values);
}

TensorQuality ModelReport::quality() const {
  TensorQuality all;
  for (const TensorReport &t : tensors)
    if (t.quality) all.add(*t.quality);
  return all;
}

const TensorReport *ModelReport::largest() const noexcept {
  const TensorReport *best = nullptr;
  for (const TensorReport &t : tensors)
    if (!t.info.backend.empty() && (best == nullptr || t.tensor.values > best->tensor.values))
      best = &t;
  return best;
}

RunInfo ModelReport::info() const {
  RunInfo all;
  if (const TensorReport *t = largest()) all = t->info;
  all.time_ms = compute_ms;
  for (const TensorReport &t : tensors) {
    if (t.info.verified == "no") all.verified = "no";
    if (all.fallback_reason.empty()) all.fallback_reason = t.info.fallback_reason;
  }
  return all;
}

std::string ModelReport::json() const {
  using models::Json;
  Json doc;
  doc["in"] = in;
  doc["out"] = out;
  doc["recipe"] = recipe;
  doc["dry_run"] = dry_run;
  doc["bytes_before"] = bytes_before();
  doc["bytes_after"] = bytes_after();
  doc["bits_per_value"] = bits_per_value();
  doc["quantized_tensors"] = quantized();
  doc["copied_tensors"] = tensors.size() - quantized();
  if (target_bits > 0) {
    doc["target_bits"] = target_bits;
    doc["target_gap"] = target_gap;
  }
  doc["unused_rules"] = unused_rules;
  doc["files"] = files;
  if (!dry_run) {
    const TensorQuality all = quality();
    doc["mse"] = all.mse();
    doc["snr_db"] = models::finite(all.snr_db());
    doc["max_error"] = all.max_error;
    doc["time"] = {{"decide_ms", decide_ms},   {"read_ms", read_ms},   {"compute_ms", compute_ms},
                   {"quality_ms", quality_ms}, {"write_ms", write_ms}, {"total_ms", total_ms}};
    doc["speed"] = Json::array();
    for (const FormatSpeed &s : speeds) {
      const bool benched = s.bench_gb_per_s > 0;
      doc["speed"].push_back(
          {{"choice", s.choice},
           {"bytes", s.bytes},
           {"compute_ms", s.compute_ms},
           {"gb_per_s", s.gb_per_s},
           {"bench_gb_per_s", benched ? Json(s.bench_gb_per_s) : Json(nullptr)},
           {"share", benched ? Json(s.gb_per_s / s.bench_gb_per_s) : Json(nullptr)}});
    }
  }
  doc["tensors"] = Json::array();
  for (const TensorReport &t : tensors) doc["tensors"].push_back(models::tensor_json(t, dry_run));
  return doc.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace switchyard
