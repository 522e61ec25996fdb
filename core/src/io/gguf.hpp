// SPDX-License-Identifier: Apache-2.0
#pragma once
/// GGUF files, versions 2 and 3, little-endian. The whole header is checked before any tensor is
/// read: counts, lengths, types, shapes, offsets (aligned, ascending, without holes or overlaps)
/// and the file's size. Nothing is mapped, and memory grows with what the file really holds.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <switchyard/tensor.hpp>
#include <vector>

#include "io/file.hpp"

namespace switchyard {

inline constexpr std::uint64_t kGgufAlignment = 32;  ///< where a file names no other

/// A type of ggml. Blocks run along the last dimension.
struct GgmlType {
  std::string_view name;  ///< "F32", "Q4_0", ...
  std::uint32_t id;
  std::int64_t block;  ///< values
  std::int64_t bytes;  ///< per block
  DType dtype;         ///< of plain types; code and bits 0 for blocks
  bool plain() const noexcept { return dtype.bits != 0; }
};
std::span<const GgmlType> ggml_types() noexcept;
/// nullptr if unknown.
const GgmlType *find_ggml_type(std::uint32_t id) noexcept;
/// By name in any case; nullptr if unknown.
const GgmlType *find_ggml_type(std::string_view name) noexcept;
/// The plain type with these elements; nullptr if ggml has none (bool, unsigned integers).
const GgmlType *find_ggml_type(DType dtype) noexcept;
/// Bytes of a tensor; nullopt if they overflow or rows are no multiple of the block.
std::optional<std::uint64_t> ggml_bytes(const GgmlType &type,
                                        std::span<const std::int64_t> shape) noexcept;

enum class GgufKind : std::uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  text,
  array,
  u64,
  i64,
  f64
};

/// A value of the header, kept as the bytes that the file has for it, so that it can be copied
/// whatever it is.
struct GgufValue {
  GgufKind kind = GgufKind::u8;
  std::string bytes;  ///< after the kind

  static GgufValue of_text(std::string_view text);
  static GgufValue of_u32(std::uint32_t value);
  /// nullopt unless it is a text.
  std::optional<std::string> text() const;
  /// nullopt unless it is an integer >= 0 of any width.
  std::optional<std::uint64_t> unsigned_integer() const noexcept;
};

struct GgufEntry {
  std::string key;
  GgufValue value;
};

struct GgufTensor {
  std::string name;
  const GgmlType *type = nullptr;
  std::vector<std::int64_t> shape;  ///< slowest dimension first, the reverse of the file's order
  std::uint64_t offset = 0;         ///< from the start of the data
  std::uint64_t bytes = 0;
};

/// One opened file. [any-thread]
class GgufReader {
 public:
  /// io: missing, corrupt, another version or byte order; dtype: a type that is not known; shape:
  /// more than four dimensions.
  static Result<GgufReader> open(const std::string &path);

  const std::string &path() const noexcept { return file_.path(); }
  std::uint64_t alignment() const noexcept { return alignment_; }
  std::span<const GgufEntry> entries() const noexcept { return entries_; }
  /// nullptr if absent.
  const GgufValue *value(std::string_view key) const noexcept;
  /// In the order of the file.
  std::span<const GgufTensor> tensors() const noexcept { return tensors_; }
  const GgufTensor *find(std::string_view name) const noexcept;
  /// Fills `out` with a tensor's bytes from `offset` on.
  Status read(const GgufTensor &tensor, std::uint64_t offset, std::span<std::byte> out) const;

 private:
  explicit GgufReader(InputFile file) : file_(std::move(file)) {}
  InputFile file_;
  std::uint64_t alignment_ = kGgufAlignment, data_offset_ = 0;
  std::vector<GgufEntry> entries_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
};

/// What will be written; the data come later.
struct GgufSpec {
  std::string name;  ///< at most 63 bytes, the limit of ggml
  const GgmlType *type = nullptr;
  std::vector<std::int64_t> shape;  ///< 1 to 4 dimensions, slowest first
};

struct GgufLayout {
  std::string header;                  ///< up to the data, padded
  std::vector<std::uint64_t> offsets;  ///< of the specs, from the start of the file
  std::uint64_t size = 0;              ///< of the file, padding after the last tensor included
};

/// Lays out a version 3 file with the default alignment; an entry `general.alignment` is left out.
/// Errors: invalid_argument (a name or key twice, empty, too long or not UTF-8), shape, overflow.
Result<GgufLayout> gguf_layout(const std::string &path, std::span<const GgufEntry> entries,
                               std::span<const GgufSpec> specs);

}  // namespace switchyard
