// SPDX-License-Identifier: Apache-2.0
#include "io/array_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>

#include "io/file.hpp"
#include "io/npy.hpp"
#include "io/npz.hpp"
#include "io/png.hpp"
#include "io/safetensors.hpp"

namespace switchyard {
namespace {

enum class Kind { npy, npz, safetensors, png };

std::string lower(std::string_view text) {
  std::string out(text);
  for (char &c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::optional<Kind> kind_of_name(const std::string &path) {
  const std::string name = lower(path);
  if (name.ends_with(".npy")) return Kind::npy;
  if (name.ends_with(".npz")) return Kind::npz;
  if (name.ends_with(".safetensors")) return Kind::safetensors;
  if (name.ends_with(".png")) return Kind::png;
  return std::nullopt;
}

/// By the first bytes; safetensors files begin with a length and '{'.
Result<Kind> kind_of_content(const std::string &path) {
  auto file = InputFile::open(path);
  if (!file) return tl::unexpected(file.error());
  std::array<char, 9> head{};
  const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(file->size(), head.size()));
  if (auto s = file->read(0, std::as_writable_bytes(std::span(head)).first(n)); !s)
    return tl::unexpected(s.error());
  const std::string_view text(head.data(), n);
  if (text.starts_with("\x93NUMPY")) return Kind::npy;
  if (text.starts_with("PK\x03\x04") || text.starts_with("PK\x05\x06")) return Kind::npz;
  if (text.starts_with("\x89PNG")) return Kind::png;
  if (n == head.size() && text[8] == '{') return Kind::safetensors;
  if (auto kind = kind_of_name(path)) return *kind;  // its reader knows best what is wrong
  return file_error(path, "is not an array file (.npy, .npz, .safetensors or .png)");
}

/// The one name, or an error that lists some.
Result<std::string> only_name(const std::string &path, const std::vector<std::string> &names) {
  if (names.size() == 1) return names.front();
  if (names.empty()) return file_error(path, "holds no array");
  std::string some;
  for (std::size_t i = 0; i < std::min<std::size_t>(names.size(), 8); ++i)
    some += fmt::format("{}'{}'", i == 0 ? "" : ", ", names[i]);
  return file_error(path,
                    fmt::format("holds {} arrays; choose one as {}:NAME, from {}{}", names.size(),
                                path, some, names.size() > 8 ? ", ..." : ""),
                    ErrorCode::usage);
}

Error with_file(Error error, const std::string &path) {
  if (error.file.empty()) error.file = path;
  return error;
}

}  // namespace

ArrayName parse_array_name(const std::string &name) {
  const std::string folded = lower(name);
  std::size_t split = std::string::npos;
  for (std::string_view marker : {".npz:", ".safetensors:"}) {
    const auto at = folded.find(marker);
    if (at != std::string::npos) split = std::min(split, at + marker.size() - 1);
  }
  if (split == std::string::npos) return {name, ""};
  return {name.substr(0, split), name.substr(split + 1)};
}

Result<Tensor> read_array(const std::string &name) {
  const ArrayName array = parse_array_name(name);
  auto kind = kind_of_content(array.path);
  if (!kind) return tl::unexpected(kind.error());
  const bool keyed = *kind == Kind::npz || *kind == Kind::safetensors;
  if (!array.key.empty() && !keyed)
    return file_error(array.path,
                      fmt::format("holds one array without a name, not '{}'", array.key),
                      ErrorCode::usage);
  switch (*kind) {
    case Kind::npy:
      return read_npy(array.path);
    case Kind::png:
      return read_png(array.path);
    case Kind::npz: {
      auto npz = NpzReader::open(array.path);
      if (!npz) return tl::unexpected(npz.error());
      if (!array.key.empty()) return npz->read(array.key);
      std::vector<std::string> names;
      for (const auto &e : npz->entries()) names.push_back(e.key);
      auto only = only_name(array.path, names);
      if (!only) return tl::unexpected(only.error());
      return npz->read(*only);
    }
    case Kind::safetensors: {
      auto file = SafetensorsReader::open(array.path);
      if (!file) return tl::unexpected(file.error());
      if (!array.key.empty()) return file->read(std::string_view(array.key));
      std::vector<std::string> names;
      for (const auto &t : file->tensors()) names.push_back(t.name);
      auto only = only_name(array.path, names);
      if (!only) return tl::unexpected(only.error());
      return file->read(std::string_view(*only));
    }
  }
  return fail(ErrorCode::internal, "unknown kind of array file");
}

Result<Tensor> read_array_as(const std::string &name, DType dtype) {
  auto array = read_array(name);
  if (!array || same(array->dtype(), dtype)) return array;
  auto converted = cast(*array, dtype);
  if (!converted) return tl::unexpected(with_file(converted.error(), parse_array_name(name).path));
  return converted;
}

Status write_array(const std::string &name, const TensorView &array) {
  const ArrayName target = parse_array_name(name);
  const std::string key = target.key.empty() ? "data" : target.key;
  const auto kind = kind_of_name(target.path);
  if (!kind)
    return file_error(target.path,
                      "cannot tell the format to write; end the name in .npy, .npz, .safetensors "
                      "or .png",
                      ErrorCode::usage);
  const auto write = [&]() -> Status {
    switch (*kind) {
      case Kind::npy:
        return write_npy(target.path, array);
      case Kind::png:
        return write_png(target.path, array);
      case Kind::safetensors: {
        const std::array tensors = {NamedTensor{key, array}};
        return write_safetensors(target.path, tensors);
      }
      case Kind::npz:
        break;
    }
    auto npz = NpzWriter::create(target.path);
    if (!npz) return tl::unexpected(npz.error());
    if (auto s = npz->add(key, array); !s) return s;
    return npz->finish();
  };
  auto status = write();
  if (!status) return tl::unexpected(with_file(status.error(), target.path));
  return status;
}

}  // namespace switchyard
