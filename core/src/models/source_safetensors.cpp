// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/checked.hpp"
#include "models/source.hpp"

namespace switchyard::models {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kLargestConfig = 16u << 20;

/// config.json of a folder; null where there is none.
Result<Json> read_config(const std::string &folder) {
  const std::string path = folder + "/config.json";
  std::error_code ignored;
  if (folder.empty() || !fs::exists(path, ignored)) return Json();
  auto text = read_text_file(path, kLargestConfig);
  if (!text) return tl::unexpected(text.error());
  // Nesting is bounded before the parser recurses into destructors.
  int depth = 0;
  bool deep = false;
  Json config = Json::parse(
      *text,
      [&](int level, Json::parse_event_t, Json &) {
        depth = std::max(depth, level);
        deep = deep || level > 64;
        return !deep;
      },
      false);
  if (deep || !config.is_object()) return file_error(path, "is not a JSON object");
  return config;
}

class SafetensorsSource final : public Source {
 public:
  SafetensorsSource(std::string path, std::string folder, SafetensorsModel model)
      : model_(std::move(model)) {
    path_ = std::move(path);
    folder_ = std::move(folder);
  }

  Status prepare() {
    auto config = read_config(folder_);
    if (!config) return tl::unexpected(config.error());
    config_ = std::move(*config);
    if (!folder_.empty()) companions_ = find_companions(folder_);
    files_ = model_.files();
    if (auto ok = find_described(); !ok) return ok;
    if (auto ok = find_mlx(); !ok) return ok;
    for (const std::string &name : model_.names()) {
      if (parts_.contains(name) && !quantized_.contains(name)) continue;
      const SafetensorInfo &info = *model_.find(name);
      SourceTensor t;
      t.info = {name, info.shape, "", info.dtype_name, info.end - info.begin, 0};
      t.dtype = info.dtype;
      if (const auto at = quantized_.find(name); at != quantized_.end()) {
        const QuantizedMeta &meta = at->second;
        auto spec = check_arrays(name, meta);
        if (!spec) return tl::unexpected(spec.error());
        t.quant = std::move(*spec);
        t.dtype = meta.dtype;
        t.info.shape = meta.shape;
        t.info.stored = t.quant->choice.text();
        t.info.bytes = t.quant->bytes;
      }
      if (t.dtype) t.info.dtype = to_string(*t.dtype);
      t.info.values = checked_elements(t.info.shape).value_or(0);
      tensors_.push_back(std::move(t));
    }
    return {};
  }

  Status read_bytes(const SourceTensor &tensor, std::uint64_t offset,
                    std::span<std::byte> out) const override {
    return model_.read_bytes(tensor.info.name, offset, out);
  }

  Result<Quantized> read_quantized(const SourceTensor &tensor, std::int64_t first,
                                   std::int64_t count, std::int64_t cols,
                                   Scratch (&memory)[3]) const override {
    const QuantSpec &spec = *tensor.quant;
    const ArrayNames names = model_names(tensor.info.name);
    Quantized q;
    q.format = spec.choice.format;
    q.group_size = spec.choice.group_size;
    q.granularity = spec.choice.granularity;
    q.dtype = *tensor.dtype;
    q.shape = spec.by_rows ? std::vector<std::int64_t>{count, cols} : tensor.info.shape;
    auto part = quant_spec(spec.choice, q.shape, *tensor.dtype);
    if (!part) return tl::unexpected(part.error());
    const auto take = [&](const std::string &name, const std::optional<QuantArray> &array,
                          Scratch &into, Tensor &out) -> Status {
      if (!array) return {};
      auto view = into.array(array->dtype, array->shape());
      if (!view) return tl::unexpected(view.error());
      const std::uint64_t bytes = bytes_of(*array);
      const auto per_row = spec.by_rows ? bytes / static_cast<std::uint64_t>(count) : 0;
      out = Tensor::adopt(*view, nullptr);
      return model_.read_bytes(name, static_cast<std::uint64_t>(first) * per_row,
                               {view->data<std::byte>(), bytes});
    };
    if (auto ok = take(names.codes, part->layout.codes, memory[0], q.codes); !ok)
      return tl::unexpected(ok.error());
    if (auto ok = take(names.scales, part->layout.scales, memory[1], q.scales); !ok)
      return tl::unexpected(ok.error());
    if (auto ok = take(names.biases, part->layout.biases, memory[2], q.biases); !ok)
      return tl::unexpected(ok.error());
    return q;
  }

 private:
  tl::unexpected<Error> corrupt(std::string what) const {
    return file_error(model_.path(), "not a model of quantised tensors: " + what);
  }

  void mark(const std::string &name, QuantizedMeta meta) {
    const ArrayNames names = model_names(name);
    parts_.insert({names.codes, names.scales, names.biases});
    quantized_.emplace(name, std::move(meta));
  }

  /// Tensors that this program's own metadata describe.
  Status find_described() {
    const auto text = model_.metadata().find("meta");
    if (text == model_.metadata().end()) return {};
    const Json meta = Json::parse(text->second, nullptr, false);
    const auto entries = meta.is_object() ? meta.find("tensors") : meta.end();
    if (entries == meta.end() || !entries->is_object()) return {};
    for (const auto &[name, entry] : entries->items()) {
      auto parsed = parse_quantized_meta(entry);
      if (!parsed)
        return corrupt(
            fmt::format("its 'meta' does not describe tensor '{}' by format, shape, "
                        "dtype and group_size",
                        name));
      if (model_.find(name) == nullptr) return corrupt(fmt::format("it has no tensor '{}'", name));
      mark(name, std::move(*parsed));
    }
    return {};
  }

  /// Tensors that MLX quantised: words with scales beside them, described by config.json.
  Status find_mlx() {
    const Json &config = config_;
    if (!config.is_object()) return {};
    const auto all = config.find("quantization");
    if (all == config.end() || !all->is_object()) return {};
    for (const std::string &name : model_.names()) {
      if (quantized_.contains(name) || !name.ends_with(".weight")) continue;
      const SafetensorInfo &words = *model_.find(name);
      const SafetensorInfo *scales = model_.find(model_names(name).scales);
      if (scales == nullptr || words.dtype_name != "U32" || words.shape.empty()) continue;
      const std::string module = name.substr(0, name.size() - 7);
      const auto own = all->find(module);
      const Json &entry = own != all->end() && own->is_object() ? *own : *all;
      const auto number = [&](const char *key) -> std::int64_t {
        const Json &from = entry.contains(key) ? entry : *all;
        const auto at = from.find(key);
        if (at == from.end() || !at->is_number_unsigned()) return 0;
        return static_cast<std::int64_t>(std::min<std::uint64_t>(at->get<std::uint64_t>(), 1024));
      };
      const auto mode = entry.find("mode");
      const bool fp4 = mode != entry.end() && mode->is_string() && *mode == "mxfp4";
      const std::int64_t bits = number("bits");
      QuantizedMeta meta;
      meta.choice.format = fp4 ? "mxfp4" : fmt::format("mlx_affine{}", bits);
      meta.choice.group_size = fp4 ? 0 : static_cast<int>(number("group_size"));
      meta.shape = words.shape;
      const auto bits_of_row = checked_mul<std::int64_t>(words.shape.back(), 32);
      if (bits <= 0 || !bits_of_row || *bits_of_row % bits != 0)
        return corrupt(fmt::format("config.json gives {} bits for tensor '{}'", bits, name));
      meta.shape.back() = *bits_of_row / bits;
      meta.dtype = scales->dtype && is_value_dtype(*scales->dtype) ? *scales->dtype : dtypes::f32;
      mark(name, std::move(meta));
    }
    return {};
  }

  /// The arrays are there and fit.
  Result<QuantSpec> check_arrays(const std::string &name, const QuantizedMeta &meta) const {
    auto spec = quant_spec(meta.choice, meta.shape, meta.dtype);
    if (!spec) return corrupt(fmt::format("tensor '{}': {}", name, spec.error().message));
    const ArrayNames names = model_names(name);
    const auto check = [&](const std::string &array, const QuantArray &want) -> Status {
      const SafetensorInfo *info = model_.find(array);
      if (info == nullptr) return corrupt(fmt::format("'{}' is missing", array));
      if (!info->dtype || !same(*info->dtype, want.dtype) ||
          !std::ranges::equal(info->shape, want.shape()))
        return corrupt(fmt::format("'{}' is {} {}, but '{}' of shape {} needs {} {}", array,
                                   info->dtype_name, shape_text(info->shape), meta.choice.format,
                                   shape_text(meta.shape), to_string(want.dtype),
                                   shape_text(want.shape())));
      return {};
    };
    if (auto ok = check(names.codes, spec->layout.codes); !ok) return tl::unexpected(ok.error());
    if (spec->has_scales())
      if (auto ok = check(names.scales, *spec->layout.scales); !ok)
        return tl::unexpected(ok.error());
    if (spec->has_biases())
      if (auto ok = check(names.biases, *spec->layout.biases); !ok)
        return tl::unexpected(ok.error());
    return spec;
  }

  SafetensorsModel model_;
  std::map<std::string, QuantizedMeta, std::less<>> quantized_;
  std::set<std::string, std::less<>> parts_;  ///< names of arrays of quantised tensors
};

}  // namespace

Result<std::unique_ptr<Source>> open_safetensors_source(const std::string &path,
                                                        const std::string &file,
                                                        const std::string &folder) {
  auto model = SafetensorsModel::open(file);
  if (!model) return tl::unexpected(model.error());
  auto source = std::make_unique<SafetensorsSource>(path, folder, std::move(*model));
  if (auto ok = source->prepare(); !ok) return tl::unexpected(ok.error());
  return source;
}

}  // namespace switchyard::models
