// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/checked.hpp"
#include "base/suggest.hpp"
#include "io/npy_header.hpp"
#include "io/safetensors_header.hpp"
#include "io/strided.hpp"
#include "io/utf8.hpp"

namespace switchyard {
namespace {

constexpr std::uint64_t kLargestHeader = 100'000'000;  // the format's own limit
constexpr std::uint64_t kLargestIndex = 100'000'000;
constexpr std::size_t kMostShards = 10'000;

template <class Names>
tl::unexpected<Error> unknown_name(const std::string &path, std::string_view name,
                                   const Names &known) {
  return file_error(path, fmt::format("has no tensor '{}'{}", name, did_you_mean(name, known)),
                    ErrorCode::usage);
}

}  // namespace

Result<SafetensorsReader> SafetensorsReader::open(const std::string &path) {
  auto file = InputFile::open(path);
  if (!file) return tl::unexpected(file.error());
  std::uint64_t length = 0;
  if (file->size() < sizeof length + 2)
    return file_error(path, "is not a safetensors file: it is too short");
  if (auto s = file->read(0, std::as_writable_bytes(std::span(&length, 1))); !s)
    return tl::unexpected(s.error());
  if (length > kLargestHeader || length > file->size() - sizeof length)
    return file_error(path,
                      fmt::format("corrupt or not a safetensors file: a header of {} bytes is "
                                  "impossible in {} bytes",
                                  length, file->size()));
  std::string json(length, '\0');
  if (auto s = file->read(sizeof length, std::as_writable_bytes(std::span(json))); !s)
    return tl::unexpected(s.error());
  if (!json.starts_with('{'))
    return file_error(path,
                      "corrupt or not a safetensors file: the header does not begin with '{'");
  SafetensorsReader reader(std::move(*file));
  reader.data_offset_ = sizeof length + length;
  auto header = parse_safetensors_header(path, json, reader.file_.size() - reader.data_offset_);
  if (!header) return tl::unexpected(header.error());
  reader.tensors_ = std::move(header->tensors);
  reader.metadata_ = std::move(header->metadata);
  for (std::size_t i = 0; i < reader.tensors_.size(); ++i)
    reader.by_name_.emplace(reader.tensors_[i].name, i);
  return reader;
}

const SafetensorInfo *SafetensorsReader::find(std::string_view name) const noexcept {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

Result<Tensor> SafetensorsReader::read(std::string_view name) const {
  if (const SafetensorInfo *info = find(name)) return read(*info);
  std::vector<std::string_view> known;
  for (const auto &t : tensors_) known.push_back(t.name);
  return unknown_name(path(), name, known);
}

Result<Tensor> SafetensorsReader::read(const SafetensorInfo &info) const {
  if (!info.dtype)
    return file_error(path(),
                      fmt::format("tensor '{}' is of dtype {}, which is not supported", info.name,
                                  info.dtype_name),
                      ErrorCode::dtype);
  auto tensor = Tensor::empty(*info.dtype, info.shape);
  if (!tensor) {
    tensor.error().file = path();
    return tensor;
  }
  const std::span<std::byte> bytes(tensor->data<std::byte>(), info.end - info.begin);
  if (auto s = file_.read(data_offset_ + info.begin, bytes); !s) return tl::unexpected(s.error());
  if (same(*info.dtype, dtypes::boolean))
    for (std::byte b : bytes)
      if (std::to_integer<int>(b) > 1)
        return file_error(path(), fmt::format("corrupt: tensor '{}' holds {} where a bool belongs",
                                              info.name, std::to_integer<int>(b)));
  return tensor;
}

Status SafetensorsReader::read_bytes(const SafetensorInfo &info, std::uint64_t offset,
                                     std::span<std::byte> out) const {
  const auto end = checked_add<std::uint64_t>(offset, out.size());
  if (!end || *end > info.end - info.begin)
    return fail(ErrorCode::internal, fmt::format("a read past the end of tensor '{}'", info.name));
  return file_.read(data_offset_ + info.begin + offset, out);
}

Result<SafetensorsModel> SafetensorsModel::open(const std::string &path) {
  SafetensorsModel model;
  model.path_ = path;
  const auto add = [&](const std::string &file) -> Result<const SafetensorsReader *> {
    auto shard = SafetensorsReader::open(file);
    if (!shard) return tl::unexpected(shard.error());
    model.shards_.push_back(std::make_unique<SafetensorsReader>(std::move(*shard)));
    return model.shards_.back().get();
  };
  if (!path.ends_with(".json")) {
    auto shard = add(path);
    if (!shard) return tl::unexpected(shard.error());
    for (const auto &t : (*shard)->tensors()) {
      model.names_.push_back(t.name);
      model.where_.emplace(t.name, *shard);
    }
    return model;
  }
  auto text = read_text_file(path, kLargestIndex);
  if (!text) return tl::unexpected(text.error());
  auto weights = parse_shard_index(path, *text);
  if (!weights) return tl::unexpected(weights.error());
  const auto slash = path.find_last_of('/');
  const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  std::map<std::string, const SafetensorsReader *> shards;
  for (const auto &[name, shard] : *weights) shards.emplace(shard, nullptr);
  if (shards.size() > kMostShards) return file_error(path, "names too many shard files");
  for (auto &[name, shard] : shards) {
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos)
      return file_error(path,
                        fmt::format("refused: shard '{}' is not a file beside the index", name));
    auto opened = add(folder + name);
    if (!opened) return tl::unexpected(opened.error());
    shard = *opened;
  }
  for (const auto &[name, shard] : *weights) {
    const SafetensorsReader *reader = shards[shard];
    if (reader->find(name) == nullptr)
      return file_error(
          path, fmt::format("says that tensor '{}' is in '{}', which lacks it", name, shard));
    model.where_.emplace(name, reader);
  }
  for (const auto &shard : model.shards_)
    for (const auto &t : shard->tensors()) {
      const auto it = weights->find(t.name);
      if (it != weights->end() && shards[it->second] == shard.get()) model.names_.push_back(t.name);
    }
  return model;
}

std::vector<std::string> SafetensorsModel::files() const {
  std::vector<std::string> out;
  for (const auto &shard : shards_) out.push_back(shard->path());
  return out;
}

const SafetensorInfo *SafetensorsModel::find(std::string_view name) const noexcept {
  const auto it = where_.find(name);
  return it == where_.end() ? nullptr : it->second->find(name);
}

Result<Tensor> SafetensorsModel::read(std::string_view name) const {
  const auto it = where_.find(name);
  if (it != where_.end()) return it->second->read(name);
  const std::vector<std::string_view> known(names_.begin(), names_.end());
  return unknown_name(path_, name, known);
}

Status SafetensorsModel::read_bytes(std::string_view name, std::uint64_t offset,
                                    std::span<std::byte> out) const {
  const auto it = where_.find(name);
  if (it == where_.end())
    return fail(ErrorCode::internal, fmt::format("'{}' is not in the model", name));
  return it->second->read_bytes(*it->second->find(name), offset, out);
}

Result<SafetensorsLayout> safetensors_layout(const std::string &path,
                                             std::vector<SafetensorSpec> specs,
                                             const SafetensorsMetadata &metadata) {
  std::sort(specs.begin(), specs.end(), [](const SafetensorSpec &a, const SafetensorSpec &b) {
    if (a.dtype.bits != b.dtype.bits) return a.dtype.bits > b.dtype.bits;
    return a.name < b.name;
  });
  const auto refuse = [&](const std::string &name, std::string_view why, ErrorCode code) {
    return file_error(path, fmt::format("tensor '{}' {}", name, why), code);
  };
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  SafetensorsLayout layout;
  std::uint64_t at = 0;
  for (const SafetensorSpec &spec : specs) {
    if (spec.name.empty() || spec.name == "__metadata__" || !is_utf8(spec.name))
      return refuse(spec.name, "needs another name", ErrorCode::invalid_argument);
    const std::string_view dtype = safetensors_dtype_name(spec.dtype);
    if (dtype.empty())
      return refuse(spec.name, "has a dtype that safetensors lacks", ErrorCode::dtype);
    const auto bytes = array_bytes(spec.dtype, spec.shape);
    const auto end = bytes ? checked_add(at, *bytes) : std::nullopt;
    if (!end) return refuse(spec.name, "is too large", ErrorCode::overflow);
    header[spec.name] = {{"dtype", dtype}, {"shape", spec.shape}, {"data_offsets", {at, *end}}};
    if (!layout.offsets.emplace(spec.name, at).second)
      return refuse(spec.name, "is given twice", ErrorCode::invalid_argument);
    at = *end;
  }
  std::string json;
  try {
    json = header.dump();
  } catch (const nlohmann::json::type_error &) {
    return file_error(path, "the metadata are not UTF-8", ErrorCode::invalid_argument);
  }
  json.append((8 - json.size() % 8) % 8, ' ');
  if (json.size() > kLargestHeader)
    return file_error(path, "too many tensors for one file", ErrorCode::overflow);
  const std::uint64_t length = json.size();
  layout.header.assign(reinterpret_cast<const char *>(&length), sizeof length);
  layout.header += json;
  const auto size = checked_add<std::uint64_t>(at, layout.header.size());
  if (!size) return file_error(path, "the tensors are too large", ErrorCode::overflow);
  for (auto &[name, offset] : layout.offsets) offset += layout.header.size();
  layout.size = *size;
  return layout;
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::string &path,
                                                    std::vector<SafetensorSpec> specs,
                                                    const SafetensorsMetadata &metadata) {
  auto layout = safetensors_layout(path, specs, metadata);
  if (!layout) return tl::unexpected(layout.error());
  auto file = AtomicFile::create(path);
  if (!file) return tl::unexpected(file.error());
  SafetensorsWriter writer(std::move(*file));
  if (auto s = writer.file_.append(std::string_view(layout->header)); !s)
    return tl::unexpected(s.error());
  for (SafetensorSpec &spec : specs) {
    const std::string name = spec.name;
    writer.places_.emplace(name, Place{std::move(spec), layout->offsets.find(name)->second, false});
  }
  return writer;
}

Status SafetensorsWriter::write(std::string_view name, const TensorView &array) {
  const auto it = places_.find(name);
  if (it == places_.end() || it->second.written)
    return fail(ErrorCode::invalid_argument,
                fmt::format("tensor '{}' was {}", name,
                            it == places_.end() ? "not announced" : "written before"));
  Place &place = it->second;
  const auto shape = array.shape();
  if (!same(array.dtype(), place.spec.dtype) ||
      !std::equal(shape.begin(), shape.end(), place.spec.shape.begin(), place.spec.shape.end()))
    return fail(ErrorCode::invalid_argument,
                fmt::format("tensor '{}' was announced as {} {} and given as {} {}", name,
                            to_string(place.spec.dtype), shape_text(place.spec.shape),
                            to_string(array.dtype()), shape_text(shape)));
  std::uint64_t at = place.offset;
  auto status = for_each_piece(array, [&](std::span<const std::byte> piece) -> Status {
    auto s = file_.write_at(at, piece);
    at += piece.size();
    return s;
  });
  place.written = status.has_value();
  return status;
}

Status SafetensorsWriter::finish() {
  for (const auto &[name, place] : places_)
    if (!place.written)
      return fail(ErrorCode::invalid_argument, fmt::format("tensor '{}' was never written", name));
  return file_.commit();
}

Status write_safetensors(const std::string &path, std::span<const NamedTensor> tensors,
                         const SafetensorsMetadata &metadata) {
  std::vector<SafetensorSpec> specs;
  for (const NamedTensor &t : tensors)
    specs.push_back({t.name, t.view.dtype(), {t.view.shape().begin(), t.view.shape().end()}});
  auto writer = SafetensorsWriter::create(path, std::move(specs), metadata);
  if (!writer) return tl::unexpected(writer.error());
  for (const NamedTensor &t : tensors)
    if (auto s = writer->write(t.name, t.view); !s) return s;
  return writer->finish();
}

}  // namespace switchyard
