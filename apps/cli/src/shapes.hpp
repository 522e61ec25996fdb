// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Operations and shapes as written on the command line, and calls as shapes.

#include "op/shape.hpp"
#include "program.hpp"

namespace switchyard::cli {

struct OpShape {
  std::string op;
  Shape shape;
};

/// "kmeans" stands for its dispatched primitive, kmeans.step.
std::string canonical_op(const std::string &op);

/// OP and its SHAPE words (joined by commas), checked by the operation itself; --dtype fills in the
/// dtype. Unknown names and bad values are usage errors.
Result<OpShape> parse_op_shape(const std::string &op, const std::vector<std::string> &words,
                               const Common &common);

/// The shape that describes a call, for `explain`.
OpShape describe_quantize(const TensorView &x, const QuantizeOptions &options);
OpShape describe_dequantize(const Quantized &q);
OpShape describe_kmeans(const TensorView &x, const KMeansOptions &options);
OpShape describe_attention(const TensorView &q, const TensorView &k, const TensorView &v,
                           const AttentionOptions &options);

/// The rule that decided for a shape, in words; "" if it cannot be told.
std::string why(Engine &engine, const OpShape &shape);

}  // namespace switchyard::cli
