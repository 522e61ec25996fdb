// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <atomic>
#include <mutex>
#include <switchyard/quantize.hpp>
#include <thread>

#include "base/checked.hpp"
#include "facade/quantize_calls.hpp"
#include "host/thread_pool.hpp"
#include "quantize/quantize.hpp"

namespace switchyard {
namespace {

/// Values of a piece of a round trip: they and what becomes of them fit a second-level cache.
constexpr std::int64_t kPiece = 1 << 16;
/// Bytes of values from which pieces pay: below, codes stay in the caches anyway, and large outputs
/// of one call are written past them, which pieces in place have no need of.
constexpr std::int64_t kLarge = std::int64_t{64} << 20, kLargeInPlace = std::int64_t{24} << 20;

/// Memory for the codes and scales of pieces up to a size.
struct PieceArrays {
  std::vector<std::byte> bytes[3];

  TensorView view(std::size_t i, const std::optional<QuantArray> &array) {
    if (!array) return {};
    std::int64_t n = bytes_of(array->dtype);
    for (const std::int64_t d : array->shape()) n *= d;
    if (std::ssize(bytes[i]) < n) bytes[i].resize(static_cast<std::size_t>(n));
    return view_of(bytes[i].data(), *array);
  }
};

/// Rows first <= i < end of a matrix.
TensorView rows_of(const TensorView &t, std::int64_t first, std::int64_t end) {
  sy_tensor raw = t.raw();
  raw.shape[0] = std::min(end, t.dim(0)) - first;
  raw.byte_offset += static_cast<std::uint64_t>(first * t.stride(0) * bytes_of(t.dtype()));
  return TensorView(raw);
}

/// Quantises and dequantises: at once on the engine's threads, or piece by piece, each on one
/// thread, which finds in its cache what it has just written.
class RoundTrip {
 public:
  RoundTrip(Engine &engine, const sy_quantize_params &params, RunInfo *info)
      : engine_(engine), params_(params), info_(info) {}

  Status whole(const TensorView &x, const TensorView &y) {
    PieceArrays arrays;
    Pieces calls(engine_);
    calls.whole();
    return piece(calls, arrays, x, y, 0, info_);
  }

  /// Matrices; a piece has whole rows.
  Status rows(const TensorView &x, const TensorView &y) {
    const std::int64_t step = std::max<std::int64_t>(kPiece / x.dim(1), 1);
    const std::int64_t pieces = ceil_div(x.dim(0), step);
    const bool in_place = x.data() == y.data();
    if (x.elements() * bytes_of(x.dtype()) < (in_place ? kLargeInPlace : kLarge))
      return whole(x, y);
    std::atomic<std::int64_t> next{0}, failed{pieces};
    std::mutex mutex;
    std::optional<Error> first_error;
    const auto caller = std::this_thread::get_id();
    const auto work = [&](std::uint64_t) {
      PieceArrays arrays;
      Pieces calls(engine_, 1);
      for (std::int64_t i = next++; i < pieces && i < failed; i = next++) {
        const std::int64_t at = i * step;
        auto ok = guarded([&]() -> Status {
          return piece(calls, arrays, rows_of(x, at, at + step), rows_of(y, at, at + step),
                       at * x.dim(1), i == 0 ? info_ : nullptr);
        });
        // A scope belongs to the thread that made it.
        if (ok && std::this_thread::get_id() == caller) ok = calls.done(i + 1, pieces);
        if (ok) continue;
        const std::lock_guard lock(mutex);
        // Earlier pieces go on: theirs may be the error of the lowest index.
        if (i < failed || ok.error().code == ErrorCode::cancelled) {
          failed = ok.error().code == ErrorCode::cancelled ? 0 : i;
          first_error = std::move(ok.error());
        }
      }
    };
    const auto call = [](void *arg, std::uint64_t i) { (*static_cast<decltype(&work)>(arg))(i); };
    const auto threads = static_cast<std::uint32_t>(engine_.threads());
    ThreadPool::process().run(threads, call, const_cast<void *>(static_cast<const void *>(&work)),
                              threads);
    if (first_error) return tl::unexpected(std::move(*first_error));
    return {};
  }

  sy_quantize_params &params() { return params_; }

 private:
  /// `first`: index of the piece's first value.
  Status piece(Pieces &calls, PieceArrays &arrays, const TensorView &x, const TensorView &y,
               std::int64_t first, RunInfo *info) const {
    sy_quantize_params params = params_;
    const auto layout = quant_layout(params, x.shape(), x.dtype());
    if (!layout) return tl::unexpected(layout.error());
    const TensorView codes = arrays.view(0, layout->codes), scales = arrays.view(1, layout->scales),
                     biases = arrays.view(2, layout->biases);
    CallFrame there(SY_QUANTIZE_INPUTS, SY_QUANTIZE_OUTPUTS);
    there.params(params);
    there.input(SY_QUANTIZE_IN_X, x);
    there.output(SY_QUANTIZE_OUT_CODES, codes);
    there.output(SY_QUANTIZE_OUT_SCALES, scales);
    there.output(SY_QUANTIZE_OUT_BIASES, biases);
    if (auto ok = calls.run(SY_OP_QUANTIZE, there, nullptr, first); !ok) return ok;
    sy_quantize_params back_params = params;  // of arrays alone
    back_params.scale_rule = SY_SCALE_DEFAULT;
    back_params.nonfinite = SY_NONFINITE_ERROR;
    back_params.rounding = SY_ROUNDING_NEAREST;
    back_params.seed = 0;
    CallFrame back(SY_DEQUANTIZE_INPUTS, SY_DEQUANTIZE_OUTPUTS);
    back.params(back_params);
    back.input(SY_DEQUANTIZE_IN_CODES, codes);
    back.input(SY_DEQUANTIZE_IN_SCALES, scales);
    back.input(SY_DEQUANTIZE_IN_BIASES, biases);
    back.output(SY_DEQUANTIZE_OUT_Y, y);
    return calls.run(SY_OP_DEQUANTIZE, back, info);
  }

  Engine &engine_;
  sy_quantize_params params_;
  RunInfo *info_;
};

/// A contiguous tensor as a matrix.
TensorView as_rows(const TensorView &t, std::int64_t length) {
  sy_tensor raw = t.raw();
  raw.rank = 2;
  raw.shape[0] = t.elements() / length;
  raw.shape[1] = raw.strides[0] = length;
  raw.strides[1] = 1;
  return TensorView(raw);
}

Status round_trip_into(Engine &engine, const TensorView &x, const sy_quantize_params &params,
                       const QuantLayout &layout, const TensorView &y, RunInfo *info) {
  RoundTrip trip(engine, params, info);
  const QuantFormat &format = *layout.format;
  const bool tensor_scale =
      params.granularity == SY_GRANULARITY_TENSOR && (format.granularities >> 1) != 0;
  if (x.elements() == 0 || tensor_scale || format.family == QuantFamily::whole ||
      params.rounding == SY_ROUNDING_STOCHASTIC)
    return trip.whole(x, y);
  const bool dense = x.contiguous() && y.contiguous();
  if (params.granularity == SY_GRANULARITY_CHANNEL) {
    if (!dense) return trip.whole(x, y);
    const std::int64_t length = x.elements() / x.dim(0);
    trip.params().granularity = SY_GRANULARITY_ROW;
    return trip.rows(as_rows(x, length), as_rows(y, length));
  }
  if (dense && params.granularity != SY_GRANULARITY_ROW) {
    const std::int64_t unit = quant_unit(format, params);  // whatever the rows
    return trip.rows(as_rows(x, unit), as_rows(y, unit));
  }
  const auto from = as_matrix(x), to = as_matrix(y);
  if (!from || !to) return trip.whole(x, y);
  return trip.rows(*from, *to);
}

}  // namespace

Result<Tensor> round_trip(Engine &engine, TensorView x, const QuantizeOptions &options,
                          TensorView out, RunInfo *info) {
  return guarded([&]() -> Result<Tensor> {
    if (options.codes_out.present() || options.scales_out.present() || options.biases_out.present())
      return fail(ErrorCode::invalid_argument, "a round trip keeps no codes: give `out` instead");
    auto params = quantize_params_of(options);
    if (!params) return tl::unexpected(std::move(params.error()));
    auto layout = quant_layout(*params, x.shape(), x.dtype());
    if (!layout) return tl::unexpected(std::move(layout.error()));
    if (out.present() && !std::ranges::equal(out.shape(), x.shape()))
      return fail(ErrorCode::shape, fmt::format("the output array has shape {}, but must have {}",
                                                shape_text(out.shape()), shape_text(x.shape())));
    auto y = out.present() ? Result<Tensor>(Tensor::adopt(out, nullptr))
                           : Tensor::empty(x.dtype(), x.shape());
    if (!y) return y;
    if (auto ok = round_trip_into(engine, x, *params, *layout, *y, info); !ok)
      return tl::unexpected(std::move(ok.error()));
    return y;
  });
}

}  // namespace switchyard
