// SPDX-License-Identifier: Apache-2.0
#include <switchyard/quantize.hpp>

#include <fmt/format.h>

#include <cstring>

#include "facade/quantize_calls.hpp"
#include "quantize/quantize.hpp"

namespace switchyard {
namespace {

/// Bytes of codes and scales gathered for one call.
constexpr std::int64_t kGathered = 1 << 20;

Status check_array(std::string_view name, const Tensor &given, const QuantArray &want) {
  if (given.present() && std::ranges::equal(given.shape(), want.shape()) &&
      same(given.dtype(), want.dtype) && given.view().contiguous())
    return {};
  return fail(ErrorCode::shape, fmt::format("{} must be contiguous {} of shape {}, but {}", name,
                                            to_string(want.dtype), shape_text(want.shape()),
                                            given.present() ? fmt::format("are {} of shape {}",
                                                                          to_string(given.dtype()),
                                                                          shape_text(given.shape()))
                                                            : "are missing"));
}

/// first and count within 0..all, in multiples of `unit`; a count of -1 means the rest.
Status check_range(std::string_view what, std::int64_t first, std::int64_t *count, std::int64_t all,
                   std::int64_t unit) {
  if (*count == -1 && first >= 0 && first <= all) *count = all - first;
  if (first < 0 || *count < 0 || first > all || *count > all - first)
    return fail(ErrorCode::shape, fmt::format("{} {} and the {} from there on are not within the "
                                              "tensor's {}",
                                              what, first, *count, all));
  for (const std::int64_t bound : {first, first + *count})
    if (bound % unit != 0)
      return fail(ErrorCode::shape,
                  fmt::format("{} {} lies within a block of {} values; the nearest bounds are {} "
                              "and {}",
                              what, bound, unit, bound / unit * unit, bound / unit * unit + unit));
  return {};
}

/// One array of a quantised tensor whose rows lie one after the other.
struct RowArray {
  const std::byte *data = nullptr;  ///< of the first row's part; null: the format has none
  std::int64_t row_bytes = 0;       ///< from one row to the next
  std::int64_t part_bytes = 0;      ///< of the columns asked for
};

/// Reads parts of one quantised tensor.
class PartReader {
 public:
  static Result<PartReader> make(const Quantized &q, const QuantizedPart &part) {
    PartReader r;
    auto params = quantize_params_of(format_options(q));
    if (!params) return tl::unexpected(std::move(params.error()));
    r.params_ = *params;
    auto layout = quant_layout(*params, q.shape, q.dtype);
    if (!layout) return tl::unexpected(std::move(layout.error()));
    if (auto ok = check_array("codes", q.codes, layout->codes); !ok)
      return tl::unexpected(std::move(ok.error()));
    if (layout->scales)
      if (auto ok = check_array("scales", q.scales, *layout->scales); !ok)
        return tl::unexpected(std::move(ok.error()));
    if (layout->biases)
      if (auto ok = check_array("biases", q.biases, *layout->biases); !ok)
        return tl::unexpected(std::move(ok.error()));
    if (auto ok = r.choose(part, *layout); !ok) return tl::unexpected(std::move(ok.error()));
    r.place(q, *layout, part);
    r.dtype_ = q.dtype;
    return r;
  }

  std::int64_t rows() const noexcept { return count_; }
  std::int64_t columns() const noexcept { return columns_; }

  /// Into y [rows, columns].
  Status read(Engine &engine, const TensorView &y, RunInfo *info) {
    if (count_ == 0 || columns_ == 0) return {};
    Pieces pieces(engine);
    std::int64_t step = count_;
    const bool copies = list_ || !whole_rows_ || tail_ != nullptr;
    if (copies) {
      const std::int64_t each = codes_.part_bytes + scales_.part_bytes + biases_.part_bytes;
      step = std::clamp<std::int64_t>(kGathered / std::max<std::int64_t>(each, 1), 1, count_);
    }
    if (step == count_) pieces.whole();
    for (std::int64_t at = 0; at < count_; at += step) {
      sy_tensor target = y.raw();
      target.shape[0] = std::min(step, count_ - at);
      target.byte_offset +=
          static_cast<std::uint64_t>(at * target.strides[0] * bytes_of(y.dtype()));
      if (auto ok = piece(pieces, at, target.shape[0], copies, TensorView(target), info); !ok)
        return ok;
      if (auto ok = pieces.done(at + step, count_); !ok) return ok;
    }
    return {};
  }

 private:
  Status choose(const QuantizedPart &part, const QuantLayout &layout) {
    columns_ = part.columns;
    unit_ = quant_unit(*layout.format, params_);
    if (auto ok = check_range("column", part.first_column, &columns_, layout.cols, unit_); !ok)
      return ok;
    whole_rows_ = columns_ == layout.cols;
    if (!part.row_list) {
      first_ = part.first_row;
      count_ = part.rows;
      return check_range("row", first_, &count_, layout.rows, 1);
    }
    list_ = part.row_list;
    count_ = static_cast<std::int64_t>(list_->size());
    for (const std::int64_t row : *list_)
      if (row < 0 || row >= layout.rows)
        return fail(ErrorCode::shape,
                    fmt::format("row {} is not within the tensor's {}", row, layout.rows));
    return {};
  }

  /// Where the part's bytes lie. A unit takes a whole number of them.
  void place(const Quantized &q, const QuantLayout &layout, const QuantizedPart &part) {
    const std::int64_t units = layout.cols / unit_;
    const auto array = [&](const Tensor &t, std::int64_t elements) {
      const std::int64_t per_row = layout.rows == 0 ? 0 : elements / layout.rows;
      const std::int64_t row = per_row * bytes_of(t.dtype());
      const std::int64_t unit = units == 0 ? 0 : row / units;
      return RowArray{t.data<const std::byte>() + part.first_column / unit_ * unit, row,
                      columns_ / unit_ * unit};
    };
    const QuantFormat &format = *layout.format;
    std::int64_t code_count = q.codes.elements();
    if (format.family == QuantFamily::whole) {
      code_count -= kTailBytes;
      tail_ = q.codes.data<const std::byte>() + code_count;
    }
    codes_ = array(q.codes, code_count);
    if (format.family == QuantFamily::affine || format.family == QuantFamily::micro ||
        params_.granularity == SY_GRANULARITY_GROUP) {
      scales_ = array(q.scales, q.scales.elements());
      if (format.has_biases) biases_ = array(q.biases, q.biases.elements());
    } else if (format.has_scales) {
      row_scales_ = q.scales.data<const float>();
      rows_per_scale_ =
          layout.rows / std::max<std::int64_t>(q.scales.elements(), 1);  // 1 for a row's own
      if (params_.granularity == SY_GRANULARITY_CHANNEL) params_.granularity = SY_GRANULARITY_ROW;
    }
  }

  std::int64_t row(std::int64_t i) const {
    return list_ ? (*list_)[static_cast<std::size_t>(i)] : first_ + i;
  }

  /// n rows of an array from the part's row `at` on: where they are, or gathered behind `buffer`.
  const std::byte *gathered(const RowArray &a, std::int64_t at, std::int64_t n, bool copies,
                            std::vector<std::byte> &buffer, std::size_t tail = 0) const {
    if (!copies) return a.data + row(at) * a.row_bytes;
    const auto size = static_cast<std::size_t>(a.part_bytes);
    buffer.resize(static_cast<std::size_t>(n) * size + tail);
    for (std::int64_t i = 0; i < n; ++i)
      std::memcpy(buffer.data() + static_cast<std::size_t>(i) * size,
                  a.data + row(at + i) * a.row_bytes, size);
    return buffer.data();
  }

  Status piece(Pieces &pieces, std::int64_t at, std::int64_t n, bool copies, const TensorView &y,
               RunInfo *info) {
    const std::int64_t shape[] = {n, columns_};
    const auto layout = quant_layout(params_, shape, dtype_);
    if (!layout) return tl::unexpected(layout.error());
    CallFrame frame(SY_DEQUANTIZE_INPUTS, SY_DEQUANTIZE_OUTPUTS);
    frame.params(params_);
    const std::size_t tail = tail_ != nullptr ? kTailBytes : 0;
    const std::byte *codes = gathered(codes_, at, n, copies, buffers_[0], tail);
    if (tail != 0) std::memcpy(buffers_[0].data() + buffers_[0].size() - tail, tail_, tail);
    frame.input(SY_DEQUANTIZE_IN_CODES, view_of(codes, layout->codes));
    if (scales_.data != nullptr)
      frame.input(SY_DEQUANTIZE_IN_SCALES,
                  view_of(gathered(scales_, at, n, copies, buffers_[1]), *layout->scales));
    if (biases_.data != nullptr)
      frame.input(SY_DEQUANTIZE_IN_BIASES,
                  view_of(gathered(biases_, at, n, copies, buffers_[2]), *layout->biases));
    if (row_scales_ != nullptr) {
      each_.assign(1, *row_scales_);
      if (params_.granularity == SY_GRANULARITY_ROW) {
        each_.resize(static_cast<std::size_t>(n));
        for (std::int64_t i = 0; i < n; ++i)
          each_[static_cast<std::size_t>(i)] = row_scales_[row(at + i) / rows_per_scale_];
      }
      frame.input(SY_DEQUANTIZE_IN_SCALES, view_of(each_.data(), *layout->scales));
    }
    frame.output(SY_DEQUANTIZE_OUT_Y, y);
    return pieces.run(SY_OP_DEQUANTIZE, frame, info);
  }

  static constexpr std::int64_t kTailBytes = 32;  ///< of i2_s: its scale

  sy_quantize_params params_{};
  DType dtype_{};
  std::int64_t unit_ = 1, columns_ = 0, first_ = 0, count_ = 0;
  bool whole_rows_ = false;
  std::optional<std::span<const std::int64_t>> list_;
  RowArray codes_, scales_, biases_;
  const std::byte *tail_ = nullptr;
  const float *row_scales_ = nullptr;  ///< one for every rows_per_scale_ rows
  std::int64_t rows_per_scale_ = 1;
  std::vector<std::byte> buffers_[3];
  std::vector<float> each_;
};

}  // namespace

Result<Tensor> dequantize_part(Engine &engine, const Quantized &q, const QuantizedPart &part,
                               TensorView out, RunInfo *info) {
  return guarded([&]() -> Result<Tensor> {
    auto reader = PartReader::make(q, part);
    if (!reader) return tl::unexpected(std::move(reader.error()));
    const std::int64_t shape[] = {reader->rows(), reader->columns()};
    if (out.present() && !std::ranges::equal(out.shape(), shape))
      return fail(ErrorCode::shape, fmt::format("the output array has shape {}, but must have {}",
                                                shape_text(out.shape()), shape_text(shape)));
    auto y =
        out.present() ? Result<Tensor>(Tensor::adopt(out, nullptr)) : Tensor::empty(q.dtype, shape);
    if (!y) return y;
    if (auto ok = reader->read(engine, *y, info); !ok) return tl::unexpected(std::move(ok.error()));
    return y;
  });
}

}  // namespace switchyard
