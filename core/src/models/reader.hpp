// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Values of a tensor, piece by piece: plain, cast or restored, whatever the file holds.

#include "models/plan.hpp"

namespace switchyard::models {

/// A tensor cut into pieces of rows. Where rows are too long for a piece, they are cut too: a unit
/// of a format never spans two pieces.
struct Pieces {
  std::int64_t rows = 0, cols = 0;  ///< of the matrix that is cut; rows * cols = values
  std::int64_t per_piece = 0;       ///< rows
};

/// For reading `tensor` and, unless null, storing it as `quant`; `value_bytes`: of one value. One
/// piece where a format needs all of it.
Pieces cut(const SourceTensor &tensor, const QuantSpec *quant, std::size_t value_bytes);
/// The same for rows of `cols` values that may be cut at any multiple of `unit`.
Pieces cut_rows(std::int64_t rows, std::int64_t cols, std::int64_t unit, std::int64_t most_values);

/// Reads pieces of one tensor as `dtype`. Memory is reused between calls and tensors.
class ValueReader {
 public:
  ValueReader(Engine &engine, const Source &source) : engine_(engine), source_(source) {}

  /// Values [first, first + count) * cols as an array [count, cols] that stays valid until the
  /// next call. `info` (optional): who restored a quantised source.
  Result<TensorView> read(const SourceTensor &tensor, const Pieces &pieces, std::int64_t first,
                          std::int64_t count, DType dtype, RunInfo *info = nullptr);

 private:
  Engine &engine_;
  const Source &source_;
  Scratch raw_, values_, parts_[3];
  Tensor cast_;
};

}  // namespace switchyard::models
