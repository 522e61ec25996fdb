// SPDX-License-Identifier: Apache-2.0
// Parts of quantize and dequantize calls: a few units of one row.
#include <algorithm>
#include <numeric>

#include "op/spot.hpp"
#include "ops/quantize_problems.hpp"

namespace switchyard {
namespace {

constexpr std::int64_t kValues = 4096;  // about as many are recomputed at once

/// `count` values of one row of `values`, from column `first` on.
struct Part {
  std::int64_t rows = 0, cols = 0;
  std::int64_t row = 0, first = 0, count = 0;
};

Part choose(const sy_tensor &values, std::int64_t unit, std::uint64_t pick) {
  Part p;
  p.rows = 1;
  for (int i = 0; i + 1 < values.rank; ++i) p.rows *= values.shape[i];
  p.cols = values.shape[values.rank - 1];
  p.row = choose_start(pick, p.rows, 1);
  const std::int64_t units = p.cols / unit;
  const std::int64_t take = std::clamp<std::int64_t>(kValues / unit, 1, units);
  p.first = choose_start(mix_bits(pick), units, take) * unit;
  p.count = take * unit;
  return p;
}

TensorView values_of(const sy_tensor &t, const Part &p) {
  std::int64_t offset = p.first, rest = p.row;
  for (int i = t.rank - 2; i >= 0; --i) {
    offset += rest % t.shape[i] * t.strides[i];
    rest /= t.shape[i];
  }
  auto *data =
      TensorView(t).data<std::byte>() + offset * static_cast<std::int64_t>(size_of(t.dtype));
  return {static_cast<void *>(data), t.dtype, std::span(&p.count, 1)};
}

/// The part of a contiguous array whose elements belong to equal shares of the values.
TensorView share_of(const sy_tensor &t, const Part &p, const QuantArray &like) {
  const std::int64_t total = TensorView(t).elements();
  // rows * cols values share `total` elements; what belongs to one unit is whole.
  const std::int64_t all = p.rows * p.cols, common = std::gcd(total, all);
  const std::int64_t offset = (p.row * p.cols + p.first) / (all / common) * (total / common);
  auto *data =
      TensorView(t).data<std::byte>() + offset * static_cast<std::int64_t>(size_of(t.dtype));
  return {static_cast<void *>(data), t.dtype, like.shape()};
}

}  // namespace

Result<std::string> spot_check_quantize(const OpSpec &op, const sy_call &done, std::uint64_t pick,
                                        const ReferenceRunner &reference) {
  const auto params = quantize_params(done);
  if (!params) return tl::unexpected(params.error());
  const QuantFormat *format = find_quant_format((*params)->format);
  const sy_tensor &x = *done.inputs[SY_QUANTIZE_IN_X];
  const std::int64_t n = TensorView(x).elements();
  // What shares a scale is recomputed together; stochastic rounding depends on the place.
  const bool nearest = (*params)->rounding == SY_ROUNDING_NEAREST;
  const bool own_groups = format != nullptr && format->granularities == 1u << SY_GRANULARITY_TENSOR;
  const bool by_unit = format != nullptr && nearest && format->family != QuantFamily::whole &&
                       (own_groups || (*params)->granularity == SY_GRANULARITY_GROUP);
  const bool by_row = format != nullptr && nearest && (*params)->granularity == SY_GRANULARITY_ROW;
  if (n <= kValues || (!by_unit && !by_row)) return check_whole(op, done, reference);
  const std::int64_t unit = by_unit ? quant_unit(*format, **params) : x.shape[x.rank - 1];
  const Part part = choose(x, unit, pick);
  const auto layout = quant_layout(**params, std::span(&part.count, 1), x.dtype);
  if (!layout) return tl::unexpected(layout.error());
  Spot spot(done);
  spot.input(SY_QUANTIZE_IN_X, values_of(x, part));
  const std::optional<QuantArray> arrays[] = {layout->codes, layout->scales, layout->biases};
  for (std::size_t i = 0; i < std::size(arrays); ++i)
    if (arrays[i])
      if (auto ok = spot.output(i, share_of(*done.outputs[i], part, *arrays[i])); !ok)
        return tl::unexpected(ok.error());
  return spot.check(op, reference);
}

Result<std::string> spot_check_dequantize(const OpSpec &op, const sy_call &done, std::uint64_t pick,
                                          const ReferenceRunner &reference) {
  const auto params = quantize_params(done);
  if (!params) return tl::unexpected(params.error());
  const QuantFormat *format = find_quant_format((*params)->format);
  const sy_tensor &y = *done.outputs[SY_DEQUANTIZE_OUT_Y];
  if (format == nullptr || TensorView(y).elements() <= kValues ||
      format->family == QuantFamily::whole || (*params)->granularity == SY_GRANULARITY_CHANNEL)
    return check_whole(op, done, reference);
  const std::int64_t unit = std::max<std::int64_t>(1, quant_unit(*format, **params));
  const Part part = choose(y, unit, pick);
  const sy_tensor *scales = done.inputs[SY_DEQUANTIZE_IN_SCALES];
  const bool affine = format->family == QuantFamily::affine && scales != nullptr;
  const auto layout =
      quant_layout(**params, std::span(&part.count, 1), affine ? scales->dtype : y.dtype);
  if (!layout) return tl::unexpected(layout.error());
  Spot spot(done);
  const std::optional<QuantArray> arrays[] = {layout->codes, layout->scales, layout->biases};
  for (std::size_t i = 0; i < std::size(arrays); ++i)
    if (arrays[i]) spot.input(i, share_of(*done.inputs[i], part, *arrays[i]));
  if (auto ok = spot.output(SY_DEQUANTIZE_OUT_Y, values_of(y, part)); !ok)
    return tl::unexpected(ok.error());
  return spot.check(op, reference);
}

}  // namespace switchyard
