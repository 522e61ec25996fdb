// SPDX-License-Identifier: Apache-2.0
#include "models/output.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/checked.hpp"

namespace switchyard::models {
namespace {

constexpr std::string_view kNoChecksum = "0000000000000000";
constexpr std::string_view kWeight = ".weight";

/// Hints may change while a conversion is interrupted; the places of the data must not.
std::string padded(const Json &hints) {
  constexpr std::size_t unit = 2'048;
  std::string text = hints.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.append((unit - text.size() % unit) % unit, ' ');
  return text;
}

std::string module_of(const std::string &name) {
  return name.ends_with(kWeight) ? name.substr(0, name.size() - kWeight.size()) : name;
}

struct Setting {
  std::int64_t group_size = 0;
  int bits = 0;
  std::string_view mode;
  auto operator<=>(const Setting &) const = default;
  Json json() const { return {{"group_size", group_size}, {"bits", bits}, {"mode", mode}}; }
};

std::optional<Setting> setting_of(const PlanTensor &p) {
  if (!p.quant || p.action == Action::restore) return std::nullopt;
  const auto mode = mlx_mode(*p.quant->layout.format);
  if (!mode) return std::nullopt;
  const std::int64_t group =
      p.quant->choice.group_size > 0 ? p.quant->choice.group_size : p.quant->layout.format->block;
  return Setting{group, mode->bits, mode->mode};
}

/// GGUF's name for what most tensors are, as its readers expect it in general.file_type; 1024 (a
/// guess) where it has none.
std::uint32_t file_type(const Plan &plan) {
  constexpr std::pair<std::string_view, std::uint32_t> kTypes[] = {
      {"F32", 0},    {"F16", 1},    {"Q4_0", 2},  {"Q4_1", 3},  {"Q8_0", 7},
      {"Q5_0", 8},   {"Q5_1", 9},   {"Q4_K", 15}, {"Q6_K", 18}, {"BF16", 32},
      {"TQ1_0", 36}, {"TQ2_0", 37}, {"MXFP4", 38}};
  std::map<std::string_view, std::int64_t> values;
  for (const PlanTensor &p : plan.tensors)
    if (p.quant && p.action != Action::restore)
      values[ggml_name(*p.quant->layout.format)] += p.source->info.values;
  if (values.empty()) return 0;
  const auto most =
      std::ranges::max_element(values, {}, [](const auto &entry) { return entry.second; });
  for (const auto &[name, number] : kTypes)
    if (name == most->first) return number;
  return 1024;
}

}  // namespace

Json mlx_quantization(const Plan &plan) {
  std::map<Setting, std::int64_t> values;
  for (const PlanTensor &p : plan.tensors)
    if (const auto s = setting_of(p)) values[*s] += p.source->info.values;
  if (values.empty()) return {};
  const Setting common =
      std::ranges::max_element(values, {}, [](const auto &e) { return e.second; })->first;
  Json out = common.json();
  for (const PlanTensor &p : plan.tensors) {
    const auto s = setting_of(p);
    if (s && *s != common) out[module_of(p.source->info.name)] = s->json();
    // MLX asks about modules with a weight matrix; those that stay plain are said so.
    const bool plain = !p.quant && p.source->floating() && p.source->info.shape.size() >= 2;
    if (plain && p.source->info.name.ends_with(kWeight))
      out[module_of(p.source->info.name)] = false;
  }
  return out;
}

Result<Output> Output::make(const Source &source, const Plan &plan, const std::string &out,
                            const Json &hints, std::uint64_t shard_bytes) {
  Output output;
  output.source_ = &source;
  output.plan_ = &plan;
  output.out_ = out;
  output.hints_ = hints;
  output.quantization_ = mlx_quantization(plan);
  output.arrays_.resize(plan.tensors.size());
  auto placed = plan.container == Container::gguf
                    ? output.place_gguf(plan)
                    : output.place_safetensors(plan, out, shard_bytes);
  if (!placed) return tl::unexpected(placed.error());
  return output;
}

Status Output::place_safetensors(const Plan &plan, const std::string &out,
                                 std::uint64_t shard_bytes) {
  std::uint64_t filled = 0;
  shards_.emplace_back();
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlanTensor &p = plan.tensors[i];
    const ModelTensor &info = p.source->info;
    std::vector<SafetensorSpec> specs;
    const auto add = [&](const std::string &name, DType dtype,
                         std::span<const std::int64_t> shape) {
      specs.push_back({name, dtype, {shape.begin(), shape.end()}});
    };
    std::uint64_t bytes = 0;
    if (p.quant && p.action != Action::restore) {
      const ArrayNames names = model_names(info.name);
      const QuantLayout &layout = p.quant->layout;
      add(names.codes, layout.codes.dtype, layout.codes.shape());
      if (layout.scales) add(names.scales, layout.scales->dtype, layout.scales->shape());
      if (layout.biases) add(names.biases, layout.biases->dtype, layout.biases->shape());
      bytes = p.quant->bytes;
    } else {
      const DType dtype = p.action == Action::restore ? p.dtype : *p.source->dtype;
      add(info.name, dtype, info.shape);
      bytes = static_cast<std::uint64_t>(info.values) * size_of(dtype);
    }
    if (plan.folder && filled > 0 && filled + bytes > shard_bytes) {
      shards_.emplace_back();
      filled = 0;
    }
    filled += bytes;
    for (SafetensorSpec &spec : specs) {
      // quant_layout and the source have checked the product.
      const auto size = static_cast<std::uint64_t>(
          *checked_elements(spec.shape, static_cast<std::int64_t>(size_of(spec.dtype))));
      arrays_[i].push_back({spec.name, shards_.size() - 1, 0, size});
      shards_.back().push_back(std::move(spec));
    }
  }
  for (std::size_t f = 0; f < shards_.size(); ++f) {
    const std::string name = !plan.folder          ? "model.safetensors"
                             : shards_.size() == 1 ? "model.safetensors"
                                                   : fmt::format("model-{:05}-of-{:05}.safetensors",
                                                                 f + 1, shards_.size());
    auto layout = safetensors_layout(out, shards_[f], metadata(f, {}));
    if (!layout) return tl::unexpected(layout.error());
    files_.push_back({name, layout->size});
    for (auto &arrays : arrays_)
      for (OutputArray &array : arrays)
        if (array.file == f) array.offset = layout->offsets.find(array.name)->second;
  }
  return {};
}

Status Output::place_gguf(const Plan &plan) {
  for (const PlanTensor &p : plan.tensors) {
    const SourceTensor &t = *p.source;
    const GgmlType *type = nullptr;
    if (p.action == Action::restore)
      type = find_ggml_type(p.dtype);
    else if (p.quant)
      type = find_ggml_type(ggml_name(*p.quant->layout.format));
    else
      type = t.type != nullptr ? t.type : find_ggml_type(*t.dtype);
    // GGUF has no scalars in practice: readers expect a dimension.
    auto shape = t.info.shape.empty() ? std::vector<std::int64_t>{1} : t.info.shape;
    specs_.push_back({t.info.name, type, std::move(shape)});
  }
  auto layout = gguf_layout(out_, entries({}), specs_);
  if (!layout) return tl::unexpected(layout.error());
  files_.push_back({"model.gguf", layout->size});
  for (std::size_t i = 0; i < specs_.size(); ++i)
    arrays_[i] = {{specs_[i].name, 0, layout->offsets[i],
                   ggml_bytes(*specs_[i].type, specs_[i].shape).value_or(0)}};
  return {};
}

SafetensorsMetadata Output::metadata(std::size_t shard, const Checksums &checksums) const {
  Json sums = Json::object(), tensors = Json::object();
  for (const SafetensorSpec &spec : shards_[shard]) {
    const auto at = checksums.find(spec.name);
    sums[spec.name] = at == checksums.end() ? std::string(kNoChecksum) : at->second;
  }
  for (const PlanTensor &p : plan_->tensors)
    if (p.quant && p.action != Action::restore)
      tensors[p.source->info.name] = quantized_meta(
          p.quant->choice, p.source->info.shape,
          p.action == Action::quantize ? p.dtype : p.source->dtype.value_or(dtypes::f32));
  // Hugging Face's loader refuses files that do not name a framework.
  SafetensorsMetadata out{{"format", quantization_.is_null() ? "pt" : "mlx"},
                          {"checksums_xxh3", sums.dump()}};
  if (shard == 0 && !tensors.empty()) {
    out["meta"] = Json{{"tensors", tensors}}.dump();
    out["recipe"] = plan_->recipe;
    out["hints"] = padded(hints_);
    if (!quantization_.is_null()) out["quantization"] = quantization_.dump();
  }
  return out;
}

std::vector<GgufEntry> Output::entries(const Checksums &checksums) const {
  std::vector<GgufEntry> out;
  const auto own = [](const std::string &key) {
    return key == "general.file_type" || key == "general.quantization_version" ||
           key.starts_with("switchyard.");
  };
  for (const GgufEntry &e : source_->entries())
    if (!own(e.key)) out.push_back(e);
  if (source_->entries().empty()) {
    const Json &config = source_->config();
    const auto text = [&](const char *key) {
      return config.is_object() && config.contains(key) && config[key].is_string()
                 ? config[key].get<std::string>()
                 : std::string();
    };
    const std::string type = text("model_type");
    out.push_back({"general.architecture", GgufValue::of_text(type.empty() ? "unknown" : type)});
    const auto name = std::filesystem::path(source_->path()).lexically_normal();
    out.push_back(
        {"general.name",
         GgufValue::of_text((name.has_filename() ? name : name.parent_path()).stem().string())});
    if (config.is_object()) out.push_back({"switchyard.config", GgufValue::of_text(config.dump())});
  }
  Json sums = Json::object();
  for (const GgufSpec &spec : specs_) {
    const auto at = checksums.find(spec.name);
    sums[spec.name] = at == checksums.end() ? std::string(kNoChecksum) : at->second;
  }
  out.push_back({"general.quantization_version", GgufValue::of_u32(2)});
  out.push_back({"general.file_type", GgufValue::of_u32(file_type(*plan_))});
  out.push_back({"switchyard.recipe", GgufValue::of_text(plan_->recipe)});
  out.push_back({"switchyard.hints", GgufValue::of_text(padded(hints_))});
  out.push_back({"switchyard.checksums_xxh3", GgufValue::of_text(sums.dump())});
  return out;
}

Result<std::vector<std::string>> Output::headers(const Checksums &checksums) const {
  std::vector<std::string> out;
  if (plan_->container == Container::gguf) {
    auto layout = gguf_layout(out_, entries(checksums), specs_);
    if (!layout) return tl::unexpected(layout.error());
    out.push_back(std::move(layout->header));
    return out;
  }
  for (std::size_t f = 0; f < shards_.size(); ++f) {
    auto layout = safetensors_layout(out_, shards_[f], metadata(f, checksums));
    if (!layout) return tl::unexpected(layout.error());
    out.push_back(std::move(layout->header));
  }
  return out;
}

std::string Output::config() const {
  Json config = source_->config();
  if (!config.is_object()) {
    config = Json::object();
    for (const GgufEntry &e : source_->entries())
      if (e.key == "general.architecture" && e.value.text()) config["model_type"] = *e.value.text();
  }
  // Two spellings of the same: MLX reads the first, Hugging Face's tools the second.
  for (const char *key : {"quantization", "quantization_config"}) {
    config.erase(key);
    if (!quantization_.is_null()) config[key] = quantization_;
  }
  return config.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::optional<std::string> Output::index() const {
  if (shards_.size() < 2) return std::nullopt;
  Json map = Json::object();
  std::uint64_t total = 0;
  for (const auto &arrays : arrays_)
    for (const OutputArray &array : arrays) {
      map[array.name] = files_[array.file].name;
      total += array.bytes;
    }
  return Json{{"metadata", {{"total_size", total}}}, {"weight_map", map}}.dump(2) + "\n";
}

}  // namespace switchyard::models
