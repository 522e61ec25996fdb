// SPDX-License-Identifier: Apache-2.0
#include "models/reader.hpp"

#include <algorithm>
#include <array>

#include "io/cast.hpp"

namespace switchyard::models {
namespace {

/// Small enough to stay in a large cache between reading, quantising and measuring.
constexpr std::int64_t kPieceBytes = std::int64_t{8} << 20;

/// Values that must stay together along a row.
std::int64_t unit_of(const QuantSpec &spec) {
  sy_quantize_params params{};
  params.granularity = spec.choice.granularity == "row"     ? SY_GRANULARITY_ROW
                       : spec.choice.granularity == "group" ? SY_GRANULARITY_GROUP
                                                            : SY_GRANULARITY_TENSOR;
  params.group_size = static_cast<std::uint32_t>(spec.choice.group_size);
  return quant_unit(*spec.layout.format, params);
}

bool rows_share_scale(const QuantSpec &spec) {
  return spec.choice.granularity == "row" || spec.choice.granularity == "channel";
}

}  // namespace

Pieces cut_rows(std::int64_t rows, std::int64_t cols, std::int64_t unit, std::int64_t most_values) {
  Pieces p{rows, cols, rows};
  if (rows == 0 || cols == 0) return p;
  if (cols > most_values) {
    // Into the fewest equal parts that fit and are whole units.
    const std::int64_t units = cols / unit;
    for (std::int64_t parts = (cols + most_values - 1) / most_values; parts <= units; ++parts)
      if (units % parts == 0) {
        p.rows *= parts;
        p.cols /= parts;
        break;
      }
  }
  p.per_piece = std::clamp<std::int64_t>(most_values / p.cols, 1, p.rows);
  return p;
}

Pieces cut(const SourceTensor &tensor, const QuantSpec *quant, std::size_t value_bytes) {
  const Matrix m = matrix_of(tensor.info.shape);
  const bool whole =
      (quant != nullptr && !quant->by_rows) || (tensor.quant.has_value() && !tensor.quant->by_rows);
  if (whole) return {m.rows, m.cols, m.rows};
  // Rows that share a scale stay whole; others are cut between units, of both formats where the
  // source is quantised too. Units are powers of two, so the larger one is a multiple of the other.
  std::int64_t unit = 1;
  for (const QuantSpec *spec : {quant, tensor.quant ? &*tensor.quant : nullptr})
    if (spec != nullptr) unit = std::max(unit, rows_share_scale(*spec) ? m.cols : unit_of(*spec));
  return cut_rows(m.rows, m.cols, unit, kPieceBytes / static_cast<std::int64_t>(value_bytes));
}

Result<TensorView> ValueReader::read(const SourceTensor &tensor, const Pieces &pieces,
                                     std::int64_t first, std::int64_t count, DType dtype,
                                     RunInfo *info) {
  const std::array shape = {count, pieces.cols};
  if (tensor.quant) {
    auto q = source_.read_quantized(tensor, first, count, pieces.cols, parts_);
    if (!q) return tl::unexpected(q.error());
    auto out = values_.array(dtype, q->shape);
    if (!out) return out;
    auto y = engine_.dequantize(*q, *out, info);
    if (!y) return tl::unexpected(y.error());
    return TensorView(out->data(), dtype, shape);
  }
  auto raw = raw_.array(*tensor.dtype, shape);
  if (!raw) return raw;
  const std::uint64_t bytes = static_cast<std::uint64_t>(raw->elements()) * size_of(*tensor.dtype);
  const std::uint64_t row_bytes = count > 0 ? bytes / static_cast<std::uint64_t>(count) : 0;
  if (auto ok = source_.read_bytes(tensor, static_cast<std::uint64_t>(first) * row_bytes,
                                   {raw->data<std::byte>(), bytes});
      !ok)
    return tl::unexpected(ok.error());
  if (same(*tensor.dtype, dtype)) return raw;
  auto converted = cast(*raw, dtype);
  if (!converted) return tl::unexpected(converted.error());
  cast_ = std::move(*converted);
  return cast_.view();
}

}  // namespace switchyard::models
