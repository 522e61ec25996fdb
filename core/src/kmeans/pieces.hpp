// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A matrix file as pieces of whole inertia blocks, and labels kept in a file of their own.

#include "io/npy.hpp"
#include "kmeans/input.hpp"

namespace switchyard::kmeans {

class Pieces {
 public:
  /// `memory`: bytes for a piece, in f32 and as it lies in the file; at least one block is taken.
  static Result<Pieces> open(const std::string &path, std::uint64_t memory);

  std::int64_t n() const noexcept { return file_.rows(); }
  std::int64_t d() const noexcept { return file_.columns(); }
  std::int64_t rows() const noexcept { return rows_; }  ///< of a piece, but for the last
  std::int64_t count() const noexcept { return (n() + rows_ - 1) / rows_; }

  /// Reads a piece as f32; valid until the next.
  Result<TensorView> piece(std::int64_t index) { return range(index * rows_, rows_); }
  /// At most a piece's rows, from any row on.
  Result<TensorView> range(std::int64_t first, std::int64_t count);
  /// Single rows, one after the other.
  Result<Tensor> gather(const std::vector<std::int64_t> &rows);

 private:
  Pieces(NpyRows file, std::int64_t rows) : file_(std::move(file)), rows_(rows) {}
  NpyRows file_;
  std::int64_t rows_;
  Tensor raw_, values_;
};

/// Labels of all rows in an unnamed temporary file.
class LabelFile {
 public:
  static Result<LabelFile> create();
  LabelFile(LabelFile &&other) noexcept : file_(other.file_) { other.file_ = nullptr; }
  LabelFile &operator=(LabelFile &&) = delete;
  ~LabelFile();
  Status write(std::int64_t first, std::span<const std::int32_t> labels);
  Status read(std::int64_t first, std::span<std::int32_t> labels);

 private:
  explicit LabelFile(std::FILE *file) : file_(file) {}
  std::FILE *file_;
};

}  // namespace switchyard::kmeans
