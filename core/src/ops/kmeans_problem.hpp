// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the OpSpecs of kmeans.step and kmeans.assign share.

#include "op/op_spec.hpp"

namespace switchyard::kmeans {

enum class Primitive { step, assign };

Status validate(Primitive op, const sy_call &call);
void key(Primitive op, const sy_call &call, KeyBuilder &builder) noexcept;
Shape describe(Primitive op, const sy_call &call);

/// Items: n, d, k, dtype (f32), weighted, distances, pad (extra elements between rows), misalign (0
/// to 15 elements before the first), data; step also previous and int8; assign also labels and
/// inertia (which outputs are wanted). `data` is one of
///   mixture          k Gaussian-like clusters, centroids among the rows (the default)
///   uniform          [0, 1)
///   duplicates       a handful of distinct rows
///   lattice          small integers, centroids on half-integers: many exact ties
///   constant_columns every third column zero, every other third a constant
///   subnormal        magnitudes around 2^-140
///   offset           mixture + 10000
///   nested           centroids whose norms grow by powers of two
///   huge             up to 2^100: distances overflow to infinity
Result<Problem> make_problem(Primitive op, const Shape &shape, std::uint64_t seed);
std::vector<Shape> conformance_shapes(Primitive op);
std::vector<Shape> gate_shapes(Primitive op, const Shape &like);
std::span<const std::string_view> data_kinds() noexcept;

// Parts that kmeans.seed shares.
Status check_x(std::string_view op, const sy_tensor *x);
/// Type, shape and contiguity of a tensor besides x.
Status check_tensor(std::string_view op, std::string_view name, const sy_tensor *t, DType dtype,
                    std::span<const std::int64_t> shape, bool required);
Shape describe_rows(const sy_tensor &x, std::int64_t k, bool weighted);
/// How one output differs; absent ones do not.
std::optional<std::string> differ(std::string_view name, const sy_tensor *got,
                                  const sy_tensor *want);

/// Bit by bit.
std::optional<std::string> compare(Primitive op, const sy_call &got, const sy_call &want);
/// Some rows, or a block of the inertia; of kmeans.step also what follows from the labels.
Result<std::string> spot_check(Primitive primitive, const OpSpec &op, const sy_call &done,
                               std::uint64_t pick, const ReferenceRunner &reference);
Work work(Primitive op, const sy_call &call) noexcept;

}  // namespace switchyard::kmeans
