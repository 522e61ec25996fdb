// SPDX-License-Identifier: Apache-2.0
#pragma once
/// NumPy's .npz files: zip archives of .npy files, stored or deflated, zip64 where sizes ask for
/// it.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <switchyard/tensor.hpp>
#include <vector>

#include "io/file.hpp"

namespace switchyard {

/// Opened archive. All offsets, sizes, names and overlaps are checked when it is opened; the CRC of
/// an entry when it is read. Errors: io, and those of npy.hpp.
class NpzReader {
 public:
  struct Entry {
    std::string key;  ///< the name without ".npy"
    std::uint64_t size = 0, compressed_size = 0, header_offset = 0;
    std::uint32_t crc = 0;
    std::uint16_t method = 0, flags = 0;
    std::string name;  ///< in the archive
  };

  static Result<NpzReader> open(const std::string &path);
  const std::string &path() const noexcept { return file_.path(); }
  const std::vector<Entry> &entries() const noexcept { return entries_; }
  bool has(std::string_view key) const noexcept { return find(key) != nullptr; }

  /// An unknown key is a usage error with "did you mean". Fortran-ordered entries need a temporary
  /// second copy, others none.
  Result<Tensor> read(std::string_view key) const;
  /// A zero-dimensional text array, as UTF-8.
  Result<std::string> read_text(std::string_view key) const;

 private:
  explicit NpzReader(InputFile file) : file_(std::move(file)) {}
  const Entry *find(std::string_view key) const noexcept;
  template <class T, class Read>
  Result<T> read_entry(std::string_view key, Read read) const;
  InputFile file_;
  std::uint64_t directory_offset_ = 0;
  std::vector<Entry> entries_;
};

/// Writes an archive; nothing is there under its name before `finish`. Equal contents give equal
/// bytes (no times are stored).
class NpzWriter {
 public:
  struct Settings {
    bool deflate = false;                    ///< like numpy.savez_compressed
    std::uint64_t zip64_from = 0xffffffffu;  ///< sizes and offsets from here on use zip64 (tests)
  };
  static Result<NpzWriter> create(const std::string &path, Settings settings);
  static Result<NpzWriter> create(const std::string &path) { return create(path, Settings{}); }

  /// Keys are non-empty UTF-8 and may not repeat (invalid_argument). bf16 is a dtype error.
  Status add(std::string_view key, const TensorView &array);
  /// A zero-dimensional text array: str(npz["key"]) in Python.
  Status add_text(std::string_view key, std::string_view utf8);
  Status finish();

 private:
  struct Record {
    std::string name;
    std::uint64_t size, compressed_size, offset;
    std::uint32_t crc;
  };
  struct Sink;
  NpzWriter(AtomicFile file, Settings settings) : file_(std::move(file)), settings_(settings) {}
  Status begin(std::string_view key, std::uint64_t size);
  Status end(Sink &sink);
  AtomicFile file_;
  Settings settings_;
  std::vector<Record> records_;
};

}  // namespace switchyard
