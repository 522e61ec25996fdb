// SPDX-License-Identifier: Apache-2.0
#include "models/source.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/checked.hpp"

namespace switchyard::models {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kLargestCompanion = 256u << 20;
constexpr int kDeepestCompanion = 3;
constexpr std::string_view kWeightFiles[] = {".safetensors", ".gguf", ".bin",       ".pt",
                                             ".pth",         ".onnx", ".h5",        ".msgpack",
                                             ".ckpt",        ".npz",  ".index.json"};

bool is_companion(const fs::path &path, int depth) {
  const std::string name = path.filename().string();
  if (name.starts_with('.') || (depth == 0 && name == "config.json")) return false;
  return std::ranges::none_of(kWeightFiles, [&](auto end) { return name.ends_with(end); });
}

}  // namespace

std::vector<std::string> find_companions(const std::string &folder) {
  std::vector<std::string> found;
  std::error_code failed;
  auto it = fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied,
                                             failed);
  for (; !failed && it != fs::recursive_directory_iterator(); it.increment(failed)) {
    std::error_code ignored;
    if (it->is_directory(ignored)) {
      if (it.depth() + 1 >= kDeepestCompanion || it->path().filename().string().starts_with('.'))
        it.disable_recursion_pending();
      continue;
    }
    if (!it->is_regular_file(ignored) || !is_companion(it->path(), it.depth())) continue;
    if (it->file_size(ignored) > kLargestCompanion) continue;
    found.push_back(fs::path(it->path()).lexically_relative(folder).string());
  }
  std::ranges::sort(found);
  return found;
}

namespace {

Result<std::string> weights_of(const std::string &folder) {
  const std::string index = folder + "/model.safetensors.index.json";
  const std::string single = folder + "/model.safetensors";
  std::error_code ignored;
  if (fs::exists(index, ignored)) return index;
  if (fs::exists(single, ignored)) return single;
  std::vector<std::string> others;
  for (auto it = fs::directory_iterator(folder, ignored); it != fs::directory_iterator();
       it.increment(ignored)) {
    const std::string name = it->path().filename().string();
    if (name.ends_with(".safetensors") || name.ends_with(".gguf"))
      others.push_back(it->path().string());
    if (ignored) break;
  }
  if (others.size() == 1) return others.front();
  std::ranges::sort(others);
  return file_error(folder,
                    others.empty()
                        ? "holds no model: no model.safetensors, no model.safetensors.index.json"
                        : fmt::format("holds {} model files; choose one, such as {}", others.size(),
                                      others.front()),
                    others.empty() ? ErrorCode::io : ErrorCode::usage);
}

}  // namespace

Result<TensorView> Scratch::array(DType dtype, std::span<const std::int64_t> shape) {
  const auto bytes = checked_elements(shape, static_cast<std::int64_t>(size_of(dtype)));
  if (!bytes)
    return fail(ErrorCode::overflow, fmt::format("an array of shape {}", shape_text(shape)));
  if (!block_.present() || block_.elements() < *bytes) {
    block_ = {};
    const std::array wanted = {std::max<std::int64_t>(*bytes, 64)};
    auto block = Tensor::empty(dtypes::u8, wanted);
    if (!block) return tl::unexpected(block.error());
    block_ = std::move(*block);
  }
  return TensorView(block_.data(), dtype, shape);
}

ArrayNames model_names(const std::string &name) {
  constexpr std::string_view suffix = ".weight";
  const bool weight = name.ends_with(suffix);
  const std::string base = weight ? name.substr(0, name.size() - suffix.size()) : name;
  return {name, base + ".scales", base + ".biases"};
}

std::string Source::identity() const {
  std::string out;
  for (const std::string &file : files_) {
    struct stat info = {};
    if (::stat(file.c_str(), &info) != 0) continue;
    out += fmt::format("{} {} {}.{:09}\n", file, info.st_size, info.st_mtim.tv_sec,
                       info.st_mtim.tv_nsec);
  }
  return out;
}

Json quantized_meta(const TensorChoice &choice, std::span<const std::int64_t> shape, DType dtype) {
  Json meta;
  meta["format"] = choice.format;
  meta["shape"] = std::vector<std::int64_t>(shape.begin(), shape.end());
  meta["dtype"] = to_string(dtype);
  meta["group_size"] = choice.group_size;
  meta["granularity"] = choice.granularity;
  return meta;
}

std::optional<QuantizedMeta> parse_quantized_meta(const Json &meta) {
  if (!meta.is_object()) return std::nullopt;
  const auto text = [&](const char *key) {
    const auto at = meta.find(key);
    return at != meta.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  QuantizedMeta out;
  out.choice.format = text("format");
  const auto dtype = parse_dtype(text("dtype"));
  const auto shape = meta.find("shape");
  if (out.choice.format.empty() || !dtype || shape == meta.end() || !shape->is_array() ||
      shape->size() > SY_MAX_RANK)
    return std::nullopt;
  for (const Json &n : *shape) {
    if (!n.is_number_integer() || (n.is_number_unsigned() && n.get<std::uint64_t>() >> 63 != 0))
      return std::nullopt;
    out.shape.push_back(n.get<std::int64_t>());
  }
  out.dtype = *dtype;
  if (const auto group = meta.find("group_size"); group != meta.end() && group->is_number_integer())
    out.choice.group_size = static_cast<int>(std::clamp<std::int64_t>(
        group->is_number_unsigned() && group->get<std::uint64_t>() >> 31 != 0
            ? -1
            : group->get<std::int64_t>(),
        -1, 1 << 30));
  if (!text("granularity").empty()) out.choice.granularity = text("granularity");
  return out;
}

Result<std::unique_ptr<Source>> open_source(const std::string &path) {
  std::error_code ignored;
  if (path.find('\0') == std::string::npos && fs::is_directory(path, ignored)) {
    std::string folder = path;
    while (folder.size() > 1 && folder.ends_with('/')) folder.pop_back();
    auto file = weights_of(folder);
    if (!file) return tl::unexpected(file.error());
    if (file->ends_with(".gguf")) return open_gguf_source(*file);
    return open_safetensors_source(path, *file, folder);
  }
  if (path.ends_with(".gguf")) return open_gguf_source(path);
  if (path.ends_with(".safetensors") || path.ends_with(".safetensors.index.json"))
    return open_safetensors_source(path, path, "");
  // Missing files before wrong names: the former is what the caller should hear about.
  auto file = InputFile::open(path);
  if (!file) return tl::unexpected(file.error());
  return file_error(path,
                    "is not a model: a folder, .safetensors, .safetensors.index.json or .gguf is "
                    "expected",
                    ErrorCode::usage);
}

}  // namespace switchyard::models
