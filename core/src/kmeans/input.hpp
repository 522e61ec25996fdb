// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A fit's checked input: f32 rows, weights, and what is derived from them once.

#include <switchyard/engine.hpp>
#include <vector>

#include "dispatcher/runner.hpp"

namespace switchyard::kmeans {

struct Input {
  Tensor owned_x,
      owned_weights;   ///< copies, where the caller's arrays could not be used as they are
  TensorView x;        ///< f32 [n, d], element stride 1
  TensorView weights;  ///< f32 [n], contiguous, or absent
  Tensor shifts;       ///< i32 [d]
  std::int32_t weight_shift = 0;
  std::vector<double> maxima;  ///< [d]: largest |x|, or |w x|, of each column
  float largest = 0;           ///< |x|, without weights
  double largest_weight = 0;   ///< 0 without weights
  double mean_variance = 0;    ///< of the columns, unweighted; 0 unless asked for

  std::int64_t n() const noexcept { return x.dim(0); }
  std::int64_t d() const noexcept { return x.dim(1); }
  const float *row(std::int64_t i) const noexcept { return x.data<float>() + i * x.stride(0); }
  double weight(std::int64_t i) const noexcept {
    return weights.present() ? static_cast<double>(weights.data<float>()[i]) : 1.0;
  }
};

/// Checks x: rank 2, at least one element, f32, f16 or bf16, finite. Copies it as f32 only if it is
/// of another type or its rows are not runs of adjacent elements; spherical: always, with every row
/// scaled to length 1 (a row of zeros is invalid_argument).
Result<Input> make_input(Runner &runner, const TensorView &x, const TensorView &weights,
                         bool want_variance, bool spherical = false);

/// Scales rows [n, d] to length 1; a row of zeros takes the one of `instead`, or stays where that
/// is null. Returns the first row of zeros, or -1.
std::int64_t unit_rows(float *rows, const float *instead, std::int64_t n, std::int64_t d) noexcept;

/// Takes the maxima of |x| by column into `maxima` ([d] or empty); a value that is not finite is an
/// error that names row first_row + i.
Status check_finite(Runner &runner, const TensorView &x, std::string_view name,
                    std::vector<double> *maxima, std::int64_t first_row = 0);

/// Adds the rows' x, or (x - centre)^2, to `sums` by column, in the inertia's order: eight lanes, a
/// fixed tree, blocks ascending. Rows may come in several calls of whole blocks.
void add_column_sums(Runner &runner, const Input &in, const std::vector<double> *centre,
                     std::vector<double> &sums);

/// f32 [k, d] contiguous; the view itself or a copy kept in `owned`. `name` is for errors.
Result<TensorView> check_centroids(const TensorView &centroids, std::int64_t d, Tensor &owned,
                                   std::string_view name);

/// Calls fn(begin, end) on pieces of [0, n) on the runner's threads; at most `pieces` of them, each
/// a multiple of `unit` long but for the last.
void for_ranges(Runner &runner, std::int64_t n, std::int64_t unit, std::int64_t pieces,
                const std::function<void(std::int64_t piece, std::int64_t, std::int64_t)> &fn);

}  // namespace switchyard::kmeans
