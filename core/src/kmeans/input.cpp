// SPDX-License-Identifier: Apache-2.0
#include "kmeans/input.hpp"

#include <fmt/format.h>
#include <switchyard/ops/kmeans_exact.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/checked.hpp"
#include "io/cast.hpp"

namespace switchyard::kmeans {
namespace {

constexpr std::uint32_t kInfinity = 0x7F800000;

tl::unexpected<Error> nonfinite(std::string_view name, const TensorView &t, std::int64_t index,
                                std::int64_t first_row = 0) {
  const std::int64_t row = index / t.dim(1), column = index % t.dim(1);
  const float v = t.data<float>()[row * t.stride(0) + column];
  Error error{ErrorCode::nonfinite,
              fmt::format("{}[{}, {}] is {}; k-means needs finite values", name, first_row + row,
                          column, v),
              {},
              0,
              0,
              index + first_row * t.dim(1),
              {}};
  return tl::unexpected(std::move(error));
}

/// The first element that is not finite, or -1; `largest` (one per column) takes the maxima of the
/// magnitudes' bits.
std::int64_t scan_rows(const TensorView &x, std::int64_t begin, std::int64_t end,
                       std::vector<std::int32_t> &largest) {
  const std::int64_t d = x.dim(1);
  const float *rows = x.data<float>();
  for (std::int64_t i = begin; i < end; ++i) {
    const float *row = rows + i * x.stride(0);
    for (std::int64_t m = 0; m < d; ++m) {
      // As integers, magnitudes order like their values, with Inf and NaN above all.
      const auto bits = std::bit_cast<std::int32_t>(row[m]) & 0x7FFFFFFF;
      auto &l = largest[static_cast<std::size_t>(m)];
      l = bits > l ? bits : l;
    }
  }
  if (std::ranges::max(largest) < static_cast<std::int32_t>(kInfinity)) return -1;
  for (std::int64_t i = begin; i < end; ++i)
    for (std::int64_t m = 0; m < d; ++m)
      if (!std::isfinite(rows[i * x.stride(0) + m])) return i * d + m;
  return -1;
}

Status check_weights(Input &in, const TensorView &weights) {
  if (weights.rank() != 1 || weights.dim(0) != in.n())
    return fail(ErrorCode::shape, fmt::format("the sample weights have shape {}; they must be [{}]",
                                              shape_text(weights.shape()), in.n()));
  if (weights.dtype().code != SY_TYPE_FLOAT && weights.dtype().code != SY_TYPE_BFLOAT)
    return fail(ErrorCode::dtype, fmt::format("the sample weights are {}; they must be f32",
                                              to_string(weights.dtype())));
  in.weights = weights;
  if (!same(weights.dtype(), dtypes::f32) || !weights.contiguous()) {
    auto copy = cast(weights, dtypes::f32);
    if (!copy) return tl::unexpected(copy.error());
    in.owned_weights = std::move(*copy);
    in.weights = in.owned_weights;
  }
  const float *w = in.weights.data<float>();
  float largest = 0;
  for (std::int64_t i = 0; i < in.n(); ++i) {
    if (!std::isfinite(w[i]) || w[i] < 0) {
      Error error{
          std::isfinite(w[i]) ? ErrorCode::invalid_argument : ErrorCode::nonfinite,
          fmt::format("sample weight {} is {}; weights are finite and not negative", i, w[i]),
          {},
          0,
          0,
          i,
          {}};
      return tl::unexpected(std::move(error));
    }
    largest = std::max(largest, w[i]);
  }
  if (largest == 0) return fail(ErrorCode::invalid_argument, "all sample weights are zero");
  in.largest_weight = static_cast<double>(largest);
  in.weight_shift = sy_kmeans_shift(in.largest_weight, in.n());
  return {};
}

/// Maxima of |w x| by column.
std::vector<double> weighted_maxima(Runner &runner, const Input &in) {
  const std::int64_t pieces = 4 * static_cast<std::int64_t>(runner.threads());
  std::vector<std::vector<double>> parts(static_cast<std::size_t>(pieces));
  for_ranges(runner, in.n(), 1, pieces, [&](std::int64_t p, std::int64_t begin, std::int64_t end) {
    auto &mine = parts[static_cast<std::size_t>(p)];
    mine.assign(static_cast<std::size_t>(in.d()), 0);
    for (std::int64_t i = begin; i < end; ++i)
      for (std::size_t m = 0; m < mine.size(); ++m)
        mine[m] = std::max(mine[m], std::abs(in.weight(i) * static_cast<double>(in.row(i)[m])));
  });
  std::vector<double> maxima(static_cast<std::size_t>(in.d()), 0);
  for (const auto &part : parts)
    for (std::size_t m = 0; m < part.size(); ++m) maxima[m] = std::max(maxima[m], part[m]);
  return maxima;
}

double mean_variance(Runner &runner, const Input &in) {
  const auto n = static_cast<double>(in.n());
  std::vector<double> mean(static_cast<std::size_t>(in.d())), squares = mean;
  add_column_sums(runner, in, nullptr, mean);
  for (double &v : mean) v /= n;
  add_column_sums(runner, in, &mean, squares);
  double total = 0;
  for (double v : squares) total += v / n;
  return total / static_cast<double>(in.d());
}

Status make_unit(Runner &runner, Input &in) {
  if (!in.owned_x.present()) {
    auto copy = Tensor::empty(dtypes::f32, in.x.shape());
    if (!copy) return tl::unexpected(copy.error());
    for (std::int64_t i = 0; i < in.n(); ++i)
      std::copy_n(in.row(i), in.d(), copy->data<float>() + i * in.d());
    in.owned_x = std::move(*copy);
    in.x = in.owned_x;
  }
  const std::int64_t pieces = 4 * static_cast<std::int64_t>(runner.threads());
  std::vector<std::int64_t> zeros(static_cast<std::size_t>(pieces), -1);
  for_ranges(runner, in.n(), 1, pieces, [&](std::int64_t p, std::int64_t begin, std::int64_t end) {
    const std::int64_t zero =
        unit_rows(in.owned_x.data<float>() + begin * in.d(), nullptr, end - begin, in.d());
    if (zero >= 0) zeros[static_cast<std::size_t>(p)] = begin + zero;
  });
  for (std::int64_t row : zeros)
    if (row >= 0)
      return fail(ErrorCode::invalid_argument,
                  fmt::format("row {} of x is all zeros; it has no direction to cluster", row));
  return {};
}

}  // namespace

Status check_finite(Runner &runner, const TensorView &x, std::string_view name,
                    std::vector<double> *column_maxima, std::int64_t first_row) {
  const std::int64_t pieces = 4 * static_cast<std::int64_t>(runner.threads());
  const auto columns = static_cast<std::size_t>(x.dim(1));
  std::vector<std::int64_t> first(static_cast<std::size_t>(pieces), -1);
  std::vector<std::vector<std::int32_t>> largest(static_cast<std::size_t>(pieces));
  for_ranges(runner, x.dim(0), 1, pieces,
             [&](std::int64_t p, std::int64_t begin, std::int64_t end) {
               auto &mine = largest[static_cast<std::size_t>(p)];
               mine.assign(columns, 0);
               first[static_cast<std::size_t>(p)] = scan_rows(x, begin, end, mine);
             });
  for (std::int64_t index : first)
    if (index >= 0) return nonfinite(name, x, index, first_row);
  if (column_maxima == nullptr) return {};
  column_maxima->resize(columns, 0);
  for (const auto &piece : largest)
    for (std::size_t m = 0; m < piece.size(); ++m)
      (*column_maxima)[m] =
          std::max((*column_maxima)[m], static_cast<double>(std::bit_cast<float>(piece[m])));
  return {};
}

void add_column_sums(Runner &runner, const Input &in, const std::vector<double> *centre,
                     std::vector<double> &sums) {
  const auto d = static_cast<std::size_t>(in.d());
  const std::int64_t blocks = ceil_div(in.n(), SY_KMEANS_INERTIA_BLOCK);
  std::vector<double> partial(static_cast<std::size_t>(blocks) * d);
  for_ranges(runner, in.n(), SY_KMEANS_INERTIA_BLOCK, blocks,
             [&](std::int64_t, std::int64_t begin, std::int64_t end) {
               for (; begin < end; begin += SY_KMEANS_INERTIA_BLOCK) {
                 std::vector<double> lanes(8 * d, 0.0);
                 const std::int64_t stop = std::min(end, begin + SY_KMEANS_INERTIA_BLOCK);
                 for (std::int64_t i = begin; i < stop; ++i) {
                   double *lane = lanes.data() + static_cast<std::size_t>(i % 8) * d;
                   const float *row = in.row(i);
                   if (centre == nullptr) {
                     for (std::size_t m = 0; m < d; ++m) lane[m] += static_cast<double>(row[m]);
                     continue;
                   }
                   for (std::size_t m = 0; m < d; ++m) {
                     const double t = static_cast<double>(row[m]) - (*centre)[m];
                     lane[m] += t * t;
                   }
                 }
                 for (std::size_t half = 4; half > 0; half /= 2)
                   for (std::size_t c = 0; c < half * d; ++c) lanes[c] += lanes[c + half * d];
                 std::copy_n(lanes.begin(), d,
                             partial.begin() +
                                 begin / SY_KMEANS_INERTIA_BLOCK * static_cast<std::int64_t>(d));
               }
             });
  for (std::size_t b = 0; b < static_cast<std::size_t>(blocks); ++b)
    for (std::size_t m = 0; m < d; ++m) sums[m] += partial[b * d + m];
}

std::int64_t unit_rows(float *rows, const float *instead, std::int64_t n, std::int64_t d) noexcept {
  std::int64_t first = -1;
  for (std::int64_t i = 0; i < n; ++i) {
    float *row = rows + i * d;
    double square = 0;
    for (std::int64_t m = 0; m < d; ++m)
      square += static_cast<double>(row[m]) * static_cast<double>(row[m]);
    if (square > 0) {
      const double length = std::sqrt(square);
      for (std::int64_t m = 0; m < d; ++m)
        row[m] = static_cast<float>(static_cast<double>(row[m]) / length);
      continue;
    }
    if (first < 0) first = i;
    if (instead != nullptr) std::copy_n(instead + i * d, d, row);
  }
  return first;
}

void for_ranges(Runner &runner, std::int64_t n, std::int64_t unit, std::int64_t pieces,
                const std::function<void(std::int64_t, std::int64_t, std::int64_t)> &fn) {
  const std::int64_t units = ceil_div(n, unit);
  const std::int64_t each = ceil_div(units, std::max<std::int64_t>(1, pieces)) * unit;
  runner.parallel_for(static_cast<std::uint64_t>(ceil_div(n, each)), [&](std::uint64_t p) {
    const auto piece = static_cast<std::int64_t>(p);
    fn(piece, piece * each, std::min(n, (piece + 1) * each));
  });
}

Result<Input> make_input(Runner &runner, const TensorView &x, const TensorView &weights,
                         bool want_variance, bool spherical) {
  if (x.rank() != 2)
    return fail(ErrorCode::shape,
                fmt::format("x has shape {}; k-means needs rows of columns, [n, d]",
                            shape_text(x.shape())));
  if (x.dim(0) < 1 || x.dim(1) < 1)
    return fail(ErrorCode::shape, fmt::format("x has shape {}; it must hold at least one value",
                                              shape_text(x.shape())));
  if (!same(x.dtype(), dtypes::f32) && !same(x.dtype(), dtypes::f16) &&
      !same(x.dtype(), dtypes::bf16))
    return fail(ErrorCode::dtype,
                fmt::format("x is {}; k-means takes f32, f16 or bf16", to_string(x.dtype())));
  if (x.raw().device_kind != SY_DEVICE_HOST)
    return fail(ErrorCode::unsupported, "x must be in host memory");
  Input in;
  in.x = x;
  if (!same(x.dtype(), dtypes::f32) || (x.dim(1) > 1 && x.stride(1) != 1)) {
    auto copy = cast(x, dtypes::f32);
    if (!copy) return tl::unexpected(copy.error());
    in.owned_x = std::move(*copy);
    in.x = in.owned_x;
  }
  std::vector<double> &maxima = in.maxima;
  if (auto s = check_finite(runner, in.x, "x", &maxima); !s) return tl::unexpected(s.error());
  if (spherical) {
    if (auto s = make_unit(runner, in); !s) return tl::unexpected(s.error());
    maxima.clear();
    if (auto s = check_finite(runner, in.x, "x", &maxima); !s) return tl::unexpected(s.error());
  }
  in.largest = static_cast<float>(std::ranges::max(maxima));
  if (weights.present()) {
    if (auto s = check_weights(in, weights); !s) return tl::unexpected(s.error());
    maxima = weighted_maxima(runner, in);
  }
  auto shifts = Tensor::empty(dtypes::i32, std::array{in.d()});
  if (!shifts) return tl::unexpected(shifts.error());
  for (std::size_t m = 0; m < maxima.size(); ++m)
    shifts->data<std::int32_t>()[m] = sy_kmeans_shift(maxima[m], in.n());
  in.shifts = std::move(*shifts);
  if (want_variance) in.mean_variance = mean_variance(runner, in);
  return in;
}

Result<TensorView> check_centroids(const TensorView &centroids, std::int64_t d, Tensor &owned,
                                   std::string_view name) {
  if (!centroids.present())
    return fail(ErrorCode::invalid_argument, fmt::format("the {} are missing", name));
  if (centroids.rank() != 2 || centroids.dim(0) < 1 || centroids.dim(1) != d)
    return fail(ErrorCode::shape, fmt::format("the {} have shape {}; they must be [k, {}]", name,
                                              shape_text(centroids.shape()), d));
  if (centroids.dtype().code != SY_TYPE_FLOAT && centroids.dtype().code != SY_TYPE_BFLOAT)
    return fail(ErrorCode::dtype,
                fmt::format("the {} are {}; they must be f32", name, to_string(centroids.dtype())));
  TensorView view = centroids;
  if (!same(centroids.dtype(), dtypes::f32) || !centroids.contiguous()) {
    auto copy = cast(centroids, dtypes::f32);
    if (!copy) return tl::unexpected(copy.error());
    owned = std::move(*copy);
    view = owned;
  }
  const float *c = view.data<float>();
  for (std::int64_t i = 0; i < view.elements(); ++i)
    if (!std::isfinite(c[i])) return nonfinite(name, view, i);
  return view;
}

}  // namespace switchyard::kmeans
