// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The safetensors format: a length, a JSON header, tensors without holes. Headers are parsed and
/// checked in full before anything else is read or allocated.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <switchyard/tensor.hpp>
#include <vector>

#include "io/file.hpp"

namespace switchyard {

struct SafetensorInfo {
  std::string name;
  std::string dtype_name;      ///< as in the file: "F32", "F8_E4M3", ...
  std::optional<DType> dtype;  ///< nullopt: valid, but not a type that can be read here
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;  ///< bytes, from the start of the data
};

using SafetensorsMetadata = std::map<std::string, std::string>;

/// One opened file. [any-thread]
class SafetensorsReader {
 public:
  /// io: missing, corrupt; shape: more than 8 dimensions; dtype: an unknown type's name.
  static Result<SafetensorsReader> open(const std::string &path);

  const std::string &path() const noexcept { return file_.path(); }
  /// In the order of their data.
  const std::vector<SafetensorInfo> &tensors() const noexcept { return tensors_; }
  const SafetensorsMetadata &metadata() const noexcept { return metadata_; }
  const SafetensorInfo *find(std::string_view name) const noexcept;

  /// Reads one tensor (C-contiguous). An unknown name is a usage error with "did you mean".
  Result<Tensor> read(std::string_view name) const;
  Result<Tensor> read(const SafetensorInfo &info) const;
  /// Fills `out` with a tensor's bytes from `offset` on, whatever its dtype.
  Status read_bytes(const SafetensorInfo &info, std::uint64_t offset,
                    std::span<std::byte> out) const;

 private:
  explicit SafetensorsReader(InputFile file) : file_(std::move(file)) {}
  InputFile file_;
  std::uint64_t data_offset_ = 0;
  std::vector<SafetensorInfo> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  SafetensorsMetadata metadata_;
};

/// A model in one .safetensors file or in several, described by `*.safetensors.index.json`. The
/// shards must lie beside the index: names with a folder in them are refused. [any-thread]
class SafetensorsModel {
 public:
  static Result<SafetensorsModel> open(const std::string &path);
  const std::string &path() const noexcept { return path_; }
  /// Names in file order, shard after shard.
  const std::vector<std::string> &names() const noexcept { return names_; }
  /// Paths of all files that hold tensors.
  std::vector<std::string> files() const;
  const SafetensorInfo *find(std::string_view name) const noexcept;
  Result<Tensor> read(std::string_view name) const;
  /// Of a tensor in `names`.
  Status read_bytes(std::string_view name, std::uint64_t offset, std::span<std::byte> out) const;
  const SafetensorsMetadata &metadata() const noexcept { return shards_.front()->metadata(); }

 private:
  std::string path_;
  std::vector<std::unique_ptr<SafetensorsReader>> shards_;
  std::vector<std::string> names_;
  std::map<std::string, const SafetensorsReader *, std::less<>> where_;
};

/// What will be written: name, type and shape are needed before any data.
struct SafetensorSpec {
  std::string name;
  DType dtype;
  std::vector<std::int64_t> shape;
};

/// Where everything goes in a file. Tensors are laid out by falling element size, then by name,
/// which aligns each one naturally; the data begin at a multiple of 8. Equal contents give equal
/// bytes.
struct SafetensorsLayout {
  std::string header;                                         ///< up to the data
  std::map<std::string, std::uint64_t, std::less<>> offsets;  ///< from the start of the file
  std::uint64_t size = 0;                                     ///< of the file
};
/// `path` is for messages. invalid_argument: a name twice, empty, "__metadata__" or not UTF-8.
Result<SafetensorsLayout> safetensors_layout(const std::string &path,
                                             std::vector<SafetensorSpec> specs,
                                             const SafetensorsMetadata &metadata = {});

/// Writes a file tensor by tensor, so that a model need not be in memory at once. Atomic: nothing
/// appears before `finish`.
class SafetensorsWriter {
 public:
  /// Errors: as safetensors_layout; io.
  static Result<SafetensorsWriter> create(const std::string &path,
                                          std::vector<SafetensorSpec> specs,
                                          const SafetensorsMetadata &metadata = {});
  /// In any order, each once; dtype and shape as announced. Any strides.
  Status write(std::string_view name, const TensorView &array);
  /// invalid_argument if a tensor is still missing.
  Status finish();

 private:
  struct Place {
    SafetensorSpec spec;
    std::uint64_t offset = 0;
    bool written = false;
  };
  explicit SafetensorsWriter(AtomicFile file) : file_(std::move(file)) {}
  AtomicFile file_;
  std::map<std::string, Place, std::less<>> places_;
};

/// The same in one call.
struct NamedTensor {
  std::string name;
  TensorView view;
};
Status write_safetensors(const std::string &path, std::span<const NamedTensor> tensors,
                         const SafetensorsMetadata &metadata = {});

}  // namespace switchyard
