// SPDX-License-Identifier: Apache-2.0
#pragma once
/// NumPy's .npy files, versions 1 to 3. Everything about the data is checked against the bytes that
/// are really there before memory is taken. Errors: io (missing, corrupt), dtype (complex, text,
/// objects, records), shape (more than 8 dimensions).

#include <functional>
#include <string>
#include <switchyard/tensor.hpp>
#include <vector>

#include "io/file.hpp"

namespace switchyard {

/// Reads an array of any numeric dtype, C- or Fortran-ordered, of either byte order, into a
/// C-contiguous array in this machine's order. Needs no second copy of the data.
Result<Tensor> read_npy(const std::string &path);

/// A matrix in a .npy file, read a few rows at a time: rank 2, C order, this machine's byte order.
/// `read` may be called from any thread.
class NpyRows {
 public:
  static Result<NpyRows> open(const std::string &path);
  std::int64_t rows() const noexcept { return rows_; }
  std::int64_t columns() const noexcept { return columns_; }
  DType dtype() const noexcept { return dtype_; }
  /// Rows first .. first + count - 1, as they lie in the file.
  Status read(std::int64_t first, std::int64_t count, void *out) const;

 private:
  NpyRows(InputFile file, DType dtype, std::int64_t rows, std::int64_t columns,
          std::uint64_t offset) noexcept
      : file_(std::move(file)), dtype_(dtype), rows_(rows), columns_(columns), offset_(offset) {}
  InputFile file_;
  DType dtype_;
  std::int64_t rows_, columns_;
  std::uint64_t offset_;
};

/// Writes version 1, C order, little-endian. Any strides. bf16 is a dtype error: .npy has no name
/// for it.
Status write_npy(const std::string &path, const TensorView &array);

/// Where the bytes of a .npy file come from: a file of its own or an entry of an .npz file.
struct NpySource {
  std::string path;                                  ///< for messages
  std::uint64_t size = 0;                            ///< bytes in all
  std::function<Status(std::span<std::byte>)> next;  ///< reads on, in order
  const InputFile *file = nullptr;  ///< if given, `next` reads this file from offset 0
};
Result<Tensor> read_npy(const NpySource &source);
/// A zero-dimensional text array (dtype U or S) as UTF-8.
Result<std::string> read_npy_text(const NpySource &source);

/// The header that precedes the data; its length is a multiple of 64.
Result<std::string> npy_header(DType dtype, std::span<const std::int64_t> shape);
/// A whole zero-dimensional text array; invalid_argument if `utf8` is not UTF-8.
Result<std::string> npy_text(std::string_view utf8);

}  // namespace switchyard
